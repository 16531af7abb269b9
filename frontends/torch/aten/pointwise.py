"""Rules for what works number by number."""

from __future__ import annotations

from math import log

import numpy as np

from redir.frontends.torch.call import (
    ABSENT,
    BOOL,
    FLOAT32,
    INT64,
    RULES,
    Call,
    NotLowered,
    Number,
    Operand,
    Rule,
    aten,
)
from redir.ir import Value
from redir.ir.tensor import DType

_WHOLE_ALREADY = ("Ceil", "Floor", "Round")  # of whole numbers these change nothing


def _unary(name: str) -> Rule:
    def rule(c: Call, x: Value) -> Value:
        if name in _WHOLE_ALREADY and x.type.dtype.kind in "iu":
            return x
        return c.main(name, c.cast(x, c.dtype))

    return rule


def _floating(c: Call, x: Value) -> Value:
    return x if x.type.dtype.kind not in "iub" else c.cast(x, FLOAT32)


@aten("isfinite")
def _isfinite(c: Call, x: Value) -> Value:
    x = _floating(c, x)
    return c.main("Not", c.op("Or", c.op("IsNaN", x), c.op("IsInf", x)))


@aten("erfc", "special_erfc")
def _erfc(c: Call, x: Value) -> Value:
    return c.main("Sub", c.const(1, c.dtype), c.op("Erf", c.cast(x, c.dtype)))


def _logarithm(c: Call, x: Value, base: int) -> Value:
    return c.main("Div", c.op("Log", c.cast(x, c.dtype)), c.const(log(base), c.dtype))


@aten("trunc", "fix")
def _trunc(c: Call, x: Value) -> Value:
    if x.type.dtype.kind in "iu":
        return x
    return c.main("Mul", c.op("Sign", x), c.op("Floor", c.op("Abs", x)))


@aten("rrelu")
def _rrelu(
    c: Call, x: Value, lower: float = 1 / 8, upper: float = 1 / 3, train: bool = False, *_: object
) -> Value:
    if train:
        raise c.refusal("its slopes are random: call eval() on the module first")
    return c.main("LeakyRelu", x, alpha=(float(lower) + float(upper)) / 2)


