"""One layer and its weights."""

from redir.layers.linear import Linear, linear

__all__ = ["Linear", "linear"]
