"""Rules for norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from redir.frontends.torch.call import (
    RULES,
    Call,
    Number,
    Size,
    aten,
    first_only,
    given_or_absent,
    whole,
)
from redir.ir import Value


def _filled(c: Call, x: Value | None, like: Value, held: Number, axis: int = 0) -> Value:
    """A parameter, or as many constants where it is not given."""
    return c.const(np.full(c.size(like, axis), held), like.type.dtype) if x is None else x


@aten("batch_norm")
def _batch_norm(
    c: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    variance: Value | None,
    training: bool,
    momentum: float,
    epsilon: float,
    *_: object,
) -> Value:
    if training or mean is None or variance is None:
        _refuse_updates(c, mean, momentum)
        return _by_own_statistics(c, x, (weight, bias), [0, *range(2, c.rank(x))], epsilon)
    scale, shift = _filled(c, weight, mean, 1), _filled(c, bias, mean, 0)
    return c.main("BatchNormalization", x, scale, shift, mean, variance, epsilon=float(epsilon))


def _refuse_updates(c: Call, mean: Value | None, momentum: float) -> None:
    """Refuse a norm that changes its running statistics when it is called."""
    if mean is not None and momentum:
        raise c.refusal("it updates its running statistics: call eval() on the module first")


def _by_own_statistics(
    c: Call,
    x: Value,
    affine: tuple[Value | None, Value | None],
    axes: list[int],
    epsilon: float,
) -> Value:
    """A norm by the mean and the variance of ``x`` itself along ``axes``."""

    def mean(v: Value) -> Value:
        return c.op("ReduceMean", v, c.const(axes), keepdims=1)

    away = c.like(x, c.op("Sub", x, mean(x)))
    spread = c.op("Add", mean(c.op("Mul", away, away)), c.const(epsilon, c.dtype))
    y, behind = c.main("Div", away, c.op("Sqrt", spread)), range(1, c.rank(x) - 1)
    for name, held in zip(("Mul", "Add"), affine, strict=True):
        if held is not None:
            y = c.op(name, y, c.cast(c.unsqueeze(held, *behind), c.dtype))
    return y


@aten("_native_batch_norm_legit_no_training", "native_batch_norm")
def _native_batch_norm(c: Call, *args: object) -> tuple[Value | None, ...]:
    head, rest = args[:5], args[5:]
    training, numbers = (rest[0], rest[1:]) if len(rest) > 2 else (False, rest)  # noqa: PLR2004
    given: list[Any] = [*head, training, *numbers]
    return _batch_norm(c, *given), None, None


@aten("instance_norm")
def _instance_norm(
    c: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    variance: Value | None,
    from_input: bool,
    momentum: float,
    epsilon: float,
    *_: object,
) -> Value:
    if not from_input:
        return _batch_norm(c, x, weight, bias, mean, variance, False, momentum, epsilon)
    _refuse_updates(c, mean, momentum)
    scale, shift = _filled(c, weight, x, 1, 1), _filled(c, bias, x, 0, 1)
    return c.main("InstanceNormalization", x, scale, shift, epsilon=float(epsilon))


@aten("layer_norm")
def _layer_norm(
    c: Call,
    x: Value,
    sizes: Sequence[Size],
    weight: Value | None = None,
    bias: Value | None = None,
    epsilon: float = 1e-5,
    *_: object,
) -> Value:
    ones = c.const(np.ones([whole(n) for n in sizes]), c.dtype)
    scale = ones if weight is None else weight
    last = given_or_absent(bias)
    return c.main("LayerNormalization", x, scale, last, axis=-len(sizes), epsilon=float(epsilon))


RULES["native_layer_norm"] = first_only(_layer_norm)


@aten("rms_norm")
def _rms_norm(
    c: Call,
    x: Value,
    sizes: Sequence[Size],
    weight: Value | None = None,
    epsilon: float | None = None,
) -> Value:
    usual = 2.0**-7 if c.dtype.kind == "V" else float(np.finfo(c.dtype).eps)  # bfloat16
    small = usual if epsilon is None else float(epsilon)
    ones = c.const(np.ones([whole(n) for n in sizes]), c.dtype)
    scale = ones if weight is None else weight
    return c.main("RMSNormalization", x, scale, axis=-len(sizes), epsilon=small)


@aten("group_norm")
def _group_norm(
    c: Call,
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    epsilon: float = 1e-5,
    *_: object,
) -> Value:
    scale, shift = _filled(c, weight, x, 1, 1), _filled(c, bias, x, 0, 1)
    return c.main("GroupNormalization", x, scale, shift, num_groups=groups, epsilon=float(epsilon))


@aten("native_group_norm")
def _native_group_norm(
    c: Call, x: Value, weight: Value | None, bias: Value | None, *sizes: Any
) -> tuple[Value | None, ...]:
    *_, groups, epsilon = sizes
    return _group_norm(c, x, groups, weight, bias, epsilon), None, None
