"""Rules for layers: products, convolutions, pools, norms, attention, resizing, recurrence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from redir.frontends.torch.call import (
    ABSENT,
    BOOL,
    FLOAT32,
    RULES,
    Call,
    NotLowered,
    Number,
    Rule,
    Size,
    aten,
    given_or_absent,
    whole,
)
from redir.ir import Value
from redir.ir.tensor import Dim

_MATRIX = 2  # axes

# Products


@aten("linear")
def _linear(c: Call, x: Value, weight: Value, bias: Value | None = None) -> Value:
    if weight not in c.transposed and c.rank(x) == c.rank(weight) == _MATRIX:
        return c.main("Gemm", x, weight, given_or_absent(bias), transB=1)
    if weight not in c.transposed and c.rank(weight) == _MATRIX:
        weight = c.transpose(weight, (1, 0))
    y = c.main("MatMul", x, weight)
    return y if bias is None else c.op("Add", y, bias)


@aten("matmul", "mm", "bmm", "mv", "dot", "vdot", "linalg_matmul")
def _matmul(c: Call, x: Value, y: Value) -> Value:
    return c.main("MatMul", *c.same(x, y))


@aten("addmm")
def _addmm(c: Call, bias: Value, x: Value, y: Value, beta: Number = 1, alpha: Number = 1) -> Value:
    factors = {"alpha": alpha, "beta": beta}
    return c.main("Gemm", x, y, bias, **{k: float(f) for k, f in factors.items() if f != 1})


@aten("baddbmm", "addbmm", "addmv")
def _baddbmm(
    c: Call, bias: Value, x: Value, y: Value, beta: Number = 1, alpha: Number = 1
) -> Value:
    product = c.main("MatMul", x, y)
    scaled = [
        v if f == 1 else c.op("Mul", v, c.const(f, c.dtype))
        for v, f in ((product, alpha), (bias, beta))
    ]
    return c.op("Add", *scaled) if beta else scaled[0]


@aten("outer", "ger")
def _outer(c: Call, x: Value, y: Value) -> Value:
    return c.main("Mul", c.unsqueeze(x, 1), y)


@aten("einsum")
def _einsum(c: Call, equation: str, operands: Sequence[Value], *_: object) -> Value:
    written = equation.replace(" ", "")
    letters = sorted({letter for letter in written if letter.isalpha()})
    small = {letter: chr(ord("a") + i) for i, letter in enumerate(letters)}
    renamed = "".join(small.get(letter, letter) for letter in written)
    return c.main("Einsum", *operands, equation=renamed)


@aten("bilinear")
def _bilinear(c: Call, x: Value, y: Value, weight: Value, bias: Value | None = None) -> Value:
    found = c.main("Einsum", x, weight, y, equation="...i,oij,...j->...o")
    return found if bias is None else c.op("Add", found, bias)


# Convolutions


def _each(numbers: Sequence[int] | int, count: int) -> tuple[int, ...]:
    """One number for each axis; torch also takes one for all."""
    listed = [numbers] if isinstance(numbers, int) else list(numbers)
    return tuple(whole(n) for n in (listed * count if len(listed) == 1 else listed))


def _unless(numbers: tuple[int, ...], usual: int) -> tuple[int, ...] | None:
    """The numbers, or None where all are what the operator takes them to be anyway."""
    return None if all(n == usual for n in numbers) else numbers


def _batched(c: Call, x: Value, spatial: int, run: Callable[[Value], Value]) -> Value:
    """What ``run`` gives on ``x``, with a batch of one around an example that came alone."""
    if c.rank(x) == spatial + 2:
        return run(x)
    return c.squeeze(run(c.unsqueeze(x, 0)), 0)


def _same_pads(c: Call, weight: Value, dilations: Sequence[int]) -> tuple[int, ...]:
    totals = [d * (c.size(weight, i + 2) - 1) for i, d in enumerate(dilations)]
    return (*(t // 2 for t in totals), *(t - t // 2 for t in totals))


def _pads(
    c: Call, weight: Value, padding: Sequence[int] | str, dilations: Sequence[int]
) -> tuple[int, ...]:
    if padding == "valid":
        return (0,) * 2 * len(dilations)
    if isinstance(padding, str):
        return _same_pads(c, weight, dilations)
    return _each(padding, len(dilations)) * 2


@aten("conv1d", "conv2d", "conv3d")
def _conv(
    c: Call,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    strides: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Value:
    spatial = c.rank(weight) - 2
    dilations = _each(dilation, spatial)
    attrs = {
        "strides": _unless(_each(strides, spatial), 1),
        "pads": _unless(_pads(c, weight, padding, dilations), 0),
        "dilations": _unless(dilations, 1),
    }
    last = given_or_absent(bias)
    return _batched(c, x, spatial, lambda v: c.main("Conv", v, weight, last, **attrs, group=groups))


@aten("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def _conv_transpose(
    c: Call,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    strides: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    more: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> Value:
    spatial = c.rank(weight) - 2
    attrs = {
        "strides": _unless(_each(strides, spatial), 1),
        "pads": _unless(_each(padding, spatial) * 2, 0),
        "dilations": _unless(_each(dilation, spatial), 1),
        "output_padding": _unless(_each(more, spatial), 0),
    }
    group, last = groups if groups != 1 else None, given_or_absent(bias)
    return _batched(
        c, x, spatial, lambda v: c.main("ConvTranspose", v, weight, last, **attrs, group=group)
    )


@aten("convolution", "_convolution")
def _convolution(
    c: Call,
    x: Value,
    weight: Value,
    bias: Value | None,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    more: Sequence[int],
    groups: int,
    *_: object,
) -> Value:
    if transposed:
        return _conv_transpose(c, x, weight, bias, strides, padding, more, groups, dilation)
    return _conv(c, x, weight, bias, strides, padding, dilation, groups)


@aten("_weight_norm")
def _weight_norm(c: Call, v: Value, g: Value, axis: int = 0) -> Value:
    axes = [a for a in range(c.rank(v)) if a != axis % c.rank(v)] if axis != -1 else []
    length = c.op("ReduceL2", v, *([c.const(axes)] if axes else []), keepdims=1)
    return c.main("Mul", v, c.op("Div", g, length))


# Pools


def _pool_sizes(
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    ceil: object,
) -> dict[str, tuple[int, ...] | int | None]:
    spatial = len(kernel)
    return {
        "kernel_shape": tuple(kernel),
        "strides": _unless(_each(strides or kernel, spatial), 1),
        "pads": _unless(_each(padding, spatial) * 2, 0),
        "ceil_mode": 1 if ceil else None,
    }


def _max_pool(spatial: int) -> Rule:
    def rule(
        c: Call,
        x: Value,
        kernel: Sequence[int],
        strides: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        dilation: Sequence[int] = (1,),
        ceil: bool = False,
    ) -> Value:
        attrs = _pool_sizes(_each(kernel, spatial), strides, padding, ceil)
        dilations = _unless(_each(dilation, spatial), 1)
        return _batched(c, x, spatial, lambda v: c.main("MaxPool", v, **attrs, dilations=dilations))

    return rule


def _avg_pool(spatial: int) -> Rule:
    def rule(
        c: Call,
        x: Value,
        kernel: Sequence[int],
        strides: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil: bool = False,
        count_pad: bool = True,
        divisor: int | None = None,
    ) -> Value:
        sizes = _each(kernel, spatial)
        attrs = _pool_sizes(sizes, strides, padding, ceil)
        counted = 1 if attrs["pads"] and (count_pad or divisor) else None
        if divisor and ceil:
            raise NotLowered
        y = _batched(
            c, x, spatial, lambda v: c.main("AveragePool", v, **attrs, count_include_pad=counted)
        )
        return c.op("Mul", y, c.const(np.prod(sizes) / divisor, c.dtype)) if divisor else y

    return rule


def _first(rule: Rule) -> Rule:
    """The rule for an operator whose other results nobody reads, as a rule."""

    @wraps(rule)
    def first(c: Call, *args: object) -> tuple[Value | None, ...]:
        found = rule(c, *args)
        assert isinstance(found, Value)
        return (found, *[None] * (len(c.results) - 1))

    return first


for _spatial in (1, 2, 3):
    RULES[f"max_pool{_spatial}d"] = _max_pool(_spatial)
    RULES[f"max_pool{_spatial}d_with_indices"] = _first(_max_pool(_spatial))
    RULES[f"avg_pool{_spatial}d"] = _avg_pool(_spatial)


def _adaptive(spatial: int, everything: str, part: str) -> Rule:
    def rule(c: Call, x: Value, sizes: Sequence[int | None] | int) -> Value:
        listed = [sizes] if isinstance(sizes, int) else list(sizes)
        wanted = listed * spatial if len(listed) == 1 else listed
        now = c.shape(x)[-spatial:]
        if all(w is None or w == n for w, n in zip(wanted, now, strict=True)):
            return x
        if all(w == 1 for w in wanted):
            return _batched(c, x, spatial, lambda v: c.main(everything, v))
        kernel = _even(wanted, now)
        if kernel is None:
            return _uneven(c, x, [whole(w) for w in wanted], part)
        attrs = {"kernel_shape": kernel, "strides": _unless(kernel, 1)}
        return _batched(c, x, spatial, lambda v: c.main(part, v, **attrs))

    return rule


def _even(wanted: Sequence[int | None], now: Sequence[Dim]) -> tuple[int, ...] | None:
    """The kernel of a pool that gives the ``wanted`` sizes, where one does."""
    kernel = []
    for goal, size in zip(wanted, now, strict=True):
        if goal is None or goal == size:
            kernel.append(1)
        elif isinstance(size, int) and size % goal == 0:
            kernel.append(size // goal)
        else:
            return None
    return tuple(kernel)


def _uneven(c: Call, x: Value, wanted: Sequence[int], part: str) -> Value:
    """Averages over windows of different widths are products with a matrix for each axis."""
    if part == "MaxPool":
        return _largest(c, x, wanted)
    if len(wanted) > _MATRIX:
        raise NotLowered
    y = c.main("MatMul", x, c.const(_averages(c.size(x, -1), wanted[-1]), c.dtype))
    if len(wanted) == 1:
        return y
    return c.op("MatMul", c.const(_averages(c.size(x, -2), wanted[0]).T, c.dtype), y)


def _largest(c: Call, x: Value, wanted: Sequence[int]) -> Value:
    """The largest of each window, one axis after the other."""
    for axis, goal in enumerate(wanted, c.rank(x) - len(wanted)):
        windows = [c.cut(x, axis, *ends) for ends in _windows(c.size(x, axis), goal)]
        along = c.const([axis])
        shape = (*c.shape(x)[:axis], goal, *c.shape(x)[axis + 1 :])
        x = c.op("Concat", *(c.op("ReduceMax", w, along) for w in windows), axis=axis)
        c.shapes[x] = shape
    return x


def _windows(size: int, goal: int) -> list[tuple[int, int]]:
    """Where each window of an adaptive pool starts and ends."""
    return [(i * size // goal, -(-(i + 1) * size // goal)) for i in range(goal)]


def _averages(size: int, goal: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    matrix = np.zeros((size, goal))
    for i, (start, end) in enumerate(_windows(size, goal)):
        matrix[start:end, i] = 1 / (end - start)
    return matrix


for _spatial in (1, 2, 3):
    RULES[f"adaptive_avg_pool{_spatial}d"] = _adaptive(_spatial, "GlobalAveragePool", "AveragePool")
    RULES[f"_adaptive_avg_pool{_spatial}d"] = RULES[f"adaptive_avg_pool{_spatial}d"]
    RULES[f"adaptive_max_pool{_spatial}d"] = _first(_adaptive(_spatial, "GlobalMaxPool", "MaxPool"))


# Norms


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


RULES["native_layer_norm"] = _first(_layer_norm)


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
    c: Call, x: Value, weight: Value | None, bias: Value | None, *sizes: object
) -> tuple[Value | None, ...]:
    groups, epsilon = whole(sizes[-2]), sizes[-1]
    assert isinstance(epsilon, float)
    return _group_norm(c, x, groups, weight, bias, epsilon), None, None


# Attention

_BATCH_HEADS = 4  # axes: batch, heads, places, channels


@aten("scaled_dot_product_attention")
def _attention(
    c: Call,
    query: Value,
    key: Value,
    value: Value,
    mask: Value | None = None,
    dropped: float = 0,
    causal: bool = False,
    scale: float | None = None,
    *_: object,
) -> Value:
    if dropped:
        raise c.refusal("it drops at random: call eval() on the module first")
    rank = c.rank(query)
    if rank > _BATCH_HEADS:
        raise NotLowered
    missing = range(_BATCH_HEADS - rank)
    parts = [c.unsqueeze(v, *missing) for v in (query, key, value)]
    last = ABSENT if mask is None else _wide_mask(c, mask, query)
    flags = {"is_causal": 1 if causal else None, "scale": None if scale is None else float(scale)}
    found = c.main("Attention", *parts, last, **flags)
    c.shapes[found] = (1,) * len(missing) + c.dims
    return c.squeeze(found, *missing)


def _wide_mask(c: Call, mask: Value, query: Value) -> Value:
    """The mask with a row for each query, which onnxruntime does not repeat."""
    if mask.type.dtype != BOOL:
        mask = c.cast(mask, query.type.dtype)
    rows, rank = c.shape(query)[-2], c.rank(mask)
    if c.shape(mask)[-2:-1] in {(rows,), ()} or c.shape(mask)[-2] == rows:
        return mask
    ones = [c.const([1] * (rank - 2))] if rank > _MATRIX else []
    axis = c.rank(query) - 2
    shape = c.op("Concat", *ones, c.size_of(query, axis), c.const([1]), axis=0)
    return c.op("Expand", mask, shape)


RULES["_scaled_dot_product_flash_attention_for_cpu"] = _first(
    lambda c, q, k, v, dropped=0, causal=False, mask=None, scale=None: _attention(
        c, q, k, v, mask, dropped, causal, scale
    )
)


# Resizing


def _resize(
    c: Call,
    x: Value,
    sizes: Sequence[Size] | None,
    scales: Sequence[float] | None,
    **attrs: str | float,
) -> Value:
    """To scales where they say the sizes exactly; a scale of 1 leaves the channels as they are."""
    spatial = c.rank(x) - 2
    now, goal = c.shape(x)[2:], c.dims[2:]
    found = scales or _whole_scales(now, goal)
    if found is not None:
        factors = c.const([1.0, 1.0, *found], FLOAT32)
        return c.main("Resize", x, ABSENT, factors, **attrs)
    if sizes is None:
        raise NotLowered
    lead = c.shape(x)[:2]
    if all(isinstance(d, int) for d in lead):
        whole_goal = c.sizes([*map(whole, lead), *sizes])
        return c.main("Resize", x, ABSENT, ABSENT, whole_goal, **attrs)
    axes = tuple(range(2, 2 + spatial))
    return c.main("Resize", x, ABSENT, ABSENT, c.sizes(sizes), **attrs, axes=axes)


def _whole_scales(now: Sequence[Dim], goal: Sequence[Dim]) -> list[float] | None:
    pairs = [
        (n, g) for n, g in zip(now, goal, strict=True) if isinstance(n, int) and isinstance(g, int)
    ]
    if len(pairs) < len(goal) or any(g % n for n, g in pairs):
        return None
    return [g / n for n, g in pairs]


def _linear_resize(mode: str) -> Rule:
    def rule(
        c: Call,
        x: Value,
        sizes: Sequence[Size] | None,
        corners: bool,
        scales: Sequence[float] | float | None = None,
        *more: float | None,
    ) -> Value:
        factors = _factors(scales, more, c.rank(x) - 2)
        where = "align_corners" if corners else "half_pixel"
        attrs: dict[str, str | float] = {"mode": mode, "coordinate_transformation_mode": where}
        if mode == "cubic":
            attrs["cubic_coeff_a"] = -0.75
        return _resize(c, x, sizes, None if corners else factors, **attrs)

    return rule


def _factors(
    scales: Sequence[float] | float | None, more: Sequence[float | None], count: int
) -> list[float] | None:
    """The scales that the program states: a list of them, or one number after the other."""
    listed = [scales, *more] if scales is None or isinstance(scales, int | float) else list(scales)
    known = [float(s) for s in listed if s is not None]
    return known if len(known) == count else None


def _nearest_resize(where: str, nearest: str) -> Rule:
    def rule(
        c: Call,
        x: Value,
        sizes: Sequence[Size] | None,
        scales: Sequence[float] | float | None = None,
        *more: float | None,
    ) -> Value:
        attrs = {"coordinate_transformation_mode": where, "nearest_mode": nearest}
        factors = _factors(scales, more, c.rank(x) - 2)
        return _resize(c, x, sizes, factors, mode="nearest", **attrs)

    return rule


for _name, _mode in (
    ("linear1d", "linear"),
    ("bilinear2d", "linear"),
    ("trilinear3d", "linear"),
    ("bicubic2d", "cubic"),
):
    RULES[f"upsample_{_name}"] = _linear_resize(_mode)
for _spatial in (1, 2, 3):
    RULES[f"upsample_nearest{_spatial}d"] = _nearest_resize("asymmetric", "floor")
    RULES[f"_upsample_nearest_exact{_spatial}d"] = _nearest_resize(
        "half_pixel", "round_prefer_ceil"
    )
