"""What a graph costs, and what it would cost in another form."""

from redir.cost.counts import (
    Cost,
    Layer,
    example_shapes,
    layers,
    macs,
    multiplications,
    nbytes,
    open_layers,
    parameters,
    products,
    total,
)

__all__ = [
    "Cost",
    "Layer",
    "example_shapes",
    "layers",
    "macs",
    "multiplications",
    "nbytes",
    "open_layers",
    "parameters",
    "products",
    "total",
]
