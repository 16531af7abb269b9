"""Rules for convolutions, and for weights that are normalised before."""

from __future__ import annotations

from collections.abc import Sequence

from redir.frontends.torch.aten.windows import batched, each, unless
from redir.frontends.torch.call import Call, aten, given_or_absent
from redir.ir import Value


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
    return each(padding, len(dilations)) * 2


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
    dilations = each(dilation, spatial)
    attrs = {
        "strides": unless(each(strides, spatial), 1),
        "pads": unless(_pads(c, weight, padding, dilations), 0),
        "dilations": unless(dilations, 1),
    }
    last = given_or_absent(bias)
    return batched(c, x, spatial, lambda v: c.main("Conv", v, weight, last, **attrs, group=groups))


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
        "strides": unless(each(strides, spatial), 1),
        "pads": unless(each(padding, spatial) * 2, 0),
        "dilations": unless(each(dilation, spatial), 1),
        "output_padding": unless(each(more, spatial), 0),
    }
    group, last = groups if groups != 1 else None, given_or_absent(bias)
    return batched(
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
    axes = [a for a in range(c.rank(v)) if a != c.axis(v, axis)] if axis != -1 else []
    length = c.op("ReduceL2", v, *([c.const(axes)] if axes else []), keepdims=1)
    return c.main("Mul", v, c.op("Div", g, length))
