"""Constants: equal where their bytes are, whatever they lie in."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn

from redir.ir import tensor
from redir.ir.tensor import Array, Tensor

DTYPES = st.sampled_from([np.dtype(d) for d in ("f4", "f8", "i8", "u1", "?")])
ARRAYS = DTYPES.flatmap(lambda d: drawn.arrays(d, drawn.array_shapes(min_dims=0, min_side=0)))


@given(ARRAYS, st.data())
def test_they_are_equal_where_their_digests_are(array: Array, data: st.DataObject) -> None:
    other = array.copy()
    if array.size:
        place = data.draw(st.integers(0, array.size - 1))
        other.reshape(-1)[place] = data.draw(drawn.from_dtype(array.dtype))
    a, b = Tensor(array), Tensor(other)
    assert (a == b) == (a.digest == b.digest)
    assert hash(a) == hash(b) or a != b
    assert a == Tensor(array.copy())


@pytest.mark.parametrize("laid_out", [np.ascontiguousarray, np.asfortranarray])
def test_large_ones_are_compared_part_by_part(
    monkeypatch: pytest.MonkeyPatch, laid_out: Callable[[Array], Array]
) -> None:
    monkeypatch.setattr(tensor, "_PART", 7)
    array = np.arange(1200.0).reshape(30, 40)
    changed = array.copy()
    changed[29, 38] = np.nan
    same, other = Tensor(laid_out(array)), Tensor(changed)
    assert same == Tensor(array)
    assert hash(same) == hash(Tensor(array))
    assert other != Tensor(array)
    assert other == Tensor(changed.copy())


@pytest.mark.parametrize(
    ("array", "count"),
    [
        (np.array([[1, 2], [2, np.nan]], np.float32), 3),
        (np.array(["a", "b", "a"], object), 2),
        (np.array([1, 1, 2], ml_dtypes.bfloat16), 2),
        (np.zeros((0, 3), np.float32), 0),
    ],
)
def test_values_are_counted_once(array: Array, count: int) -> None:
    assert Tensor(array).distinct == count


def test_zeros_of_another_sign_are_another_tensor() -> None:
    assert Tensor(np.array([0.0])) != Tensor(np.array([-0.0]))
    assert Tensor(np.zeros(2, np.float32)) != Tensor(np.zeros(2, np.int32))
