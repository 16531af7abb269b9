"""What the promises of passes allow, and what they do not."""

from __future__ import annotations

from redir import ops
from redir.check.guarantees import SAME_OUTPUTS
from redir.ir import Graph, Value
from tests.helpers import const, placeholder

X = placeholder(3, 2)


def squares(shift: float) -> Graph:
    """Squares of numbers below 0, of which most cancels."""
    y: Value = ops.Pow(ops.Sub(X, const(shift)), const(2))
    return Graph({"x": X}, {"y": ops.Sub(y, const(10_000))})


def test_weights_under_a_square_may_be_rounded() -> None:
    assert SAME_OUTPUTS.refute(squares(100), squares(100 * (1 + 1e-7))) is None


def test_weights_under_a_square_may_not_be_others() -> None:
    assert SAME_OUTPUTS.refute(squares(100), squares(100.01)) is not None
