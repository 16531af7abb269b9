"""PyTorch operators that no rule lowers, as the simpler ones that torch itself makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from redir.frontends.torch.aten import rule_of

_PRIMS = frozenset("split_dim collapse_view view_of".split())
"""What torch writes its own decompositions with and the table has rules for."""


def graph_of(torch: Any, target: Any, node: Any) -> Any:
    """The graph of what torch computes the operator ``target`` by at ``node``, or None.

    Its placeholders stand for the tensors among the arguments, in order. It holds for all sizes
    that are open: where torch asks for one of them, there is no graph.
    """
    decompose = _decomposition(torch, target)
    args, spec = torch.utils._pytree.tree_flatten((_values(node.args), _values(node.kwargs)))
    places = [i for i, a in enumerate(args) if isinstance(a, torch.Tensor)]
    open_number = (torch.SymInt, torch.SymFloat, torch.SymBool)
    if decompose is None or any(isinstance(a, open_number) for a in args):
        return None

    def call(*tensors: Any) -> Any:
        given = list(args)
        for place, tensor in zip(places, tensors, strict=True):
            given[place] = tensor
        positional, named = torch.utils._pytree.tree_unflatten(given, spec)
        found = decompose(*positional, **named)
        return tuple(found) if isinstance(found, tuple) else found  # a named one would be a call

    tensors = [args[i] for i in places]
    try:
        with torch.no_grad(), _sizes_left_open(tensors):
            made = torch.fx.experimental.proxy_tensor.make_fx(call, _table(torch))(*tensors)
    except Exception:  # noqa: BLE001 - whatever a decomposition raises
        return None
    calls = [n.target for n in made.graph.nodes if n.op == "call_function"]
    return None if target in calls else made


def runs(torch: Any, node: Any) -> bool:
    """Whether torch takes a node's operands, and gives what the program states."""
    args, kwargs = _values(node.args), _values(node.kwargs)
    try:
        with torch._guards.detect_fake_mode((args, kwargs, node.meta["val"])):
            found = node.target(*args, **kwargs)
    except Exception:  # noqa: BLE001 - whatever an operator raises on what does not fit it
        return False
    return _types(torch, found) == _types(torch, node.meta["val"])


def _types(torch: Any, held: Any) -> list[tuple[Any, str]]:
    leaves = torch.utils._pytree.tree_leaves(held)
    return [(x.dtype, str(x.shape)) for x in leaves if isinstance(x, torch.Tensor)]


def functional(torch: Any, target: Any) -> Any:
    """The operator that gives what ``target`` writes to its first operand, or None."""
    schema = target._schema
    space, _, name = schema.name.partition("::")
    if not name.endswith("_"):
        return None
    packet = getattr(getattr(torch.ops, space), name.removesuffix("_"), None)
    return getattr(packet, schema.overload_name or "default", None)


@contextmanager
def _sizes_left_open(tensors: Sequence[Any]) -> Iterator[None]:
    """An error where torch would settle one of the open sizes of the tensors."""
    with ExitStack() as stack:
        for env in {t.fake_mode.shape_env for t in tensors} - {None}:
            stack.enter_context(env.error_on_new_guards())
        yield


def _table(torch: Any) -> dict[Any, Any]:
    """What torch makes of each operator that has no rule, nor has the one that it writes by."""
    made = torch._decomp.decomposition_table
    named = {op: name_of(op) for op in made}
    return {
        op: made[op]
        for op, (name, overload) in named.items()
        if rule_of(name.removesuffix("_"), overload) is None
    }


def tensors_of(node: Any) -> list[Any]:
    """The nodes among the arguments of ``node`` that give tensors, in order."""
    found: list[Any] = []

    def note(held: Any) -> None:
        if isinstance(held, tuple | list):
            for part in held:
                note(part)
        elif isinstance(getattr(held, "meta", None), dict) and hasattr(held.meta["val"], "dim"):
            found.append(held)

    note([*node.args, *node.kwargs.values()])
    return found


def name_of(target: Any) -> tuple[str, str]:
    """The name and the overload of an operator, empty if it is not one of torch's own."""
    schema: Any = getattr(target, "_schema", None)
    if schema is None:
        return "", ""
    space, _, name = schema.name.rpartition("::")
    known = space == "aten" or (space == "prims" and name in _PRIMS)
    return (name, schema.overload_name or "default") if known else ("", "")


def _decomposition(torch: Any, target: Any) -> Any:
    found = torch._decomp.decomposition_table.get(target)
    if found is not None or not isinstance(target, torch._ops.OpOverload):
        return found
    return target.decompose if target.has_kernel_for_dispatch_key(_composite(torch)) else None


def _composite(torch: Any) -> Any:
    return torch._C.DispatchKey.CompositeImplicitAutograd


def _values(held: Any) -> Any:
    """Arguments with the values of nodes in their place."""
    if isinstance(held, tuple | list):
        return type(held)(map(_values, held))
    if isinstance(held, dict):
        return {name: _values(part) for name, part in held.items()}
    meta = getattr(held, "meta", None)
    return meta["val"] if isinstance(meta, dict) else held
