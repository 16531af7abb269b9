"""Compute once, now, what does not depend on the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redir import ops
from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.errors import BadPipeline, Unsupported
from redir.ir import Graph, Node, Source, Value, width
from redir.ir.interpreter import compute
from redir.ir.limits import nbytes
from redir.ir.rewriter import Visit, grafted, in_branches, opened, transform
from redir.ir.tensor import Array, Dim, Tensor, TensorType
from redir.ops import control, is_absent, tensor_of
from redir.passes.fold_constants.storage import Known, affordable, number, single_numbers
from redir.pipeline import Pass

Sizes = tuple[Dim | tuple[Value, int], ...]


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replace what can be computed from constants, and sizes that are known, by constants.

    An If whose condition is known becomes what is in the branch that it takes, and a call of a
    local function what is in that.

    A result larger than ``limit`` bytes is left to be computed, unless it is no larger than the
    constants it is computed from; so is what would make the graph store more numbers than it did.
    Only operators are computed of which runtimes agree in every version, and only on numbers on
    which they do (not where whole numbers are divided by zero, or a sum overflows); a
    DequantizeLinear, which keeps a weight small in its file, is none of them.
    """

    limit: int = 4096
    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH, NO_MORE_PARAMETERS)

    def __post_init__(self) -> None:
        """Refuse a limit below 0."""
        if self.limit < 0:
            raise BadPipeline(f"fold-constants: limit must be 0 or more, not {self.limit}")

    def run(self, graph: Graph) -> Graph:
        """Fold from inputs to outputs, in one sweep, and then leave what costs too much."""
        graph = in_branches(opened(graph), self.run)
        known, sizes, goals = Known(), dict[Value, Sizes](), dict[tuple[int, ...], Value]()
        singles = single_numbers(graph)

        def visit(node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
            body = _taken(node, inputs)
            if body is not None:
                return _inlined(node, inputs, body, visit)
            if node.op.domain or not node.repeatable or node.bodies:
                return None
            new = node.on(inputs)
            folded = self._folded(new)
            constants = _sized(new, sizes) if isinstance(folded, str) else folded
            if constants is not None:
                known.constants[node] = [singles.get(number(v), v) for v in constants]
                return known.constants[node]
            if new.outputs[0] in sizes:
                known.open.add(node)
            goal = _copied_sizes(new, sizes)
            if goal is not None:
                known.goals[node] = goals.setdefault(goal, ops.Const(value=_vector(goal)))
                new = new.on((new.inputs[0], known.goals[node]))
            return new.outputs

        return affordable(graph, known, transform(graph, visit))

    def explain(self, graph: Graph) -> Iterator[str]:
        """What is computed from constants alone, and why it is not computed now."""
        for node in graph.nodes:
            if node.inputs and all(tensor_of(v) is not None or is_absent(v) for v in node.inputs):
                found = self._folded(node)
                yield f"{node}: {found if isinstance(found, str) else 'more would be stored'}"

    def _folded(self, node: Node) -> Sequence[Value] | str:
        """The results as constants, or why they cannot be such."""
        arrays = [_array(v) for v in node.inputs]
        if not node.inputs or any(
            a is None and not is_absent(v) for a, v in zip(arrays, node.inputs, strict=True)
        ):
            return "not all operands are constant"
        if not node.has("foldable"):
            return "runtimes may give something else, or it is kept small in the file"
        plain = all(isinstance(v.type, TensorType) for v in node.outputs)
        if not plain or np.dtype(object) in {v.type.dtype for v in (*node.inputs, *node.outputs)}:
            return "it makes no numbers"  # and numbers are printed as text in many ways
        allowed = max(self.limit, sum(a.nbytes for a in arrays if a is not None))
        if any(nbytes(v.type) > allowed for v in node.outputs):
            return f"its result is of more than {allowed} bytes"
        try:
            results = [np.asarray(r) for r in compute(node, arrays)]
        except Unsupported:
            return "it cannot be computed"
        if not all(_is_of(r, v) for r, v in zip(results, node.outputs, strict=True)):
            return "its kernel and its type disagree"  # one of them is wrong
        if sum(r.nbytes for r in results) > allowed:
            return f"its result is of more than {allowed} bytes"
        if not node.op.agreed(node, arrays, results):
            return "runtimes differ on these numbers"
        return [_constant(node, r, i) for i, r in enumerate(results)]


def _taken(node: Node, inputs: Sequence[Value]) -> Graph | None:
    """The branch that an If takes, if one knows."""
    condition = tensor_of(inputs[0]) if node.op == ops.If else None
    if condition is None or condition.array.size != 1:
        return None
    found: Graph = node.attrs["then_branch" if condition.array.item() else "else_branch"]
    return found


def _inlined(node: Node, inputs: Sequence[Value], body: Graph, visit: Visit) -> list[Value]:
    """What a body of ``node`` gives, its nodes visited one by one."""
    held = control.captures(node)
    captured = dict(zip(held, inputs[len(inputs) - len(held) :], strict=True))
    given = {value: captured[name] for name, value in body.inputs.items()}
    return grafted(body, given, visit)


def _array(value: Value) -> Array | None:
    tensor = tensor_of(value)
    return None if tensor is None else tensor.array


def _is_of(array: Array, value: Value) -> bool:
    shape = value.type.static
    return array.dtype == value.type.dtype and shape in {None, array.shape}


def _constant(node: Node, array: Array, index: int) -> Value:
    source = (node.source or Source(outputs=("",) * node.arity)).of(index)
    held = _origin(node, node.outputs[index], array.size)
    if held is not None:
        source = replace(source, origin=held.origin, axes=held.axes, channels=held.channels)
    return Node(ops.Const, (), {"value": Tensor.take(array)}, source=source).outputs[0]


def _origin(node: Node, y: Value, size: int) -> Source | None:
    """Which constant of the file ``y`` was made of, if of one alone that is as large as it."""
    operands = [v for v in node.inputs if (t := tensor_of(v)) is not None and t.array.size == size]
    maker = operands[0].node if len(operands) == 1 and size > 1 else None
    if maker is None or maker.source is None or y.type.shape is None:
        return None
    axes = {b: a for (a, b) in _plain_links(node, maker.outputs[0], y)}
    return maker.source.moved_to(tuple(axes.get(b, -1) for b in range(len(y.type.shape))))


def _plain_links(node: Node, x: Value, y: Value) -> Iterator[tuple[int, int]]:
    """The axes of ``x`` and of ``y`` that hold the same channels in the same order."""
    for link in node.op.links(node):
        ends = {link.a[0]: link.a[1], link.b[0]: link.b[1]}
        alike = link.kind != "summed" and np.array_equal(link.index, np.arange(width(link.b)))
        if ends.keys() == {x, y} and alike and width(link.a) == width(link.b):
            yield ends[x], ends[y]


# Sizes: what Shape nodes and integer arithmetic on them are known to be. An element is a number,
# or an axis of a value whose size is open.


def _sized(node: Node, sizes: dict[Value, Sizes]) -> Sequence[Value] | None:
    """Note what is known of a small vector of sizes; its constant if all of it is known."""
    known = _known(node, sizes)
    if known is None:
        return None
    sizes[node.outputs[0]] = known
    numbers = [k for k in known if isinstance(k, int)]
    if len(numbers) < len(known):
        return None
    type_ = node.outputs[0].type
    if type_.static is None:
        return None
    array = np.array(numbers, np.int64).astype(type_.dtype).reshape(type_.static)
    if array.reshape(-1).tolist() != numbers:
        return None  # too large for the type
    return [_constant(node, array, 0)]


def _known(node: Node, sizes: dict[Value, Sizes]) -> Sizes | None:
    x = node.inputs[0] if node.inputs else None
    if x is None or node.arity > 1 or node.outputs[0].rank not in {0, 1}:
        return None
    if node.op == ops.Shape:
        return _shape(node, x)
    given = _elements(x, sizes)
    if node.op == ops.Concat:
        parts = [_elements(v, sizes) for v in node.inputs]
        return None if None in parts else tuple(k for p in parts for k in p or ())
    if given is None:
        return None
    if node.op.name in {"Unsqueeze", "Squeeze", "Identity", "Reshape"}:
        return given
    if node.op == ops.Cast:
        return given if node.outputs[0].type.dtype in (np.int64, np.int32) else None
    if node.op in (ops.Gather, ops.Slice):
        return _picked(node, given)
    return None


def _shape(node: Node, x: Value) -> Sizes | None:
    if x.type.shape is None:
        return None
    whole = [d if isinstance(d, int) else (x, axis) for axis, d in enumerate(x.type.shape)]
    start, end = node.attrs.get("start", 0), node.attrs.get("end")
    return tuple(whole[slice(start, end)])


def _elements(value: Value, sizes: dict[Value, Sizes]) -> Sizes | None:
    tensor = tensor_of(value)
    if tensor is not None and tensor.array.dtype.kind in "iu" and tensor.array.ndim <= 1:
        return tuple(int(n) for n in tensor.array.reshape(-1))
    return sizes.get(value)


def _picked(node: Node, given: Sizes) -> Sizes | None:
    """A Gather or Slice of a vector of sizes, by its own kernel on the places."""
    others = [_array(v) for v in node.inputs[1:]]
    if node.inputs[0].rank != 1 or any(a is None for a in others):
        return None
    places = np.arange(len(given), dtype=node.inputs[0].type.dtype)
    try:
        (picked,) = compute(node, [places, *others])
    except Unsupported:  # an index out of range: the model fails when it runs, not before
        return None
    return tuple(given[int(i)] for i in np.asarray(picked).reshape(-1))


def _copied_sizes(node: Node, sizes: dict[Value, Sizes]) -> tuple[int, ...] | None:
    """A Reshape to sizes of its own operand says 0 there: copy it; one other open size is -1."""
    if node.op != ops.Reshape or len(node.inputs) < 2 or node.attrs.get("allowzero"):  # noqa: PLR2004
        return None
    x, target = node.inputs
    known = sizes.get(target)
    if known is None or any(k == 0 for k in known):
        return None
    copied = [0 if k == (x, place) else k for place, k in enumerate(known)]
    goal = tuple(k if isinstance(k, int) else -1 for k in copied)
    return None if goal.count(-1) > 1 else goal


def _vector(numbers: Sequence[int]) -> Tensor:
    return Tensor(np.array(numbers, np.int64))
