"""What looking up and writing by index becomes in PyTorch."""

from __future__ import annotations

from redir.backends.torch.emit.literals import Ints, bare, literal, torch_dtype
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.ir import Node

_PARTS = 4  # no more are unpacked in one statement


def _gather(site: Site) -> Result:
    axis, known = site.attr("axis", 0), site.ints(1)
    whole = site.ints(0)
    if whole is not None and whole.rank and known is not None and known.known is not None:
        size = len(whole.items)
        if not all(-size <= i < size for i in known.known):
            raise site.refused(f"an index is not one of {size}")
        return Ints(tuple(whole.items[i] for i in known.known), known.rank)
    if axis < 0:
        axis = site.axis(0)
    if _is_embedding(site, axis):
        return _embedding(site)
    x, before = site.ref(0, weight=_is_table(site)), ":, " * axis
    if known is not None and known.rank == 0:
        parts = _all_parts(site, axis)
        return site.unpacked(x if axis == 0 else f"{x}.unbind({axis})", parts) or (
            f"{x}[{before}{bare(known.items[0])}]"
        )
    if known is not None and known.known is not None:
        run = _run(known.known)
        return f"{x}[{before}{run}]" if run else f"{x}[{before}[{known}]]"
    return f"{x}[{before}{site.ref(1)}]"


def _run(numbers: tuple[int, ...]) -> str | None:
    """A slice that gives the same as a list of indices, one after the other."""
    if not numbers or numbers != tuple(range(numbers[0], numbers[0] + len(numbers))):
        return None
    return f"{numbers[0] or ''}:{numbers[-1] + 1}" if numbers[0] >= 0 else None


def _is_table(site: Site) -> bool:
    array = site.array(0)
    return array is not None and array.dtype.kind in "fV" and array.ndim == 2  # noqa: PLR2004


def _is_embedding(site: Site, axis: int) -> bool:
    name = site.scene.constants.get(site.value(0), (None, ""))[1]
    named = name.endswith(".weight") or "embedding" in name.lower()
    return axis == 0 and _is_table(site) and site.array(1) is None and named and site.owned(0)


def _embedding(site: Site) -> str:
    array = site.array(0)
    assert array is not None
    rows, width = array.shape
    layer = site.layer(
        f"nn.Embedding({rows}, {width})", "embedding", {"weight": (array, site.value(0))}
    )
    return f"{layer}({site.ref(1)})"


def _indices(site: Site, axis: int) -> str:
    """The indices of operand 1, which may be counted from the end."""
    array, size = site.array(1), site.size(0, axis)
    if array is not None and (array >= 0).all():
        return site.ref(1)
    x, y = site.ref(1), f"{site.ref(0)}.shape[{axis}]" if size is None else str(size)
    return f"torch.where({x} < 0, {x} + {y}, {x})"


def _gather_elements(site: Site) -> Result:
    axis = site.axis(0)
    return f"torch.gather({site.ref(0)}, {axis}, {_indices(site, axis)})"


def _gather_nd(site: Site) -> Result:
    batch = site.attr("batch_dims", 0)
    return f"{site.helper('gather_nd')}({site.ref(0)}, {site.ref(1)}, {batch})"


def _all_parts(site: Site, axis: int) -> list[Node]:
    """What reads the operand, if each takes one part along an axis, and together they take all."""
    count, nodes = site.size(0, axis), site.scene.readers(site.value(0))
    if count is None or not 1 < count <= _PARTS or len(nodes) != count:
        return []
    sites = [Site(site.scene, node) for node in nodes]
    same = all(n.op == site.node.op and n.attrs == site.node.attrs for n in nodes)
    taken = [s.ints(1) for s in sites] if same else []
    places = {k.items[0]: s.node for k, s in zip(taken, sites, strict=False) if k and not k.rank}
    return [places[k] for k in range(count)] if places.keys() == set(range(count)) else []


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(site: Site) -> Result:
    axis, how = site.axis(0), site.attr("reduction", "none")
    start = f"{site.ref(0)}.scatter"
    operands = f"{axis}, {_indices(site, axis)}, {site.ref(2)}"
    return (
        f"{start}({operands})" if how == "none" else f'{start}_reduce({operands}, "{_REDUCE[how]}")'
    )


def _scatter_nd(site: Site) -> Result:
    how = site.attr("reduction", "none")
    if how not in ("none", "add"):
        raise site.refused(f"reduction {how!r}")
    more = ", accumulate=True" if how == "add" else ""
    operands = ", ".join(site.ref(k) for k in range(3))
    return f"{site.helper('scatter_nd')}({operands}{more})"


def _one_hot(site: Site) -> Result:
    depth, axis = site.number(1), site.attr("axis", -1)
    ids = site.ref(0)
    values = site.array(2)
    hot = site.let(f"{site.helper('one_hot')}({ids}, {depth}, {axis})")
    if values is None:
        return f"torch.where({hot}, {site.ref(2)}[1], {site.ref(2)}[0])"
    off, on = (literal(n) for n in values.reshape(-1))
    kind = torch_dtype(values.dtype)
    if (float(off), float(on)) == (0, 1):
        return f"{hot}.to({kind})"
    return f"torch.where({hot}, {on}, {off}).to({kind})"


def _compress(site: Site) -> Result:
    where = f"torch.nonzero({site.ref(1)})[:, 0]"
    if site.attr("axis") is None:
        return f"{site.ref(0)}.flatten()[{where}]"
    return f"{site.ref(0)}.index_select({site.axis(0)}, {where})"


TABLE: dict[str, Emit] = {
    "Compress": _compress,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
}
