"""What control flow becomes in PyTorch."""

from __future__ import annotations

from redir.backends.torch.emit.literals import torch_dtype
from redir.backends.torch.emit.site import Emit, Result, Site


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
    if site.has(0) or site.has(1):
        more += _empty(site, len(own))
    state = f"[{carried}]"
    call = f"{site.helper('loop')}({path}, {trips}, {go}, {state}{more})"
    return f"{call}[0]" if site.node.arity == 1 else call


def _empty(site: Site, carried: int) -> str:
    """The argument for what a loop that never runs stacks, its open sizes 0 as in onnxruntime."""
    types = [v.type for v in list(site.attr("body").outputs.values())[1 + carried :]]
    shapes = [[d if isinstance(d, int) else 0 for d in t.shape or ()] for t in types]
    tensors = [
        f"torch.empty({[0, *shape]}, dtype={torch_dtype(t.dtype)}{site.device()})"
        for shape, t in zip(shapes, types, strict=True)
    ]
    return f", empty=[{', '.join(tensors)}]" if tensors else ""


TABLE: dict[str, Emit] = {
    "If": _if,
    "Loop": _loop,
}
