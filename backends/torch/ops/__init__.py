"""What each operator becomes in PyTorch: one rule for each, by family."""

from redir.backends.torch.emit.site import Emit
from redir.backends.torch.ops import (
    arithmetic,
    attention,
    carried,
    contrib,
    control,
    convolution,
    creation,
    functions,
    indexing,
    layout,
    linear,
    normalization,
    padding,
    pooling,
    quantised,
    recurrent,
    reductions,
    resizing,
)
from redir.backends.torch.ops.unsigned import widened

_COMPUTING = (
    arithmetic,
    attention,
    contrib,
    convolution,
    creation,
    functions,
    indexing,
    layout,
    linear,
    normalization,
    padding,
    pooling,
    recurrent,
    reductions,
    resizing,
)

TABLE: dict[str, Emit] = {
    **{name: widened(emit) for family in _COMPUTING for name, emit in family.TABLE.items()},
    **control.TABLE,
    **quantised.TABLE,
    **creation.RANDOM,
    **functions.CASTS,
    **carried.TABLE,
}
"""The rule of each operator; to teach the backend another one, add it to its family."""
