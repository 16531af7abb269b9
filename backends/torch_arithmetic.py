"""What the operators that compute with numbers become in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from redir.backends.torch_flow import Emit, Int, Ints, Result, Site, Whole, literal, torch_dtype
from redir.backends.torch_text import paths_in, values_in
from redir.errors import Unsupported
from redir.ir import Node
from redir.ops import protos

# Functions of one operand

_CALLS = {
    **{
        name: f"torch.{name.lower()}({{}})"
        for name in """Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor Log
        Reciprocal Round Sigmoid Sign Sin Sinh Sqrt Tan Tanh""".split()
    },
    "BitwiseNot": "~{}",
    "IsNaN": "torch.isnan({})",
    "Neg": "-{}",
    "Not": "~{}",
    "NonZero": "torch.nonzero({}).T",
    "Det": "torch.linalg.det({})",
}
_LAYERS = {
    "Sigmoid": "nn.Sigmoid()",
    "Tanh": "nn.Tanh()",
}


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


def _relu(site: Site) -> Result:
    return site.activation("nn.ReLU()", "F.relu({})")


def _with_number(module: str, function: str, name: str, default: float) -> Emit:
    def emit(site: Site) -> Result:
        number = _short(site.attr(name, default))
        return site.activation(f"nn.{module}({number})", f"F.{function}({{}}, {number})")

    return emit


def _short(number: float) -> str:
    """An attribute, which a file keeps as float32."""
    return literal(np.float32(number))


def _selu(site: Site) -> Result:
    alpha, gamma = site.attr("alpha", 1.67326319), site.attr("gamma", 1.05070102)
    usual = abs(alpha - 1.67326319) < 1e-6 and abs(gamma - 1.05070102) < 1e-6  # noqa: PLR2004
    if usual:
        return site.activation("nn.SELU()", "F.selu({})")
    return f"{_short(gamma)} * F.elu({site.ref(0)}, {_short(alpha)})"


def _celu(site: Site) -> Result:
    return f"F.celu({site.ref(0)}, {_short(site.attr('alpha', 1.0))})"


def _gelu(site: Site) -> Result:
    if site.attr("approximate", "none") == "tanh":
        return site.activation('nn.GELU("tanh")', 'F.gelu({}, approximate="tanh")')
    return site.activation("nn.GELU()", "F.gelu({})")


def _hard_sigmoid(site: Site) -> Result:
    alpha, beta = site.attr("alpha", 0.2), site.attr("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:  # noqa: PLR2004
        return site.activation("nn.Hardsigmoid()", "F.hardsigmoid({})")
    return f"torch.clamp({site.ref(0)} * {_short(alpha)} + {_short(beta)}, 0.0, 1.0)"


def _hard_swish(site: Site) -> Result:
    return site.activation("nn.Hardswish()", "F.hardswish({})")


def _mish(site: Site) -> Result:
    return site.activation("nn.Mish()", "F.mish({})")


def _swish(site: Site) -> Result:
    alpha = site.attr("alpha", 1.0)
    if alpha == 1:
        return site.activation("nn.SiLU()", "F.silu({})")
    return f"{site.ref(0)} * torch.sigmoid({_short(alpha)} * {site.ref(0)})"


def _softplus(site: Site) -> Result:
    return site.activation("nn.Softplus()", "F.softplus({})")


def _softsign(site: Site) -> Result:
    return site.activation("nn.Softsign()", "F.softsign({})")


def _thresholded(site: Site) -> Result:
    return f"F.threshold({site.ref(0)}, {_short(site.attr('alpha', 1.0))}, 0.0)"


def _shrink(site: Site) -> Result:
    x, bound, bias = site.ref(0), _short(site.attr("lambd", 0.5)), _short(site.attr("bias", 0.0))
    above = f"torch.where({x} > {bound}, {x} - {bias}, torch.zeros_like({x}))"
    return f"torch.where({x} < -{bound}, {x} + {bias}, {above})"


def _clip(site: Site) -> Result:
    if site.version < 11:  # noqa: PLR2004 - the bounds were attributes
        bounds = {k: _short(site.attr(k)) for k in ("min", "max") if site.attr(k) is not None}
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


def _identity(site: Site) -> Result:
    return site.value(0)


def _dropout(site: Site) -> Result:
    ratio = site.attr("ratio", 0.5)
    if site.has(1):
        array = site.array(1)
        ratio = 0.5 if array is None else float(array.reshape(-1)[0])
    if site.has(2) and (site.array(2) is None or bool(np.any(site.array(2)))):
        raise site.refused("it may be in training mode")
    if site.wants(1):
        ones = f"torch.ones_like({site.ref(0)}, dtype=torch.bool)"
        return [site.value(0), ones]
    layer = site.module(f"nn.Dropout({_short(ratio)})")
    return [f"{layer}({site.ref(0)})"] if layer else [site.value(0)]


def _cast(site: Site) -> Result:
    return _converted(site, protos.dtype_from(site.attr("to")))


def _cast_like(site: Site) -> Result:
    return _converted(site, site.dtype(1))


def _converted(site: Site, dtype: np.dtype[Any]) -> Result:
    known = site.ints(0)
    if known is not None and dtype.kind in "iu":
        return known
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


# Functions of several operands


def _binary(sign: str) -> Emit:
    def emit(site: Site) -> Result:
        known = _whole(site, sign)
        if known is not None:
            return known
        a, b = _operands(site)
        return f"{a} {sign} {b}"

    return emit


def _operands(site: Site) -> tuple[str, str]:
    """Both operands; before operator set 7 the second one is aligned by attributes."""
    a, b = site.operand(0), site.operand(1)
    if site.attr("broadcast") and site.attr("axis") is not None:
        behind = site.rank(0) - site.attr("axis") % site.rank(0) - site.rank(1)
        b = f"{b}[{', '.join(['...', *['None'] * behind])}]" if behind else b
    return a, b


_WHOLE: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: int(abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1),
    "%": lambda a, b: a % b,
}


def _whole(site: Site, sign: str) -> Ints | None:
    """The result in plain numbers where both operands are."""
    a, b = site.ints(0), site.ints(1)
    if (
        a is None
        or b is None
        or sign not in _WHOLE
        or (0 in (b.known or ()) and sign in {"//", "%"})
    ):
        return None
    if a.known is not None and b.known is not None and site.array(0) is site.array(1) is None:
        return None
    size = max(len(a.items), len(b.items))
    if {len(a.items), len(b.items)} - {1, size}:
        return None
    pairs = zip(a.items * (size // len(a.items)), b.items * (size // len(b.items)), strict=True)
    items = [_one(sign, p, q) for p, q in pairs]
    if any(i is None for i in items):
        return None
    return Ints(tuple(i for i in items if i is not None), max(a.rank, b.rank))


def _one(sign: str, a: Int, b: Int) -> Int | None:
    if isinstance(a, int) and isinstance(b, int):
        return _WHOLE[sign](a, b)
    if (sign in "+-" and b == 0) or (sign in "*//" and b == 1):
        return a
    if (sign == "+" and a == 0) or (sign == "*" and a == 1):
        return b
    positive = all(i >= 0 if isinstance(i, int) else i.positive for i in (a, b))
    if sign == "//" and not positive:
        return None  # Python rounds down where ONNX rounds towards 0
    return Whole(f"({a} {sign} {b})", positive=positive and sign != "-")


def _div(site: Site) -> Result:
    if site.kind().kind in "iu":
        known = _whole(site, "//")
        a, b = _operands(site)
        return known if known is not None else f'torch.div({a}, {b}, rounding_mode="trunc")'
    a, b = _operands(site)
    return f"{a} / {b}"


def _mul(site: Site) -> Result:
    """Also ``x * sigmoid(x)``, which has a name of its own."""
    for place in (0, 1):
        node, other = site.value(place).node, site.value(1 - place)
        if (
            node is not None
            and node.op.name == "Sigmoid"
            and site.scene.resolve(node.inputs[0]) is other
        ):
            x, scope = site.ref(1 - place), site.scene.scope(site.node)
            alone = scope == site.scene.scope(node) and site.scene.counts[scope] == 2  # noqa: PLR2004
            if scope and alone and not site.scene.base:
                return f"{site.layer('nn.SiLU()', 'silu', {}, [node])}({x})"
            return f"F.silu({x})"
    return _binary("*")(site)


def _pow(site: Site) -> Result:
    a, b = site.kind(0), site.kind(1)
    exponent = site.array(1)
    if (
        exponent is not None
        and exponent.size == 1
        and exponent.ndim <= site.rank(0)
        and a.kind in "fV"
    ):
        number = literal(exponent.reshape(-1)[0])
        return f"{site.ref(0)} ** {int(float(number)) if float(number).is_integer() else number}"
    found = f"torch.pow({site.ref(0)}, {site.ref(1)})"
    return found if a == b else f"{found}.to({torch_dtype(a)})"


def _mod(site: Site) -> Result:
    if site.attr("fmod", 0):
        return f"torch.fmod({site.ref(0)}, {site.operand(1)})"
    known = _whole(site, "%")
    return known if known is not None else f"torch.remainder({site.ref(0)}, {site.operand(1)})"


def _compare(sign: str) -> Emit:
    def emit(site: Site) -> Result:
        if site.kind() == np.dtype(object):
            raise site.refused("PyTorch has no tensors of strings")
        a, b = _operands(site)
        return f"{a} {sign} {b}"

    return emit


def _logical(sign: str) -> Emit:
    def emit(site: Site) -> Result:
        a, b = _operands(site)
        return f"{a} {sign} {b}"

    return emit


def _shift(site: Site) -> Result:
    sign = "<<" if site.attr("direction") == "LEFT" else ">>"
    return f"{site.operand(0)} {sign} {site.operand(1)}"


def _extreme(function: str, bound: str) -> Emit:
    """The elementwise maximum or minimum of any number of operands."""

    def emit(site: Site) -> Result:
        if len(site.node.inputs) == 2:  # noqa: PLR2004
            known = _extreme_whole(site, function[:3])
            if known is not None:
                return known
            texts = [site.operand(0), site.operand(1)]
            for a, place in ((texts[1], 0), (texts[0], 1)):
                if not values_in(a) and not paths_in(a):
                    return f"torch.clamp({texts[place]}, {bound}={a})"
        found = site.ref(0)
        for place in range(1, len(site.node.inputs)):
            found = f"torch.{function}({found}, {site.ref(place)})"
        return found if len(site.node.inputs) > 1 else site.value(0)

    return emit


def _extreme_whole(site: Site, name: str) -> Ints | None:
    a, b = site.ints(0), site.ints(1)
    if a is None or b is None or len(a.items) != len(b.items):
        return None
    pairs = zip(a.items, b.items, strict=True)
    return Ints(tuple(Whole(f"{name}({p}, {q})") for p, q in pairs), max(a.rank, b.rank))


def _sum(site: Site) -> Result:
    if len(site.node.inputs) == 1:
        return site.value(0)
    return " + ".join(site.ref(k) for k in range(len(site.node.inputs)))


def _mean(site: Site) -> Result:
    count = len(site.node.inputs)
    if count == 1:
        return site.value(0)
    return f"({' + '.join(site.ref(k) for k in range(count))}) / {count}"


def _where(site: Site) -> Result:
    pair = [site.operand(k) if site.rank(k) == 0 else site.ref(k) for k in (1, 2)]
    return f"torch.where({site.ref(0)}, {pair[0]}, {pair[1]})"


def _matmul(site: Site) -> Result:
    return f"{site.ref(0)} @ {site.ref(1, weight=True)}"


def _einsum(site: Site) -> Result:
    operands = ", ".join(site.ref(k) for k in range(len(site.node.inputs)))
    return f'torch.einsum("{site.attr("equation")}", {operands})'


# Reductions


def axes_of(site: Site, since: int) -> list[int] | None:
    """The axes of a reduction, an attribute or an operand; all of them if none are given.

    None where nothing is to be reduced.
    """
    given = site.attr("axes")
    if given is None and site.version >= since and site.has(1):
        known = site.ints(1)
        if known is None or known.known is None:
            raise site.refused("its axes are not constant")
        given = known.known
    if not given:
        return None if site.attr("noop_with_empty_axes", 0) else list(range(site.rank()))
    return sorted(a % site.rank() if a < 0 else a for a in given)


def _reduction(template: str, since: int = 18, wide: str = "") -> Emit:
    """``template`` has the operand, the axes and keepdim; ``wide`` what whole numbers need."""

    def emit(site: Site) -> Result:
        axes = axes_of(site, since)
        if axes is None:
            return _unreduced(site)
        keep = ", keepdim=True" if site.attr("keepdims", 1) else ""
        whole = site.kind().kind in "iu"
        kind = f", dtype={torch_dtype(site.dtype())}" if whole and wide else ""
        dims = str(axes[0]) if len(axes) == 1 else f"({', '.join(map(str, axes))})"
        return template.format(x=site.ref(0), axes=dims, keep=keep, kind=kind)

    return emit


def _unreduced(site: Site) -> Result:
    x = site.ref(0)
    forms = {
        "ReduceL1": "torch.abs({})",
        "ReduceL2": "torch.abs({})",
        "ReduceSumSquare": "{0} * {0}",
    }
    forms["ReduceLogSum"] = "torch.log({})"
    form = forms.get(site.node.op.name)
    return form.format(x) if form else site.value(0)


def _reduce_prod(site: Site) -> Result:
    known = site.ints(0)
    if known is not None and known.rank and site.rank() == 1:
        return Ints((_product(known.items),), int(bool(site.attr("keepdims", 1))))
    axes = axes_of(site, 18)
    if axes is None:
        return site.value(0)
    keep = ", keepdim=True" if site.attr("keepdims", 1) else ""
    whole = site.kind().kind in "iu"
    kind = f", dtype={torch_dtype(site.dtype())}" if whole else ""
    found = site.ref(0)
    for axis in reversed(axes):
        found = f"{found}.prod({axis}{keep}{kind})"
    return found


def _product(items: tuple[Int, ...]) -> Int:
    found: Int = 1
    for item in items:
        product = _one("*", found, item)
        assert product is not None
        found = product
    return found


def product_of(items: tuple[Int, ...]) -> Int:
    """The product of plain numbers."""
    return _product(items)


def _arg(function: str) -> Emit:
    def emit(site: Site) -> Result:
        axis, keep = site.axis(0), ", keepdim=True" if site.attr("keepdims", 1) else ""
        if not site.attr("select_last_index", 0):
            return f"{site.ref(0)}.{function}({axis}{keep})"
        x = site.ref(0)
        return f"{x}.shape[{axis}] - 1 - {x}.flip({axis}).{function}({axis}{keep})"

    return emit


def _cumsum(site: Site) -> Result:
    axis = site.number(1)
    x, kind = site.ref(0), f", dtype={torch_dtype(site.dtype())}"
    if site.attr("reverse", 0):
        x = site.let(f"{x}.flip({axis})")
    found = f"torch.cumsum({x}, {axis}{kind})"
    if site.attr("exclusive", 0):
        found = f"{found} - {x}"
    return f"({found}).flip({axis})" if site.attr("reverse", 0) else found


def _norm(site: Site) -> Result:
    x, p = site.ref(0), site.attr("p", 2)
    return f"{x} / torch.linalg.vector_norm({x}, {p}, {site.axis(-1)}, keepdim=True)"


def _mean_variance(site: Site) -> Result:
    axes = tuple(site.attr("axes", (0, 2, 3)))
    x = site.let(f"{site.ref(0)} - {site.ref(0)}.mean({axes}, keepdim=True)")
    return f"{x} / (torch.sqrt(({x} * {x}).mean({axes}, keepdim=True)) + 1e-9)"


def _top_k(site: Site) -> Result:
    count = str(site.attr("k")) if site.attr("k") is not None else site.number(1)
    largest = bool(site.attr("largest", 1))
    call = f"{site.helper('top_k')}({site.ref(0)}, {count}, {site.axis(-1)}, largest={largest})"
    return site.lets(call, 2)


def _trilu(site: Site) -> Result:
    function = "triu" if site.attr("upper", 1) else "tril"
    diagonal = f", {site.number(1)}" if site.has(1) else ""
    return f"torch.{function}({site.ref(0)}{diagonal})"


# Random numbers


def _random_like(site: Site) -> Result:
    kind = (
        f", dtype={torch_dtype(protos.dtype_from(site.attr('dtype')))}"
        if site.attr("dtype")
        else ""
    )
    return _scaled(site, "{}_like(" + site.ref(0) + kind + ")")


def _random(site: Site) -> Result:
    dtype = torch_dtype(protos.dtype_from(site.attr("dtype", 1)))
    return _scaled(site, f"{{}}({tuple(site.attr('shape'))}, dtype={dtype}{site.device()})")


def _scaled(site: Site, template: str) -> str:
    if "Uniform" in site.node.op.name:
        low, high = site.attr("low", 0.0), site.attr("high", 1.0)
        found, scale, shift = template.format("torch.rand"), high - low, low
    else:
        found = template.format("torch.randn")
        scale, shift = site.attr("scale", 1.0), site.attr("mean", 0.0)
    found = found if scale == 1 else f"{found} * {_short(scale)}"
    return found if shift == 0 else f"{found} + {_short(shift)}"


def _bernoulli(site: Site) -> Result:
    return f"torch.bernoulli({site.ref(0)})"


# Quantised arithmetic


def _along(site: Site, place: int, axis: int) -> str:
    """A scale or zero point, aligned with an axis of operand 0."""
    if site.rank(place) == 0 or (site.size(place, 0) == 1 and site.rank(place) == 1):
        array = site.array(place)
        return literal(array.reshape(-1)[0]) if array is not None else site.ref(place)
    behind = site.rank(0) - axis - 1
    text = site.ref(place)
    return f"{text}[{', '.join([':', *['None'] * behind])}]" if behind else text


def _blocked(site: Site) -> None:
    if site.attr("block_size", 0):
        raise site.refused("it scales blocks of elements")


def _quantize(site: Site) -> Result:
    _blocked(site)
    axis = site.axis(1) if site.rank() else 0
    dtype = site.dtype(2) if site.has(2) else np.dtype(np.uint8)
    zero = _along(site, 2, axis) if site.has(2) else "0"
    return _stored(site, f"{site.ref(0)} / {_along(site, 1, axis)}", zero, dtype)


def _stored(site: Site, text: str, zero: str, dtype: np.dtype[Any]) -> str:
    """Numbers rounded to the nearest that ``dtype`` holds, ties to even."""
    try:
        kind = torch_dtype(dtype)
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    except (Unsupported, ValueError):
        raise site.refused(f"it gives {dtype.name}") from None
    shifted = f"torch.round({text})" if zero == "0" else f"torch.round({text}) + {zero}"
    return f"torch.clamp({shifted}, {low}, {high}).to({kind})"


def _dequantize(site: Site) -> Result:
    _blocked(site)
    axis = site.axis(1) if site.rank() else 0
    scale = _along(site, 1, axis)
    kind = torch_dtype(site.dtype(1))
    if not site.has(2):
        return f"{site.ref(0)}.to({kind}) * {scale}"
    zero = _along(site, 2, axis)
    return f"({site.ref(0)}.to({kind}) - {zero}) * {scale}"


def _dynamic_quantize(site: Site) -> Result:
    return site.lets(f"{site.helper('dynamic_quantize')}({site.ref(0)})", 3)


def exact(site: Site, place: int, zero: int, behind: int = 0) -> str:
    """A quantised operand less its zero point, in float64, where sums of products are exact."""
    text = f"{site.ref(place)}.to(torch.float64)"
    if not site.has(zero):
        return text
    array = site.array(zero)
    if array is not None and not np.any(array):
        return text
    return f"({text} - {vector(site, zero, behind)})"


def vector(site: Site, place: int, behind: int) -> str:
    """One number, or one for each channel with ``behind`` axes behind it."""
    array = site.array(place)
    if array is not None and array.size == 1:
        return literal(array.reshape(-1)[0])
    text = site.ref(place)
    many = site.rank(place) == 1 and site.size(place, 0) != 1
    return f"{text}[{', '.join([':', *['None'] * behind])}]" if many and behind else text


def requantized(site: Site, text: str, scales: tuple[str, str, str], zero: int) -> str:
    """Sums of products, in the scale of the result."""
    a, b, c = scales
    total = site.let(f"{text}.to(torch.float32)")
    scale = site.let(f"{a} * {b} / {c}")
    return _stored(site, f"{total} * {scale}", vector(site, zero, 0), site.dtype(zero))


def _qlinear_matmul(site: Site) -> Result:
    product = f"({exact(site, 0, 2)} @ {exact(site, 3, 5)})"
    return requantized(site, product, tuple(vector(site, k, 0) for k in (1, 4, 6)), 7)  # type: ignore[arg-type]


def _matmul_integer(site: Site) -> Result:
    return f"({exact(site, 0, 2)} @ {exact(site, 1, 3)}).to(torch.int32)"


def _qlinear_add(site: Site) -> Result:
    parts = []
    for place in (0, 3):
        zero = vector(site, place + 2, 0) if site.has(place + 2) else "0"
        parts.append(
            f"({site.ref(place)}.to(torch.float32) - {zero}) * {vector(site, place + 1, 0)}"
        )
    total = f"({parts[0]} + {parts[1]}) / {vector(site, 6, 0)}"
    zero = vector(site, 7, 0) if site.has(7) else "0"
    return _stored(site, total, zero, site.dtype(0))


# Control flow


def _if(site: Site) -> Result:
    then, other = site.attr("then_branch"), site.attr("else_branch")
    condition = site.array(0)
    if condition is not None:
        return site.inline(then if bool(condition.reshape(-1)[0]) else other)
    calls = []
    for graph, kind in ((then, "then_branch"), (other, "else_branch")):
        path, given = site.inner(graph, kind)
        calls.append(f"{path}({', '.join(given)})")
    return f"{calls[0]} if {_condition(site, 0)} else {calls[1]}"


def _condition(site: Site, place: int, *, negated: bool = False) -> str:
    """A condition, in plain numbers where it compares plain numbers."""
    node = site.value(place).node
    inner = Site(site.scene, node) if node is not None else None
    if node is not None and inner is not None and node.op.name == "Equal":
        a, b = inner.ints(0), inner.ints(1)
        if a is not None and b is not None and len(a.items) == len(b.items) == 1:
            return f"{a} {'!=' if negated else '=='} {b}"
    if node is not None and inner is not None and node.op.name == "Not":
        return _condition(inner, 0, negated=not negated)
    return f"not {site.ref(place)}" if negated else site.ref(place)


def _loop(site: Site) -> Result:
    path, given = site.inner(site.attr("body"), "body")
    captured = len(site.attr("captures", ()))
    own = range(2, len(site.node.inputs) - captured)
    trips = site.number(0) if site.has(0) else "None"
    go = site.ref(1) if site.has(1) else "True"
    carried = ", ".join(site.ref(k) for k in own)
    more = "".join(f", {g}" for g in given)
    state = f"[{carried}]"
    call = f"{site.helper('loop')}({path}, {trips}, {go}, {state}{more})"
    return f"{call}[0]" if site.node.arity == 1 else call


def _unary_entries() -> dict[str, Emit]:
    return {name: _call(text, _LAYERS.get(name)) for name, text in _CALLS.items()}


TABLE: dict[str, Emit] = {
    **_unary_entries(),
    "Add": _binary("+"),
    "And": _logical("&"),
    "ArgMax": _arg("argmax"),
    "ArgMin": _arg("argmin"),
    "Bernoulli": _bernoulli,
    "BitShift": _shift,
    "BitwiseAnd": _logical("&"),
    "BitwiseOr": _logical("|"),
    "BitwiseXor": _logical("^"),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Celu": _celu,
    "Clip": _clip,
    "CumSum": _cumsum,
    "DequantizeLinear": _dequantize,
    "Div": _div,
    "Dropout": _dropout,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "Einsum": _einsum,
    "Elu": _with_number("ELU", "elu", "alpha", 1.0),
    "Equal": _compare("=="),
    "Gelu": _gelu,
    "Greater": _compare(">"),
    "GreaterOrEqual": _compare(">="),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Hardmax": _hardmax,
    "Identity": _identity,
    "If": _if,
    "IsInf": _is_inf,
    "LeakyRelu": _with_number("LeakyReLU", "leaky_relu", "alpha", 0.01),
    "Less": _compare("<"),
    "LessOrEqual": _compare("<="),
    "LogSoftmax": _softmax("LogSoftmax", "F.log_softmax"),
    "Loop": _loop,
    "LpNormalization": _norm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul_integer,
    "Max": _extreme("maximum", "min"),
    "Mean": _mean,
    "MeanVarianceNormalization": _mean_variance,
    "Min": _extreme("minimum", "max"),
    "Mish": _mish,
    "Mod": _mod,
    "Mul": _mul,
    "Neg": _neg,
    "Or": _logical("|"),
    "Pow": _pow,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize,
    "RandomNormal": _random,
    "RandomNormalLike": _random_like,
    "RandomUniform": _random,
    "RandomUniformLike": _random_like,
    "ReduceL1": _reduction("{x}.abs().sum({axes}{keep}{kind})", wide="yes"),
    "ReduceL2": _reduction("torch.linalg.vector_norm({x}, 2, {axes}{keep})"),
    "ReduceLogSum": _reduction("torch.log({x}.sum({axes}{keep}))"),
    "ReduceLogSumExp": _reduction("torch.logsumexp({x}, {axes}{keep})"),
    "ReduceMax": _reduction("{x}.amax({axes}{keep})"),
    "ReduceMean": _reduction("{x}.mean({axes}{keep})"),
    "ReduceMin": _reduction("{x}.amin({axes}{keep})"),
    "ReduceProd": _reduce_prod,
    "ReduceSum": _reduction("{x}.sum({axes}{keep}{kind})", since=13, wide="yes"),
    "ReduceSumSquare": _reduction("({x} * {x}).sum({axes}{keep}{kind})", wide="yes"),
    "Relu": _relu,
    "Selu": _selu,
    "Shrink": _shrink,
    "Softmax": _softmax("Softmax", "F.softmax"),
    "Softplus": _softplus,
    "Softsign": _softsign,
    "Sub": _binary("-"),
    "Sum": _sum,
    "Swish": _swish,
    "ThresholdedRelu": _thresholded,
    "TopK": _top_k,
    "Trilu": _trilu,
    "Where": _where,
    "Xor": _logical("^"),
    "com.microsoft.QLinearAdd": _qlinear_add,
}

__all__ = ["TABLE", "Node", "axes_of", "exact", "product_of", "requantized", "vector"]
