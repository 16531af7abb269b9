"""What arithmetic on several operands becomes in PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from redir.backends.torch.emit.literals import Int, Ints, Whole, literal, torch_dtype, wrapped
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.backends.torch.emit.text import paths_in, values_in


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
    items = [one_whole(sign, p, q) for p, q in pairs]
    if any(i is None for i in items):
        return None
    kind = site.dtype()
    return Ints(tuple(wrapped(i, kind) for i in items if i is not None), max(a.rank, b.rank))


def one_whole(sign: str, a: Int, b: Int) -> Int | None:
    """What two whole numbers give, shown where forward computes it; none if Python has another."""
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


def _plain(sign: str) -> Emit:
    """An operator that is never held in plain numbers."""
    return lambda site: f" {sign} ".join(_operands(site))


def _compare(sign: str) -> Emit:
    def emit(site: Site) -> Result:
        if site.kind() == np.dtype(object):
            raise site.refused("PyTorch has no tensors of strings")
        return _plain(sign)(site)

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
    return " + ".join(_all(site)) if len(site.node.inputs) > 1 else site.value(0)


def _mean(site: Site) -> Result:
    count = len(site.node.inputs)
    return f"({_sum(site)}) / {count}" if count > 1 else site.value(0)


def _all(site: Site) -> list[str]:
    return [site.ref(k) for k in range(len(site.node.inputs))]


def _where(site: Site) -> Result:
    pair = [site.operand(k) if site.rank(k) == 0 else site.ref(k) for k in (1, 2)]
    return f"torch.where({site.ref(0)}, {pair[0]}, {pair[1]})"


def _einsum(site: Site) -> Result:
    return f'torch.einsum("{site.attr("equation")}", {", ".join(_all(site))})'


TABLE: dict[str, Emit] = {
    "Add": _binary("+"),
    "And": _plain("&"),
    "BitShift": _shift,
    "BitwiseAnd": _plain("&"),
    "BitwiseOr": _plain("|"),
    "BitwiseXor": _plain("^"),
    "Div": _div,
    "Einsum": _einsum,
    "Equal": _compare("=="),
    "Greater": _compare(">"),
    "GreaterOrEqual": _compare(">="),
    "Less": _compare("<"),
    "LessOrEqual": _compare("<="),
    "Max": _extreme("maximum", "min"),
    "Mean": _mean,
    "Min": _extreme("minimum", "max"),
    "Mod": _mod,
    "Mul": _mul,
    "Or": _plain("|"),
    "Pow": _pow,
    "Sub": _binary("-"),
    "Sum": _sum,
    "Where": _where,
    "Xor": _plain("^"),
}
