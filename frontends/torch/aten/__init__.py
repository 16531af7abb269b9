"""The rules for PyTorch's own operators, by family: importing them fills the table."""

from redir.frontends.torch.aten import (
    attention,
    bags,
    convolution,
    creation,
    indexing,
    layout,
    normalization,
    pointwise,
    pooling,
    products,
    recurrent,
    reductions,
    resizing,
)
from redir.frontends.torch.call import RULES, Rule

__all__ = [
    "attention",
    "bags",
    "convolution",
    "creation",
    "indexing",
    "layout",
    "normalization",
    "pointwise",
    "pooling",
    "products",
    "recurrent",
    "reductions",
    "resizing",
    "rule_of",
]


def rule_of(name: str, overload: str) -> Rule | None:
    """The rule for an overload of an operator, if there is one."""
    return RULES.get(f"{name}.{overload}", RULES.get(name))
