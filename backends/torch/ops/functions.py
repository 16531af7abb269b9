"""What functions of one operand become in PyTorch, and what changes its element type."""

from __future__ import annotations

from typing import Any

import numpy as np

from redir.backends.torch.emit.literals import SHAPES, Ints, Whole, literal, torch_dtype, wrapped
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.backends.torch.emit.text import paths_in, values_in
from redir.errors import Unsupported
from redir.ops import protos

_CALLS = {
    **{
        name: f"torch.{name.lower()}({{}})"
        for name in """Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Exp Floor Log
        Reciprocal Round Sigmoid Sign Sin Sinh Sqrt Tan Tanh""".split()
    },
    "BitwiseNot": "~{}",
    "HardSwish": "F.hardswish({})",
    "IsNaN": "torch.isnan({})",
    "Mish": "F.mish({})",
    "Not": "~{}",
    "NonZero": "torch.nonzero({}).T",
    "Relu": "F.relu({})",
    "Softplus": "F.softplus({})",
    "Softsign": "F.softsign({})",
    "Det": "torch.linalg.det({})",
}
_LAYERS = {
    "HardSwish": "nn.Hardswish()",
    "Mish": "nn.Mish()",
    "Relu": "nn.ReLU()",
    "Sigmoid": "nn.Sigmoid()",
    "Softplus": "nn.Softplus()",
    "Softsign": "nn.Softsign()",
    "Tanh": "nn.Tanh()",
}


def kept(site: Site, text: str) -> str:
    """A result of torch's floating-point numbers in the element type of operand 0."""
    return f"({text}).to({torch_dtype(site.dtype())})" if site.kind().kind in "iu" else text


def _call(template: str, layer: str | None) -> Emit:
    def emit(site: Site) -> Result:
        return site.activation(layer, template) if layer else template.format(site.ref(0))

    return emit


def _neg(site: Site) -> Result:
    known = site.ints(0)
    if known is not None:
        return Ints(
            tuple(-i if isinstance(i, int) else Whole(f"(-{i})") for i in known.items), known.rank
        )
    return f"-{site.ref(0)}"


def _is_inf(site: Site) -> Result:
    low, high = site.attr("detect_negative", 1), site.attr("detect_positive", 1)
    if low and high:
        return f"torch.isinf({site.ref(0)})"
    if low or high:
        return f"torch.is{'neg' if low else 'pos'}inf({site.ref(0)})"
    return f"torch.zeros_like({site.ref(0)}, dtype=torch.bool)"


def _with_number(module: str, function: str, name: str, default: float) -> Emit:
    def emit(site: Site) -> Result:
        number = site.real(name, default)
        return site.activation(f"nn.{module}({number})", f"F.{function}({{}}, {number})")

    return emit


def _selu(site: Site) -> Result:
    given = (("alpha", 1.67326319), ("gamma", 1.05070102))
    if all(abs(site.attr(name, usual) - usual) < 1e-6 for name, usual in given):  # noqa: PLR2004
        return site.activation("nn.SELU()", "F.selu({})")
    alpha, gamma = (site.real(name, usual) for name, usual in given)
    return f"{gamma} * F.elu({site.ref(0)}, {alpha})"


def _gelu(site: Site) -> Result:
    if site.attr("approximate", "none") == "tanh":
        return site.activation('nn.GELU("tanh")', 'F.gelu({}, approximate="tanh")')
    return site.activation("nn.GELU()", "F.gelu({})")


def _hard_sigmoid(site: Site) -> Result:
    sixth = abs(site.attr("alpha", 0.2) - 1 / 6) < 1e-6  # noqa: PLR2004
    if sixth and site.attr("beta", 0.5) == 0.5:  # noqa: PLR2004
        return site.activation("nn.Hardsigmoid()", "F.hardsigmoid({})")
    alpha, beta = site.real("alpha", 0.2), site.real("beta", 0.5)
    return f"torch.clamp({site.ref(0)} * {alpha} + {beta}, 0.0, 1.0)"


def _swish(site: Site) -> Result:
    if site.attr("alpha", 1.0) == 1:
        return site.activation("nn.SiLU()", "F.silu({})")
    return f"{site.ref(0)} * torch.sigmoid({site.real('alpha', 1.0)} * {site.ref(0)})"


def _shrink(site: Site) -> Result:
    x, bound, bias = site.ref(0), site.real("lambd", 0.5), site.real("bias", 0.0)
    above = f"torch.where({x} > {bound}, {x} - {bias}, torch.zeros_like({x}))"
    return kept(site, f"torch.where({x} < -{bound}, {x} + {bias}, {above})")


