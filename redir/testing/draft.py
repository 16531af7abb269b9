"""A small graph while it is being drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from redir import ops
from redir.errors import MissingExtra
from redir.ir import Value
from redir.ir.tensor import Array, TensorType

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise MissingExtra("redir.testing", "dev") from error

FLOAT = np.dtype(np.float32)
Step: TypeAlias = "Callable[[Draft, Value], Value]"


class Draft:
    """A graph that is being drawn: the ``values`` so far, on which a step builds."""

    def __init__(self, draw: st.DrawFn) -> None:
        """Draw the inputs."""
        self.draw = draw
        self.rng = np.random.default_rng(self.number(0, 999))
        batch, sides = self.pick("n", 1, 2), self.pick((3, 3), (1, 1), (5, 2), (4, 4), (7, 1))
        self.inputs = {
            name: Value(TensorType(FLOAT, (batch, self.number(1, 4), *sides)))
            for name in self.pick("x", "xy")
        }
        self.values, self.ends = list(self.inputs.values()), list[Value]()

    def pick(self, *these: Any) -> Any:
        """One of ``these``."""
        return self.draw(st.sampled_from(these))

    def number(self, low: int, high: int) -> int:
        """A number between two, which may be either."""
        return self.draw(st.integers(low, high))

    def flag(self) -> bool:
        """True or False."""
        return self.draw(st.booleans())

    def const(self, *shape: int, low: int = -1, high: int = 1) -> Value:
        """A constant of small whole numbers, often with slices that are equal, or one of zeros."""
        array = self.rng.integers(low, high + 1, shape).astype(FLOAT)
        if shape and self.rng.integers(2):
            axis = int(self.rng.integers(len(shape[:2])))
            array = array.take(self.copies(shape[axis]), axis)
        if len(shape) > 1 and not self.rng.integers(3):
            array[self.rng.integers(shape[0])] = 0
        return ops.constant(array)

    def copies(self, size: int) -> Array:
        """For each of some channels the one that it is to be like, of the first half."""
        return self.rng.integers(0, (size + 1) // 2, size)

    def layer(self, *shape: int, axis: int = 0) -> list[Value]:
        """A weight with its channels along ``axis``, and half of the time a bias.

        Half of the time there are channels of which the weights are multiples of others', and the
        biases too, but for one time in three.
        """
        (weight, *bias), size = [self.const(*shape), *self.bias(shape[axis])], shape[axis]
        if self.rng.integers(2):
            source, factor = self.copies(size), 2 ** self.rng.integers(0, 3, size)
            weight = _multiplied(weight, axis, source, factor)
            if self.rng.integers(3):
                bias = [_multiplied(b, 0, source, factor) for b in bias]
        return [weight, *bias]

    def bias(self, *shape: int) -> list[Value]:
        """A constant to add, or none."""
        return [self.const(*shape)] if self.flag() else []

    def like(self, x: Value) -> Value:
        """A value of the type of ``x``: itself where there is no other."""
        found: Value = self.pick(*[v for v in self.values if v.type == x.type][::-1])
        return found

    def add(self, value: Value) -> None:
        """Build on ``value``, or only return it, where its sizes are not known."""
        known = all(value.type.size(a) for a in range(1, value.rank or 0))
        fits = (value.rank or 0) > 1 and known and value.type.dtype == FLOAT
        (self.values if fits else self.ends).append(value)


def channels(x: Value) -> int:
    """The size of the second axis."""
    return x.type.size(1) or 1


def ints(*numbers: int) -> Value:
    """A constant vector of whole numbers, as shapes, axes and pads are given."""
    return ops.constant(np.array(numbers, np.int64))


def _multiplied(value: Value, axis: int, source: Array, factor: Array) -> Value:
    """A constant of multiples of its slices ``source``."""
    tensor = ops.tensor_of(value)
    assert tensor is not None
    slices = np.moveaxis(tensor.array, axis, -1)[..., source] * factor
    return ops.constant(np.moveaxis(slices, -1, axis).astype(FLOAT))
