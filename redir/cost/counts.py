"""What a graph stores and computes: parameters, distinct values, multiply-adds, bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from math import prod

import numpy as np

from redir import ops
from redir.errors import Unsupported
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array, SparseTensor, Tensor, TensorType, Type
from redir.layers.palette import unpacked, unpacking
from redir.layers.products import by_channel
from redir.ops import tensor_of
from redir.runtime.concrete import concrete
from redir.runtime.open_sizes import Shapes, fitting_shapes


@dataclass(frozen=True)
class Cost:
    """Counts of one layer or of a whole graph, for one example.

    ``parameters``: numbers stored; ``distinct``: distinct values among them, layer by layer;
    ``macs``: dense multiply-adds; ``multiplications``: each input number times each distinct
    weight that reads it, but for 0, 1 and -1, never more than the multiply-adds; ``bytes``: those
    of the parameters.
    """

    parameters: int = 0
    distinct: int = 0
    macs: int = 0
    multiplications: int = 0
    bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        """The two together."""
        mine, theirs = asdict(self), asdict(other)
        return Cost(**{key: mine[key] + theirs[key] for key in mine})


@dataclass(frozen=True)
class Layer:
    """A node that stores or multiplies, with its cost."""

    name: str
    op: str
    cost: Cost

    def as_dict(self) -> dict[str, str | int]:
        """The layer as ``stats --json`` prints it."""
        return {"name": self.name, "op": self.op, **asdict(self.cost)}


def total(graph: Graph, shapes: Shapes | None = None) -> Cost:
    """The cost of the whole graph; what several layers share is stored once.

    ``shapes`` are those of the inputs, by default those of ``example_shapes``: two graphs compare
    where they are counted at the same.
    """
    return sum((layer.cost for layer in layers(graph, shapes)), Cost())


def layers(graph: Graph, shapes: Shapes | None = None) -> tuple[Layer, ...]:
    """The layers of ``graph`` and of its control-flow bodies, in order.

    Sizes are those that follow from ``shapes``, as in ``total``, also where the graph computes
    them; a size that stays open counts as 1. A constant that several nodes read is counted where
    it is read first. A tensor in a palette counts as what it stands for, and has the bytes that
    store it.
    """
    seen: set[int] = set()
    whole, packed = unpacking(graph)
    defaults = _defaults(whole)
    shapes = example_shapes(graph) if shapes is None else shapes
    pairs = _sized(whole, shapes)
    found = (_layer(node, at, defaults, packed, seen) for node, at in pairs)
    return tuple(layer for layer in found if layer.cost != Cost())


def example_shapes(graph: Graph, input_shapes: Shapes | None = None) -> dict[str, tuple[int, ...]]:
    """The shapes of the inputs with which counts are made: of one example, and such as fit.

    Those in ``input_shapes`` stay. There are no others where none are found that fit.

    Raises:
        BadInput: a shape that is given contradicts the model.
    """
    try:
        return next(fitting_shapes(graph, input_shapes, single=True))
    except Unsupported:
        return {name: tuple(shape) for name, shape in (input_shapes or {}).items()}


def macs(graph: Graph) -> int:
    """The dense multiply-adds alone, with 1 for each size that is open: no weight is looked at."""
    return sum(_macs(node) for _, node in _sized(graph, {}))


def nbytes(graph: Graph) -> int:
    """The bytes of the parameters alone, as ``total`` counts them: no weight is looked at."""
    seen: set[int] = set()
    defaults = _defaults(graph)
    read = (_stored(node, defaults, seen) for node in graph.walk())
    return sum(t.nbytes for tensors in read for t in tensors)


def open_layers(graph: Graph, shapes: Shapes | None = None) -> int:
    """How many layers multiply, but have sizes that ``shapes`` leave open, and count less."""
    shapes = example_shapes(graph) if shapes is None else shapes
    at = [node for _, node in _sized(graph, shapes)]
    nodes = [node for node in at if node.op.name in MACS and not node.op.domain]
    return sum(any(map(_is_open, (*n.inputs[:1], *n.outputs[:1]))) for n in nodes)


def _is_open(value: Value) -> bool:
    return value.type.static is None


def _sized(graph: Graph, shapes: Shapes) -> Iterator[tuple[Node, Node]]:
    """Each node with the one that stands for it at ``shapes``, a constant if it is computed there.

    The first size of an input is 1 where it stays open.
    """
    inputs = {name: Value(_at(v.type, shapes.get(name))) for name, v in graph.inputs.items()}
    found = concrete(graph, inputs).values
    for node in graph.walk():
        made = found.get(node.outputs[0])
        yield node, node if made is None or made.node is None else made.node


def _at(type_: Type, shape: tuple[int, ...] | None) -> Type:
    if not isinstance(type_, TensorType) or (shape is None and not type_.shape):
        return type_
    if shape is None and type_.shape and not isinstance(type_.shape[0], int):
        return TensorType(type_.dtype, (1, *type_.shape[1:]))
    return type_ if shape is None else TensorType(type_.dtype, tuple(shape))


def _defaults(graph: Graph) -> dict[Value, Tensor]:
    return {graph.inputs[name]: tensor for name, tensor in graph.defaults.items()}


def _stored(node: Node, defaults: Mapping[Value, Tensor], seen: set[int]) -> list[Tensor]:
    """The tensors that a node reads and none before it did."""
    read = (defaults.get(v) or _held(v) for v in node.inputs)
    return [t for t in read if t is not None and not _counted(t, seen)]


def _held(value: Value) -> Tensor | None:
    """The numbers of a constant; of a sparse one those that are stored."""
    node = value.node
    held = node.attrs["value"] if node is not None and node.op == ops.Const else None
    return held.values if isinstance(held, SparseTensor) else held


def _layer(
    node: Node,
    at: Node,
    defaults: Mapping[Value, Tensor],
    packed: Mapping[Value, list[Tensor]],
    seen: set[int],
) -> Layer:
    stored = _stored(node, defaults, seen)
    parts = [t for v in node.inputs for t in packed.get(v, ()) if not _counted(t, seen)]
    apart = {id(tensor_of(v)) for v in node.inputs if v in packed}
    macs = _macs(at)
    cost = Cost(
        parameters=sum(t.array.size for t in stored),
        distinct=sum(map(_distinct_values, stored)),
        macs=macs,
        multiplications=_multiplications(at, macs) if macs else 0,
        bytes=sum(t.nbytes for t in (*parts, *(t for t in stored if id(t) not in apart))),
    )
    return Layer(node.name, str(node.op), cost)


def _distinct_values(tensor: Tensor) -> int:
    if tensor.array.dtype == np.dtype(object):  # bytes and strings have no order
        return len(set(tensor.array.reshape(-1).tolist()))
    return int(np.unique(tensor.array).size)


def _counted(tensor: Tensor, seen: set[int]) -> bool:
    """Whether this very tensor was counted before; equal ones apart are stored apart."""
    known = id(tensor) in seen
    seen.add(id(tensor))
    return known


def _dims(value: Value) -> tuple[int, ...]:
    """The shape with 1 for every dimension that is open."""
    return tuple(d if isinstance(d, int) else 1 for d in value.type.shape or ())


def _weight(node: Node) -> Value:
    return node.inputs[3 if node.op.name in {"QLinearConv", "QLinearMatMul"} else 1]


def _conv(node: Node) -> int:
    return prod(_dims(node.outputs[0])) * prod(_dims(_weight(node))[1:])


def _conv_transpose(node: Node) -> int:
    return prod(_dims(node.inputs[0])) * prod(_dims(node.inputs[1])[1:])


def _gemm(node: Node) -> int:
    depth = 0 if node.attrs.get("transA") else 1
    return prod(_dims(node.outputs[0])) * _dims(node.inputs[0])[depth]


def _matmul(node: Node) -> int:
    return prod(_dims(node.outputs[0])) * (_dims(node.inputs[0]) or (1,))[-1]


def _mul(node: Node) -> int:
    """That of a scale for each channel; a factor for all of them counts as none."""
    wide = any((t := tensor_of(v)) is not None and t.array.size > 1 for v in node.inputs)
    return prod(_dims(node.outputs[0])) if wide else 0


def _recurrent(node: Node) -> int:
    length, batch, _ = _dims(node.inputs[0])
    return length * batch * (prod(_dims(node.inputs[1])) + prod(_dims(node.inputs[2])))


MACS: dict[str, Callable[[Node], int]] = {
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv"), _conv),
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), _matmul),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "Mul": _mul,
}


_RANKS = {"Gemm": (2, 2), **dict.fromkeys(("LSTM", "GRU", "RNN"), (3, 3))}


def _macs(node: Node) -> int:
    count = MACS.get(node.op.name)
    return count(node) if count is not None and _is_ranked(node) else 0


def _is_ranked(node: Node) -> bool:
    """Whether it is a standard operator that fits its operands, whose ranks are known."""
    if node.op.domain or node.op.stated is not None:
        return False
    flowing = (*node.inputs[:2], *node.outputs[:1])
    ranks = [-1 if v.rank is None else v.rank for v in flowing]
    least = (*_RANKS.get(node.op.name, (0, 0)), 0)
    return all(rank >= n for rank, n in zip(ranks, least, strict=True))


def _multiplications(node: Node, macs: int) -> int:
    """Numbers that flow in, times the distinct weights that read each."""
    found = _readers(node)
    if found is None:
        return macs
    flowing, tables = found
    channels = sum(len(table) for table in tables)
    places = prod(_dims(flowing)) // max(channels, 1)
    return min(macs, places * sum(map(_distinct, tables)))


def _distinct(table: Array) -> int:
    """The distinct factors in each row of ``table``, added up."""
    numbers = table if table.dtype.kind in "iu" else table.astype(np.float64)
    rows = np.sort(np.where(_factors(numbers), numbers, 0))
    same = (rows[:, 1:] == rows[:, :-1]) | np.isnan(rows[:, :-1])
    return int(rows.size - np.count_nonzero(same) - np.count_nonzero((rows == 0).any(1)))


def _factors(weights: Array) -> Array:
    """Which of ``weights`` it takes a multiplication to apply."""
    factors: Array = (weights != 0) & (np.abs(weights) != 1)
    return factors


def products(graph: Graph) -> int:
    """The multiplications that ``graph`` makes for one example as it is written.

    Each weight counts, equal ones too, but for those that are 0, 1 or -1: these only route.
    """
    return sum(_products(node) for _, node in _sized(unpacked(graph), {}))


def _products(node: Node) -> int:
    macs = _macs(node)
    weight = next((t for v in node.inputs[:2] if (t := tensor_of(v)) is not None), None)
    if not macs or weight is None or weight.array.dtype.kind not in "fiuV":
        return macs
    array = weight.array.astype(np.float64)
    return round(macs * np.count_nonzero(_factors(array)) / max(array.size, 1))


_MOST_PHASES = 4096  # places that strides tell apart; beyond, each product counts


def _readers(node: Node) -> tuple[Value, list[Array]] | None:
    """The operand that flows in, and the weights that read each of its channels.

    These are the rows of tables: of one, or of one for each place that a stride tells apart.
    """
    x, w = node.inputs[0], tensor_of(_weight(node))
    if node.op.name.endswith("MatMul"):
        return _matmul_readers(node)
    if w is None or w.array.ndim < 2 or x.rank is None or x.rank < 2:  # noqa: PLR2004
        return None
    if node.op.name in {"Conv", "ConvInteger", "QLinearConv"}:
        channels, (out, per_group, *size) = x.type.size(1), w.array.shape
        if not channels or channels % per_group or out % (channels // per_group):
            return None
        kernels = by_channel(w.array, channels // per_group)
        phases = _phases(node, kernels.reshape(*kernels.shape[:2], *size))
        return None if phases is None else (x, phases)
    if node.op == ops.ConvTranspose:
        return x, [w.array.reshape(len(w.array), prod(w.array.shape[1:]))]
    if node.op == ops.Gemm:
        return x, [w.array.T if node.attrs.get("transB") else w.array]
    return None


def _phases(node: Node, kernels: Array) -> list[Array] | None:
    """Of kernels (in, out, ...), the weights that meet a number, by where a stride leaves it."""
    whole, size = kernels.shape[:2], kernels.shape[2:]
    strides, dilations = (node.attrs.get(k, (1,) * len(size)) for k in ("strides", "dilations"))
    if not len(strides) == len(dilations) == len(size) or min(strides, default=1) < 1:
        return None
    if prod(strides) > _MOST_PHASES:
        return None
    hits = [
        [np.arange(n) * d % s == phase for phase in range(s)]
        for n, d, s in zip(size, dilations, strides, strict=True)
    ]
    everything = [np.ones(n, bool) for n in whole]
    return [kernels[np.ix_(*everything, *m)].reshape(whole[0], -1) for m in product(*hits)]


def _matmul_readers(node: Node) -> tuple[Value, list[Array]] | None:
    """A constant matrix may stand on either side."""
    a, b = node.inputs[0], _weight(node)
    for x, w, turned in ((a, tensor_of(b), False), (b, tensor_of(a), True)):
        if w is not None and w.array.ndim == 2:  # noqa: PLR2004
            return x, [w.array.T if turned else w.array]
    return None
