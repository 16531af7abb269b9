"""Compute once, now, what does not depend on the inputs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redir import ops
from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.errors import BadPipeline, Unsupported
from redir.ir import Graph, Node, Size, Source, Value, width
from redir.ir.interpreter import compute
from redir.ir.limits import nbytes
from redir.ir.rewriter import in_branches, opened, transform
from redir.ir.tensor import Array, DType, Tensor, TensorType
from redir.ops import is_absent, sizes, tensor_of
from redir.passes.fold_constants.control_flow import inlined
from redir.passes.fold_constants.storage import Known, affordable, number, single_numbers
from redir.pipeline import Pass


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replace what can be computed from constants, and sizes that are known, by constants.

    An If whose condition is known becomes what is in the branch that it takes, a Loop of one pass
    or none what is in that, and a call of a local function what is in this.

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
        graph = _once(in_branches(opened(graph), self.run))
        known, goals = Known(), dict[tuple[int, ...], Value]()
        singles = single_numbers(graph)

        def visit(node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
            inside = inlined(node, inputs, visit)
            if inside is not None:
                return inside
            if node.op.domain or not node.repeatable or node.bodies:
                return None
            new = node.on(inputs)
            folded = self._folded(new)
            constants = _sized(new) if isinstance(folded, str) else folded
            if constants is not None:
                known.constants[node] = [singles.get(number(v), v) for v in constants]
                return known.constants[node]
            if new.sizes is not None:
                known.open.add(node)
            goal = _copied_sizes(new)
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
    operands = [v for v in node.inputs if (t := tensor_of(v)) is not None and t.size == size]
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


# Sizes


def _sized(node: Node) -> Sequence[Value] | None:
    """Constants for sizes that are all known."""
    if node.sizes is None:
        return None
    found = [_written(sizes.of(value), value.type.dtype) for value in node.outputs]
    known = [array for array in found if array is not None]
    if len(known) < len(found):
        return None
    return [_constant(node, array, place) for place, array in enumerate(known)]


def _written(told: Array | None, dtype: DType) -> Array | None:
    """Sizes as numbers, if all are known, and the type is not too small for them."""
    known = [] if told is None else [size.dim for size in told.reshape(-1)]
    numbers = [dim for dim in known if isinstance(dim, int)]
    if told is None or known != numbers:
        return None
    array: Array = np.array(numbers, np.int64).astype(dtype).reshape(told.shape)
    return array if array.reshape(-1).tolist() == numbers else None


def _once(graph: Graph) -> Graph:
    """The graph in which equal sizes of the same values are put together once."""
    held = dict[Hashable, Value]()

    def visit(node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        new = node.on(inputs)
        key = None if new.sizes is None or new.arity > 1 else _told(new)
        return None if key is None else [held.setdefault(key, new.outputs[0])]

    return transform(graph, visit)


def _told(node: Node) -> Hashable:
    """What the sizes are that a node gives, if one knows of each what it is."""
    assert node.sizes is not None
    given = [size.dim if size.port is None else size.port for size in node.sizes.reshape(-1)]
    return None if None in given else (node.outputs[0].type, *given)


def _copied_sizes(node: Node) -> tuple[int, ...] | None:
    """A Reshape to sizes of its own operand says 0 there: copy it; one other open size is -1."""
    goal = sizes.goal_of(node) if node.op == ops.Reshape else None
    if goal is None or goal.constant is not None or node.attrs.get("allowzero"):
        return None
    told = [goal.sizes.get(axis, Size()) for axis in goal.axes]
    if any(size.dim == 0 or (size.dim is None and size.port is None) for size in told):
        return None
    copied = [0 if sizes.is_of(s, node.inputs[0], place) else s.dim for place, s in enumerate(told)]
    numbers = tuple(dim if isinstance(dim, int) else -1 for dim in copied)
    return None if numbers.count(-1) > 1 else numbers


def _vector(numbers: Sequence[int]) -> Tensor:
    return Tensor(np.array(numbers, np.int64))