@aten("elu")
def _elu(c: Call, x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Value:
    if scale != 1 or input_scale != 1:
        raise NotLowered
    return c.main("Elu", x, alpha=float(alpha))


@aten("softplus")
def _softplus(c: Call, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    if beta == 1:
        return c.main("Softplus", x)
    scaled = c.op("Mul", *c.same(x, beta))
    soft = c.op("Div", *c.same(c.op("Softplus", scaled), beta))
    return c.main("Where", c.op("Greater", *c.same(scaled, threshold)), x, soft)


@aten("prelu")
def _prelu(c: Call, x: Value, slope: Value) -> Value:
    rank = c.rank(x)
    if c.shape(slope) != (1,) and rank > 2:  # noqa: PLR2004 - channels are axis 1
        slope = c.unsqueeze(slope, *range(1, rank - 1))
    return c.main("PRelu", x, slope)


@aten("glu")
def _glu(c: Call, x: Value, axis: int = -1) -> Value:
    a, b = c.several("Split", 2, x, axis=c.axis(x, axis), num_outputs=2)
    return c.main("Mul", a, c.op("Sigmoid", b))


@aten("softmax.int", "_softmax", "special_softmax")
def _softmax(c: Call, x: Value, axis: int, *_: object) -> Value:
    return c.main("Softmax", c.cast(x, c.dtype), axis=axis)


@aten("log_softmax.int", "_log_softmax", "special_log_softmax")
def _log_softmax(c: Call, x: Value, axis: int, *_: object) -> Value:
    return c.main("LogSoftmax", c.cast(x, c.dtype), axis=axis)


@aten("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def _dropout(c: Call, x: Value, ratio: float, train: bool | None) -> Value:
    if train and ratio:
        raise c.refusal("it drops at random, for the module is in training mode: call eval() first")
    return c.main("Dropout", x, c.const(ratio, FLOAT32))


def _scaled(c: Call, y: Operand, alpha: Number) -> Value:
    (y,) = c.same(y)
    return y if alpha == 1 else c.op("Mul", y, c.const(alpha, c.dtype))


@aten("add", "_unsafe_add")
def _add(c: Call, x: Operand, y: Operand, alpha: Number = 1) -> Value:
    if c.dtype == BOOL:
        return c.main("Or", *c.same(x, y))
    return c.main("Add", *c.same(x), _scaled(c, y, alpha))


@aten("sub", "subtract")
def _sub(c: Call, x: Operand, y: Operand, alpha: Number = 1) -> Value:
    return c.main("Sub", *c.same(x), _scaled(c, y, alpha))


@aten("rsub")
def _rsub(c: Call, x: Operand, y: Operand, alpha: Number = 1) -> Value:
    return c.main("Sub", *c.same(y), _scaled(c, x, alpha))


@aten("div.Tensor_mode", "div.Scalar_mode")
def _div_mode(c: Call, x: Operand, y: Operand, mode: str | None = None) -> Value:
    if mode == "floor":
        return _floor_divide(c, x, y)
    if mode is None or c.dtype.kind in "iu":
        return c.main("Div", *c.same(x, y))
    return _trunc(c, c.op("Div", *c.same(x, y)))


@aten("floor_divide")
def _floor_divide(c: Call, x: Operand, y: Operand) -> Value:
    x, y = c.same(x, y)
    if c.dtype.kind not in "iu":
        return c.main("Floor", c.op("Div", x, y))
    return c.main("Div", c.op("Sub", x, c.op("Mod", x, y)), y)  # Mod has the sign of y


@aten("remainder")
def _remainder(c: Call, x: Operand, y: Operand) -> Value:
    x, y = c.same(x, y)
    if c.dtype.kind in "iu":
        return c.main("Mod", x, y)
    return c.main("Sub", x, c.op("Mul", c.op("Floor", c.op("Div", x, y)), y))


def _binary(name: str, logical: str = "") -> Rule:
    """A rule for an operator of two operands; ``logical`` is that for truth values, if another."""

    def rule(c: Call, x: Operand, y: Operand) -> Value:
        return c.main(logical if logical and c.dtype == BOOL else name, *c.same(x, y))

    return rule


_KINDS = "biufc"  # torch computes in the kind that comes last


def _kind(x: Operand) -> int:
    if isinstance(x, Value):
        kind = x.type.dtype.kind
        return _KINDS.find("f" if kind == "V" else kind.replace("u", "i"))
    return 0 if isinstance(x, bool) else _KINDS.find("f") if isinstance(x, float) else 1


def _common(c: Call, x: Operand, y: Operand) -> DType:
    """The element type in which torch compares two operands: tensors without axes give way."""
    ranked = sorted((x, y), key=lambda v: (_kind(v), isinstance(v, Value) and c.rank(v) > 0))
    lead, other = ranked[1], ranked[0]
    if not isinstance(lead, Value):
        return FLOAT32 if isinstance(lead, float) else INT64
    gives_way = not isinstance(other, Value) or (c.rank(other) == 0 and c.rank(lead) > 0)
    if gives_way or _kind(other) < _kind(lead):
        return lead.type.dtype
    assert isinstance(other, Value)
    return np.promote_types(lead.type.dtype, other.type.dtype)


def _comparison(name: str) -> Rule:
    def rule(c: Call, x: Operand, y: Operand) -> Value:
        dtype = _common(c, x, y)
        dtype = INT64 if dtype == BOOL and name != "Equal" else dtype
        return c.main(name, c.operand(x, dtype), c.operand(y, dtype))

    return rule


@aten("ne", "not_equal")
def _ne(c: Call, x: Operand, y: Operand) -> Value:
    dtype = _common(c, x, y)
    return c.main("Not", c.op("Equal", c.operand(x, dtype), c.operand(y, dtype)))


@aten("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(c: Call, condition: Value, x: Operand, y: Operand) -> Value:
    return c.main("Where", c.cast(condition, BOOL), *c.same(x, y))


@aten("clamp", "clip", "hardtanh")
def _clamp(c: Call, x: Value, low: Operand | None = None, high: Operand | None = None) -> Value:
    x = c.cast(x, c.dtype)
    bounds = [None if b is None else c.operand(b, c.dtype) for b in (low, high)]
    if all(b is None or c.rank(b) == 0 for b in bounds):
        return c.main("Clip", x, *(ABSENT if b is None else b for b in bounds))
    for name, bound in zip(("Max", "Min"), bounds, strict=True):
        x = x if bound is None else c.main(name, x, bound)
    return x


@aten("copy")
def _copy(c: Call, old: Value, x: Value, *_: object) -> Value:
    (x,) = c.same(x)
    return x if c.shape(x) == c.dims else c.main("Expand", x, c.shape_of(old))


_SAME_NAME = """
    abs:Abs acos:Acos acosh:Acosh asin:Asin asinh:Asinh atan:Atan atanh:Atanh ceil:Ceil cos:Cos
    cosh:Cosh erf:Erf exp:Exp floor:Floor hardswish:HardSwish log:Log mish:Mish neg:Neg
    reciprocal:Reciprocal relu:Relu selu:Selu sigmoid:Sigmoid sign:Sign sgn:Sign sin:Sin sinh:Sinh
    sqrt:Sqrt tan:Tan tanh:Tanh special_erf:Erf special_expit:Sigmoid arccos:Acos arcsin:Asin
    round.default:Round arctan:Atan negative:Neg absolute:Abs
"""
_BINARY = """
    div.Tensor:Div div.Scalar:Div true_divide:Div divide.Tensor:Div divide.Scalar:Div pow:Pow
    float_power:Pow maximum:Max max.other:Max minimum:Min min.other:Min
"""
_COMPARISONS = "eq:Equal lt:Less le:LessOrEqual gt:Greater ge:GreaterOrEqual"
_CASTS = """
    to clone contiguous detach alias lift lift_fresh lift_fresh_copy detach_copy _to_copy type_as
    alias_copy positive real conj resolve_conj resolve_neg
"""

for _made, _names in ((_unary, _SAME_NAME), (_binary, _BINARY), (_comparison, _COMPARISONS)):
    RULES.update({n: _made(to) for n, _, to in (e.partition(":") for e in _names.split())})
for _name in ("And", "Or", "Xor"):
    _logical, _small = _binary(f"Bitwise{_name}", _name), _name.lower()
    RULES.update(
        dict.fromkeys((f"bitwise_{_small}", f"__{_small}__", f"logical_{_small}"), _logical)
    )
RULES.update(dict.fromkeys(("mul", "multiply"), _binary("Mul", "And")))
RULES.update(dict.fromkeys(_CASTS.split(), lambda c, x, *_: c.cast(x, c.dtype)))
RULES |= {
    "bitwise_not": lambda c, x: c.main("Not" if x.type.dtype == BOOL else "BitwiseNot", x),
    "exp2": lambda c, x: c.main("Pow", *c.same(2, x)),
    "expm1": lambda c, x: c.main("Sub", c.op("Exp", c.cast(x, c.dtype)), c.const(1, c.dtype)),
    "frac": lambda c, x: c.main("Sub", x, _trunc(c, x)),
    "isinf": lambda c, x: c.main("IsInf", _floating(c, x)),
    "isnan": lambda c, x: c.main("IsNaN", _floating(c, x)),
    "log10": lambda c, x: _logarithm(c, x, 10),
    "log1p": lambda c, x: c.main("Log", c.op("Add", *c.same(x, 1))),
    "log2": lambda c, x: _logarithm(c, x, 2),
    "logical_not": lambda c, x: c.main("Not", c.cast(x, BOOL)),
    "rsqrt": lambda c, x: c.main("Reciprocal", c.op("Sqrt", c.cast(x, c.dtype))),
    "square": lambda c, x: c.main("Mul", x, x),
    # activations
    "celu": lambda c, x, alpha=1: c.main("Celu", x, alpha=float(alpha)),
    "gelu": lambda c, x, how="none": c.main("Gelu", x, approximate=None if how == "none" else how),
    "hardshrink": lambda c, x, bound=0.5: c.main("Shrink", x, lambd=float(bound)),
    "hardsigmoid": lambda c, x: c.main("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "leaky_relu": lambda c, x, slope=0.01: c.main("LeakyRelu", x, alpha=float(slope)),
    "log_sigmoid": lambda c, x: c.main("Neg", c.op("Softplus", c.op("Neg", x))),
    "relu6": lambda c, x: _clamp(c, x, 0, 6),
    "silu": lambda c, x: c.main("Mul", x, c.op("Sigmoid", x)),
    "softshrink": lambda c, x, bound=0.5: c.main(
        "Shrink", x, lambd=float(bound), bias=float(bound)
    ),
    "threshold": lambda c, x, bound, value: c.main(
        "Where", c.op("Greater", *c.same(x, bound)), x, c.const(value, c.dtype)
    ),
    # two operands and more
    "addcdiv": lambda c, x, a, b, value=1: c.main("Add", x, _scaled(c, c.op("Div", a, b), value)),
    "addcmul": lambda c, x, a, b, value=1: c.main("Add", x, _scaled(c, c.op("Mul", a, b), value)),
    "clamp_max": lambda c, x, high: _clamp(c, x, None, high),
    "clamp_min": _clamp,
    "fmod": lambda c, x, y: c.main("Mod", *c.same(x, y), fmod=1),
    "lerp": lambda c, x, end, weight: c.main(
        "Add", x, c.op("Mul", c.operand(weight, c.dtype), c.op("Sub", end, x))
    ),
    "masked_fill": lambda c, x, mask, value: c.main("Where", mask, *c.same(value, x)),
}