def _clip(site: Site) -> Result:
    if site.version < 11:  # noqa: PLR2004 - the bounds were attributes
        bounds = {k: site.real(k) for k in ("min", "max") if site.attr(k) is not None}
    else:
        places = {"min": 1, "max": 2}
        bounds = {k: _bound(site, p) for k, p in places.items() if site.has(p)}
    if bounds in ({"min": "0.0", "max": "6.0"}, {"min": "0", "max": "6"}):
        return site.activation("nn.ReLU6()", "F.relu6({})")
    if not bounds:
        return site.value(0)
    marked = [b for b in bounds.values() if values_in(b) or paths_in(b)]
    if marked and len(marked) < len(bounds):
        bounds = {k: b if b in marked else _filled(site, b) for k, b in bounds.items()}
    return f"torch.clamp({site.ref(0)}, {', '.join(f'{k}={b}' for k, b in bounds.items())})"


def _filled(site: Site, number: str) -> str:
    """A bound as a tensor: torch takes two numbers or two tensors."""
    return f"torch.full_like({site.ref(0)}, {number})"


def _bound(site: Site, place: int) -> str:
    array = site.array(place)
    return literal(array.reshape(-1)[0]) if array is not None else site.ref(place)


def _dropout(site: Site) -> Result:
    ratio = site.attr("ratio", 0.5)
    if site.has(1):
        array = site.array(1)
        ratio = 0.5 if array is None else float(array.reshape(-1)[0])
    if site.has(2) and (site.array(2) is None or bool(np.any(site.array(2)))):
        raise site.refused("it may be in training mode")
    if site.wants(1):
        kind = torch_dtype(site.node.outputs[1].type.dtype)
        ones = f"torch.ones_like({site.ref(0)}, dtype={kind})"
        return [site.value(0), ones]
    layer = site.module(f"nn.Dropout({literal(np.float32(ratio))})")
    return [f"{layer}({site.ref(0)})"] if layer else [site.value(0)]


def _converted(site: Site, dtype: np.dtype[Any]) -> Result:
    known = site.ints(0)
    if known is not None and dtype in SHAPES:
        return Ints(tuple(wrapped(i, dtype) for i in known.items), known.rank)
    if site.kind() == dtype:
        return site.value(0)
    try:
        return f"{site.ref(0)}.to({torch_dtype(dtype)})"
    except Unsupported as error:
        raise site.refused(str(error)) from None


def _softmax(module: str, function: str) -> Emit:
    def emit(site: Site) -> Result:
        if site.version >= 13:  # noqa: PLR2004 - before, all axes from one on are one
            axis = site.attr("axis", -1)
            return site.activation(f"nn.{module}(dim={axis})", f"{function}({{}}, dim={axis})")
        axis, rank, x = site.axis(1), site.rank(), site.ref(0)
        if axis == rank - 1 or all(site.size(0, k) == 1 for k in range(axis + 1, rank)):
            return site.activation(f"nn.{module}(dim={axis})", f"{function}({{}}, dim={axis})")
        return f"{function}({x}.flatten({axis}), dim={axis}).reshape({x}.shape)"

    return emit


def _hardmax(site: Site) -> Result:
    x, old = site.ref(0), site.version < 13  # noqa: PLR2004
    axis = site.axis(1 if old else -1)
    flat = site.let(f"{x}.flatten({axis})") if old and axis < site.rank() - 1 else x
    best = f"{flat}.argmax({axis}, keepdim=True)"
    found = f"torch.zeros_like({flat}).scatter({axis}, {best}, 1.0)"
    return found if flat == x else f"{found}.reshape({x}.shape)"


TABLE: dict[str, Emit] = {
    **{name: _call(text, _LAYERS.get(name)) for name, text in _CALLS.items()},
    "Celu": lambda site: f"F.celu({site.ref(0)}, {site.real('alpha', 1.0)})",
    "Clip": _clip,
    "Dropout": _dropout,
    "Erf": lambda site: kept(site, f"torch.erf({site.ref(0)})"),
    "Elu": _with_number("ELU", "elu", "alpha", 1.0),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "Hardmax": _hardmax,
    "Identity": lambda site: site.value(0),
    "IsInf": _is_inf,
    "LeakyRelu": _with_number("LeakyReLU", "leaky_relu", "alpha", 0.01),
    "LogSoftmax": _softmax("LogSoftmax", "F.log_softmax"),
    "Neg": _neg,
    "Selu": _selu,
    "Shrink": _shrink,
    "Softmax": _softmax("Softmax", "F.softmax"),
    "Swish": _swish,
    "ThresholdedRelu": lambda site: f"F.threshold({site.ref(0)}, {site.real('alpha', 1.0)}, 0.0)",
}

CASTS: dict[str, Emit] = {
    "Cast": lambda site: _converted(site, protos.dtype_from(site.attr("to"))),
    "CastLike": lambda site: _converted(site, site.dtype(1)),
}
"""What changes the element type, apart from the rest."""
