"""Control flow: bodies are graphs, and what they capture is an operand like any other.

The last operands of a node are what its bodies capture, under the names in ``captures``; a body
has its own inputs first and then one for each capture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from redir.errors import IllTyped, Unsupported
from redir.ir import Graph, Node, limits
from redir.ir.builtin import is_absent
from redir.ir.interpreter import evaluate
from redir.ir.tensor import UNKNOWN, Array, TensorType, Type
from redir.ops import schema


def captures(node: Node) -> tuple[str, ...]:
    """The names under which the bodies of ``node`` see its last operands."""
    names: tuple[str, ...] = node.attrs.get("captures", ()) if node.bodies else ()
    return names


def _captured(node: Node, arrays: Sequence[Any]) -> Mapping[str, Array]:
    names = captures(node)
    return dict(zip(names, arrays[len(arrays) - len(names) :], strict=True))


def _own(node: Node, arrays: Sequence[Any]) -> list[Any]:
    return list(arrays[: len(arrays) - len(captures(node))])


def _body(node: Node, name: str = "body") -> Graph:
    body = node.attrs[name]
    assert isinstance(body, Graph)
    return body


def _call(body: Graph, given: Sequence[Any], captured: Mapping[str, Array]) -> list[Any]:
    limits.step(len(body.nodes))
    own = [name for name in body.inputs if name not in captured]
    return list(evaluate(body, {**dict(zip(own, given, strict=True)), **captured}).values())


def unify(a: Type, b: Type) -> Type:
    """What two types have in common."""
    if (
        a == b
        or a.dtype != b.dtype
        or not (isinstance(a, TensorType) and isinstance(b, TensorType))
    ):
        return a if a == b else UNKNOWN
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return TensorType(a.dtype)
    dims = zip(a.shape, b.shape, strict=True)
    return TensorType(a.dtype, tuple(i if i == j else None for i, j in dims))


def if_type(node: Node) -> Sequence[Type]:
    """What both branches agree on."""
    then, other = (_body(node, b).outputs.values() for b in ("then_branch", "else_branch"))
    if len(then) != len(other):
        raise IllTyped(f"{node}: its branches have {len(then)} and {len(other)} results")
    return [unify(a.type, b.type) for a, b in zip(then, other, strict=True)]


def run_if(node: Node, *arrays: Any) -> Sequence[Any]:
    """The branch that the condition takes."""
    branch = "then_branch" if np.asarray(arrays[0]).item() else "else_branch"
    return _call(_body(node, branch), [], _captured(node, arrays))


def _longer(type_: Type, axis: int = 0) -> Type:
    if not isinstance(type_, TensorType) or type_.shape is None:
        return TensorType(type_.dtype)
    place = axis % (len(type_.shape) + 1)
    return TensorType(type_.dtype, (*type_.shape[:place], None, *type_.shape[place:]))


def loop_type(node: Node) -> Sequence[Type]:
    """Carried values keep what start and body agree on; scanned ones get a first axis."""
    start = [v.type for v in _own(node, node.inputs)[2:]]
    _, *ends = (v.type for v in _body(node).outputs.values())
    carried = [unify(a, b) for a, b in zip(start, ends, strict=False)]
    return [*carried, *map(_longer, ends[len(start) :])]


def run_loop(node: Node, *arrays: Any) -> Sequence[Any]:
    """Iterate the body, and stack what it emits."""
    trips, go, *carried = _own(node, arrays)
    limit = np.inf if trips is None else np.asarray(trips).item()
    going, count, scanned = go is None or np.asarray(go).item(), 0, []
    while going and count < limit:
        given = [np.array(count, np.int64), np.array(going), *carried]
        go, *out = _call(_body(node), given, _captured(node, arrays))
        carried, emitted = out[: len(carried)], out[len(carried) :]
        scanned.append(emitted)
        limits.ask(sum(np.asarray(e).nbytes for e in emitted) * len(scanned), str(node))
        going, count = np.asarray(go).item(), count + 1
    many = node.arity - len(carried)
    return [
        *carried,
        *(_stack(node, [s[k] for s in scanned], len(carried) + k) for k in range(many)),
    ]


def _stack(node: Node, parts: list[Array], output: int) -> Array:
    if parts:
        return np.stack(parts)
    type_ = node.outputs[output].type
    shape = [d if isinstance(d, int) else 0 for d in type_.shape or (0,)]
    return np.zeros([0, *shape[1:]], type_.dtype)


def scan_type(node: Node) -> Sequence[Type]:
    """States keep their type; scanned outputs get the axis they are stacked along."""
    if node.op.version < 9 or any(is_absent(v) for v in node.inputs):  # noqa: PLR2004
        return [UNKNOWN] * node.arity
    states = len(_own(node, node.inputs)) - _scanned(node)
    ends = [v.type for v in _body(node).outputs.values()]
    start = [v.type for v in node.inputs[:states]]
    axes = _ints(node, "scan_output_axes", len(ends) - states)
    scans = [_longer(t, a) for t, a in zip(ends[states:], axes, strict=True)]
    return [*(unify(a, b) for a, b in zip(start, ends, strict=False)), *scans]


def _scanned(node: Node) -> int:
    count = node.attrs["num_scan_inputs"]
    assert isinstance(count, int)
    return count


def _ints(node: Node, name: str, count: int) -> tuple[int, ...]:
    numbers: tuple[int, ...] = node.attrs.get(name, (0,) * count)
    return numbers


def run_scan(node: Node, *arrays: Any) -> Sequence[Any]:
    """Run the body on each slice of the scanned inputs, and stack what it emits."""
    if node.op.version < 9:  # noqa: PLR2004
        raise Unsupported(f"{node}: Scan before opset 9 cannot be run")
    own, count = _own(node, arrays), _scanned(node)
    state, scanned = own[: len(own) - count], own[len(own) - count :]
    axes = _ints(node, "scan_input_axes", count)
    back = _ints(node, "scan_input_directions", count)
    moved = [
        np.moveaxis(x, a, 0)[:: -1 if r else 1] for x, a, r in zip(scanned, axes, back, strict=True)
    ]
    emitted = []
    for given in zip(*moved, strict=True):
        out = _call(_body(node), [*state, *given], _captured(node, arrays))
        state, rest = out[: len(state)], out[len(state) :]
        emitted.append(rest)
    many = node.arity - len(state)
    stacked = [_stack(node, [e[k] for e in emitted], len(state) + k) for k in range(many)]
    return [*state, *(_placed(node, a, k) for k, a in enumerate(stacked))]


def _placed(node: Node, stacked: Array, k: int) -> Array:
    many = k + 1
    turned = stacked[::-1] if (*_ints(node, "scan_output_directions", many), 0)[k] else stacked
    return np.moveaxis(turned, 0, _ints(node, "scan_output_axes", many)[k])


def body_type(node: Node) -> Sequence[Type]:
    """Nothing: the types of any other operator with a body come from its file."""
    return [UNKNOWN] * node.arity


def run_body(node: Node, *arrays: Any) -> Sequence[Any]:
    """Apply the body of a SequenceMap to each element of its sequences."""
    if node.op.name != "SequenceMap":
        return schema.evaluate(node, *arrays)
    first, *others = _own(node, arrays)
    out = [
        _call(
            _body(node),
            [item, *(o[i] if isinstance(o, list) else o for o in others)],
            _captured(node, arrays),
        )
        for i, item in enumerate(first)
    ]
    return [[o[k] for o in out] for k in range(node.arity)]
