"""What a graph stores and computes: parameters, distinct values, multiply-adds, bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from math import prod

import numpy as np

from redir import ops
from redir.cost.sizes import Sizes, example_shapes
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array, SparseTensor, Tensor, TensorType
from redir.layers.linear import Linear, linear
from redir.layers.palette import unpacked, unpacking
from redir.ops import tensor_of
from redir.ops.multiply_adds import dims
from redir.runtime.open_sizes import Shapes
from redir.tasks import executor, mapped

_MOST_PHASES = 4096  # places that strides tell apart; beyond, each product counts
_PLAIN = {"ConvInteger": ops.Conv, "QLinearConv": ops.Conv, "QLinearMatMul": ops.MatMul}


@dataclass(frozen=True)
class Cost:
    """Counts of one layer or of a whole graph, for one example.

    ``parameters``: numbers stored; ``distinct``: distinct values among them, layer by layer;
    ``macs``: dense multiply-adds; ``multiplications``: each input number times each distinct
    weight that reads it, but for 0, 1 and -1, never more than the multiply-adds; ``bytes``: those
    of the parameters. The second and the fourth are None where weights were not looked at.
    """

    parameters: int = 0
    distinct: int | None = 0
    macs: int = 0
    multiplications: int | None = 0
    bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        """The two together."""
        mine, theirs = asdict(self), asdict(other)
        known = (key for key in mine if None not in (mine[key], theirs[key]))
        return Cost(**{**dict.fromkeys(mine), **{key: mine[key] + theirs[key] for key in known}})

    @property
    def structural(self) -> dict[str, int]:
        """What does not depend on the values of weights."""
        return {"parameters": self.parameters, "macs": self.macs, "bytes": self.bytes}


@dataclass(frozen=True)
class Layer:
    """A ``node`` that stores or multiplies, with its cost."""

    name: str
    op: str
    cost: Cost
    node: Node | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, str | int | None]:
        """The layer as ``stats --json`` prints it."""
        return {"name": self.name, "op": self.op, **asdict(self.cost)}


def total(graph: Graph, shapes: Shapes | None = None, *, values: bool = True) -> Cost:
    """The cost of the whole graph; what several layers share is stored once.

    ``shapes`` are those of the inputs, by default those of ``example_shapes``: two graphs compare
    where they are counted at the same. Without ``values`` no weight is looked at.
    """
    return sum((layer.cost for layer in layers(graph, shapes, values=values)), Cost())


def layers(graph: Graph, shapes: Shapes | None = None, *, values: bool = True) -> tuple[Layer, ...]:
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
    pairs = Sizes(whole, shapes).nodes()
    found = [_part(node, at, defaults, packed, seen) for node, at in pairs]
    plain = [layer for layer, _ in found]
    if values:
        looks = _looked([weights for _, weights in found])
        plain = [_with_values(layer, *seen) for layer, seen in zip(plain, looks, strict=True)]
    nothing = Cost() if values else _UNSEEN
    return tuple(layer for layer in plain if layer.cost != nothing)


def macs(graph: Graph, shapes: Shapes | None = None) -> int:
    """The dense multiply-adds alone, as ``total`` counts them: no weight is looked at."""
    return sum(_macs(node) for _, node in Sizes.of(graph, shapes).nodes())


def nbytes(graph: Graph) -> int:
    """The bytes of the parameters alone, as ``total`` counts them: no weight is looked at."""
    return sum(tensor.nbytes for tensor in _tensors(graph))


def multiplications(graph: Graph) -> list[int]:
    """The multiplications of each node, as ``total`` counts them, in the order of ``walk``."""
    nodes = [at for _, at in Sizes(unpacked(graph), example_shapes(graph)).nodes()]
    return [_multiplications(at, count) if (count := _macs(at)) else 0 for at in nodes]


def parameters(graph: Graph) -> int:
    """The parameters alone, as ``total`` counts them: no weight is looked at."""
    return sum(tensor.size for tensor in _tensors(unpacked(graph)))


def _tensors(graph: Graph) -> Iterator[Tensor]:
    """The tensors that are read, each once."""
    seen: set[int] = set()
    defaults = _defaults(graph)
    for node in graph.walk():
        yield from _stored(node, defaults, seen)


def open_layers(graph: Graph, shapes: Shapes | None = None) -> int:
    """How many layers multiply, but have sizes that ``shapes`` leave open, and count less."""
    at = [node for _, node in Sizes.of(graph, shapes).nodes()]
    nodes = [node for node in at if node.op.multiply_adds is not None]
    return sum(any(map(_is_open, (*n.inputs[:1], *n.outputs[:1]))) for n in nodes)


def _is_open(value: Value) -> bool:
    return value.type.static is None


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


@dataclass(frozen=True)
class _Weights:
    """What is looked at of a layer: the tensors that are ``stored`` for it, and the ``node`` alone.

    It makes so many multiply-adds.
    """

    stored: tuple[Tensor, ...]
    node: Node
    macs: int

    @property
    def nbytes(self) -> int:
        """The bytes of tensors that were not looked at before."""
        return sum(t.nbytes for t in self.stored if not t.is_counted)


_Seen = tuple[tuple[int, ...], int]  # distinct values of the tensors, and multiplications


def _part(
    node: Node,
    at: Node,
    defaults: Mapping[Value, Tensor],
    packed: Mapping[Value, list[Tensor]],
    seen: set[int],
) -> tuple[Layer, _Weights]:
    """A layer without what its weights tell, and these."""
    stored = _stored(node, defaults, seen)
    parts = [t for v in node.inputs for t in packed.get(v, ()) if not _counted(t, seen)]
    apart = {id(tensor_of(v)) for v in node.inputs if v in packed}
    macs = _macs(at)
    cost = replace(
        _UNSEEN,
        parameters=sum(t.size for t in stored),
        macs=macs,
        bytes=sum(t.nbytes for t in (*parts, *(t for t in stored if id(t) not in apart))),
    )
    return Layer(node.name, str(node.op), cost, node), _Weights(tuple(stored), at, macs)


_UNSEEN = Cost(distinct=None, multiplications=None)


def _with_values(layer: Layer, distinct: tuple[int, ...], multiplications: int) -> Layer:
    cost = replace(layer.cost, distinct=sum(distinct), multiplications=multiplications)
    return replace(layer, cost=cost)


def _looked(found: Sequence[_Weights]) -> list[_Seen]:
    """What the weights of each tell: those of a large model side by side."""
    known = dict[int, _Seen]()
    if not executor().is_here and sum(weights.nbytes for weights in found) >= _LARGE:
        large = [w for w in found if w.nbytes >= _WORTH and not w.node.bodies]
        items = [(w.stored, _alone(w.node), w.macs) for w in large]
        made = mapped(_elsewhere, items, "weights", memory=_memory)
        known = dict(zip(map(id, large), made, strict=True))
        for weights in large:
            for tensor, distinct in zip(weights.stored, known[id(weights)][0], strict=True):
                tensor.count(distinct)
    return [known.get(id(weights)) or _values(weights) for weights in found]


_LARGE = 2**28  # bytes that it takes seconds to look at
_WORTH = 2**20  # bytes that are worth being sent to another process
_Item = tuple[tuple[Tensor, ...], Graph, int]


def _alone(node: Node) -> Graph:
    """A node as a graph, which can be sent, that reads what flows into it."""
    flows = {i: v for i, v in enumerate(node.inputs) if v.node is None or v.node.inputs}
    inputs = {i: Value(v.type) for i, v in flows.items()}
    alone = node.on(inputs.get(i, v) for i, v in enumerate(node.inputs))
    return Graph({str(i): v for i, v in inputs.items()}, {"": alone.outputs[0]})


def _memory(item: _Item) -> int:
    """Some copies, one of them sorted."""
    return 3 * sum(tensor.nbytes for tensor in item[0])


def _elsewhere(item: _Item) -> _Seen:
    stored, alone, macs = item
    node = alone.outputs[""].node
    assert node is not None
    return _values(_Weights(stored, node, macs))


def _values(weights: _Weights) -> _Seen:
    macs = weights.macs
    count = _multiplications(weights.node, macs) if macs else 0
    return tuple(t.distinct for t in weights.stored), count


def _counted(tensor: Tensor, seen: set[int]) -> bool:
    """Whether this very tensor was counted before; equal ones apart are stored apart."""
    known = id(tensor) in seen
    seen.add(id(tensor))
    return known


def _macs(node: Node) -> int:
    """The multiply-adds of a node on operands of known ranks."""
    flowing = (*node.inputs[:2], *node.outputs[:1])
    count = node.op.multiply_adds
    return 0 if count is None or any(v.rank is None for v in flowing) else count(node)


def _multiplications(node: Node, macs: int) -> int:
    """Numbers that flow in, times the distinct weights that read each."""
    layer = linear(_plain(node))
    if isinstance(layer, str) or layer.x.type.size(layer.x_axis) is None:
        return macs
    tables = _phases(layer) if layer.node.op == ops.Conv else [_flat(layer.kernels)]
    channels = sum(len(table) for table in tables)
    places = prod(dims(layer.x)) // max(channels, 1)
    return min(macs, places * sum(map(_distinct, tables))) if tables else macs


def _plain(node: Node) -> Node:
    """A quantised layer as the layer that it stands for, on its codes."""
    op = _PLAIN.get(node.op.standard)
    if op is None:
        return node
    weight = node.inputs[3 if node.op.name.startswith("QLinear") else 1]
    return Node(op, (_float(node.inputs[0]), _float(weight)), node.attrs)


def _float(codes: Value) -> Value:
    tensor = tensor_of(codes)
    if tensor is None:
        return Value(TensorType(np.dtype(np.float32), codes.type.shape))
    return ops.constant(tensor.array.astype(np.float32))


def _distinct(table: Array) -> int:
    """The distinct factors in each row of ``table``, added up."""
    numbers = table if table.dtype.char in _SORTED else table.astype(np.float64)
    rows = np.sort(np.where(_factors(numbers), numbers, 0))
    same = (rows[:, 1:] == rows[:, :-1]) | np.isnan(rows[:, :-1])
    return int(rows.size - np.count_nonzero(same) - np.count_nonzero((rows == 0).any(1)))


_SORTED = "bhilqBHILQfd"  # the types that numpy compares and sorts as they are


def _factors(weights: Array) -> Array:
    """Which of ``weights`` it takes a multiplication to apply."""
    factors: Array = (weights != 0) & (np.abs(weights) != 1)
    return factors


def products(graph: Graph) -> int:
    """The multiplications that ``graph`` makes for one example as it is written.

    Each weight counts, equal ones too, but for those that are 0, 1 or -1: these only route.
    """
    return sum(_products(node) for _, node in Sizes(unpacked(graph), {}).nodes())


def _products(node: Node) -> int:
    macs = _macs(node)
    weight = next((t for v in node.inputs[:2] if (t := tensor_of(v)) is not None), None)
    if not macs or weight is None or weight.array.dtype.kind not in "fiuV":
        return macs
    array = weight.array.astype(np.float64)
    return round(macs * np.count_nonzero(_factors(array)) / max(array.size, 1))


def _flat(kernels: Array) -> Array:
    """The weights that read each channel, in a row."""
    return kernels.reshape(len(kernels), prod(kernels.shape[1:]))


def _phases(layer: Linear) -> list[Array]:
    """The weights of a Conv that meet a number, by where a stride leaves it; none where unclear."""
    size, attrs = layer.kernel, layer.node.attrs
    kernels = layer.kernels.reshape(*layer.kernels.shape[:2], *size)
    strides, dilations = (attrs.get(k, (1,) * len(size)) for k in ("strides", "dilations"))
    if not len(strides) == len(dilations) == len(size) or min(strides, default=1) < 1:
        return []
    if prod(strides) > _MOST_PHASES:
        return []
    hits = [
        [np.arange(n) * d % s == phase for phase in range(s)]
        for n, d, s in zip(size, dilations, strides, strict=True)
    ]
    everything = [np.ones(n, bool) for n in kernels.shape[:2]]
    return [_flat(kernels[np.ix_(*everything, *m)]) for m in product(*hits)]
