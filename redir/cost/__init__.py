"""What a graph costs, and what it would cost in another form."""

from redir.cost.counts import (
    Cost,
    Layer,
    layers,
    macs,
    multiplications,
    nbytes,
    open_layers,
    parameters,
    products,
    total,
)
from redir.cost.sizes import Sizes, example_shapes

__all__ = [
    "Cost",
    "Layer",
    "Sizes",
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
