"""What recurrent operators become in PyTorch: layers."""

from __future__ import annotations

import numpy as np

from redir.backends.torch.emit.site import Emit, Result, Site, Tensors
from redir.ir.tensor import Array

_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_USUAL = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}


def _folded(site: Site, place: int) -> Array:
    array = site.folded(place)
    assert array is not None
    return array


def _recurrent(site: Site) -> Result:
    kind, direction = site.node.op.name, site.attr("direction", "forward")
    many = 2 if direction == "bidirectional" else 1
    _refuse_odd(site, kind, many)
    if any(site.has(k) and site.folded(k) is None for k in (1, 2, 3)):
        raise site.refused("its weights are not constant")
    inputs, hidden = _folded(site, 1).shape[2], _folded(site, 2).shape[2]
    more = "" if site.has(3) else ", bias=False"
    more += ", bidirectional=True" if many > 1 else ""
    relu = "relu" in _activations(site)
    more += ', nonlinearity="relu"' if relu else ""
    tensors = _recurrent_tensors(site, kind, many)
    layer = site.layer(f"nn.{kind}({inputs}, {hidden}{more})", kind.lower(), tensors)
    return _recurrent_call(site, layer, kind, many)


def _activations(site: Site) -> tuple[str, ...]:
    return tuple(a.lower() for a in site.attr("activations", ()))


def _refuse_odd(site: Site, kind: str, many: int) -> None:
    """Refuse what torch's layers do not do."""
    given = _activations(site)
    if given and given != _USUAL[kind] * many and not (kind == "RNN" and set(given) == {"relu"}):
        raise site.refused(f"activations {', '.join(given)}")
    if kind == "GRU" and not site.attr("linear_before_reset", 0):
        raise site.refused("linear_before_reset=0")
    odd = next((name for name in ("clip", "input_forget") if site.attr(name)), None)
    lengths = site.array(4)
    whole = lengths is not None and bool((lengths == site.size(0, 0)).all())
    odd = odd or ("sequence_lens" if site.has(4) and not whole else None)
    odd = odd or ("peepholes" if site.has(7) else None)
    if odd:
        raise site.refused(odd)


def _recurrent_tensors(site: Site, kind: str, many: int) -> Tensors:
    """The weights of each way, their gates in torch's order."""
    parts = {"weight_ih": (_folded(site, 1), 1), "weight_hh": (_folded(site, 2), 2)}
    if site.has(3):
        first, second = np.split(_folded(site, 3), 2, 1)
        parts |= {"bias_ih": (first, 3), "bias_hh": (second, 3)}
    tensors: Tensors = {}
    for way in range(many):
        for name, (array, place) in parts.items():
            gates = np.split(array[way], len(_GATES[kind]), 0)
            turned = np.concatenate([gates[g] for g in _GATES[kind]])
            tensors[f"{name}_l0{'_reverse' * way}"] = (turned, site.value(place))
    return tensors


def _recurrent_call(site: Site, layer: str, kind: str, many: int) -> Result:
    """The call of the layer; ONNX keeps the ways apart where torch puts one behind the other."""
    last, reverse = bool(site.attr("layout", 0)), site.attr("direction") == "reverse"
    x = site.ref(0)
    x = site.let(f"{x}.transpose(0, 1)") if last else x
    x = site.let(f"{x}.flip(0)") if reverse else x
    state = _state(site, kind, last=last)
    pattern = "{}, ({}, {})" if kind == "LSTM" else "{}, {}"
    found = site.lets(f"{layer}({x}{state})", 3 if kind == "LSTM" else 2, pattern)
    y = f"{found[0]}.flip(0)" if reverse else found[0]
    split = f"{y}.unsqueeze(1)" if many == 1 else f"{y}.unflatten(-1, (2, -1)).transpose(1, 2)"
    first = f"{split}.permute(2, 0, 1, 3)" if last else split
    states: list[str] = [f"{f}.transpose(0, 1)" if last else f for f in found[1:]]
    return [first, *states][: site.node.arity]


def _state(site: Site, kind: str, *, last: bool) -> str:
    """The arguments for the states that it starts from."""
    given = {k: site.ref(k) for k in (5, 6) if site.has(k)}
    if last:
        given = {k: site.let(f"{g}.transpose(0, 1)") for k, g in given.items()}
    if not given:
        return ""
    if kind != "LSTM":
        return f", {given[5]}"
    zeros = f"torch.zeros_like({next(iter(given.values()))})"
    return f", ({given.get(5, zeros)}, {given.get(6, zeros)})"


TABLE: dict[str, Emit] = {
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "RNN": _recurrent,
}
