"""Channels that go are said by those that stay: the layers that read them are solved anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from redir import ops
from redir.channels.coupling import Coupling
from redir.channels.ports import axes
from redir.channels.removal import silenced, without
from redir.importance import Evidence
from redir.importance.evidence import flowing_in
from redir.ir import Graph, Node, Port, Value
from redir.ir.builtin import tensor_of
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array, is_floating
from redir.layers.linear import Linear, linear
from redir.statistics.least_squares import System, solve
from redir.statistics.moments import Moments, Places, channels, drawn_places, features, targets
from redir.statistics.norms import is_norm
from redir.statistics.walk import Batches, Held, applied, running, walk

_RIDGE = 0.1  # of the mean energy of a feature, towards what the channels say of each other
_SMALL = 1e-6  # of the same, where channels say each other
_SAMPLES = 20_000  # of a layer
_FEATURES = 10_000  # that an output reads: moments of more take gigabytes


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads channels that go.

    ``gone`` (groups, inputs) says which, and ``unmade`` (groups, outputs) which of its outputs go.
    """

    layer: Linear
    gone: Array
    unmade: Array


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of a reader in the original, at some ``places`` of each batch.

    ``targets`` (samples, outputs) are its results, ``gram`` the moments of its inputs.
    """

    places: Sequence[Places]
    targets: Array
    gram: Array


@dataclass(frozen=True, eq=False)
class Solved:
    """New weights (groups, outputs, inputs, taps), and what is added to each output."""

    weight: Array
    shift: Array


Readers = Mapping[int, Reader]
"""By number: that of the node among all that read something."""


def reconstructed(
    coupling: Coupling, gone: Collection[int], evidence: Evidence, *, compact: bool
) -> Graph:
    """The graph without the channels ``gone``, of which those that stay say what they can.

    Layer after layer, in the order of the graph, what reads such channels is solved by least
    squares for the results of the original, on what the layers before now give. Without ``compact``
    the channels only become zero.

    Raises:
        Unsupported: the graph cannot be run.
    """
    found, batches = readers(coupling, gone), evidence.batches
    flowing = flowing_in(coupling.graph, evidence.source, batches)
    seen = _observed(flowing, batches, found, evidence.seed)
    solved = _solved(_silenced(coupling, gone, flowing), batches, found, seen)
    return _rebuilt(coupling, gone, solved, compact=compact)


def operators(graph: Graph) -> Sequence[Node]:
    """The nodes that read something."""
    return [node for node in graph.nodes if node.inputs]


def readers(coupling: Coupling, gone: Collection[int]) -> Readers:
    """The layers that read some channels that go and some that stay, and may be solved."""
    lost_of, found = coupling.among(gone), dict[int, Reader]()
    for number, node in enumerate(operators(coupling.graph)):
        layer = linear(node) if node.has("layer") else ""
        if not isinstance(layer, Linear) or not _is_solvable(coupling.graph, layer):
            continue
        port = layer.x_port
        behind = layer.y_port
        if port in coupling.starts and behind in coupling.starts:
            lost, unmade = (lost_of(p).reshape(layer.groups, -1) for p in (port, behind))
            if np.any(lost.any(1) & ~lost.all(1)):
                found[number] = Reader(layer, lost, unmade)
    return found


def _is_solvable(graph: Graph, layer: Linear) -> bool:
    plain = layer.alpha == layer.beta == 1 and layer.bias is not None
    alone = graph.uses[layer.held] == 1 and is_floating(layer.array.dtype)
    shifts = layer.node.attrs.get("auto_pad", "NOTSET") != "NOTSET"
    few = prod(layer.weight.shape[2:]) <= _FEATURES and (layer.x.rank or 0) > 1
    return plain and alone and few and not shifts and layer.node.op != ops.ConvTranspose


def _observed(graph: Graph, batches: Batches, found: Readers, seed: int) -> Mapping[int, Seen]:
    """What flows through the readers of the original, whose norms may be fitted."""
    rng, seen, numbers = np.random.default_rng(seed), dict[int, Seen](), _numbers(graph)

    def step(node: Node, operands: list[list[Any]], _: Held) -> list[Sequence[Any]] | None:
        if (number := numbers.get(node, -1)) not in found:
            return None
        layer, made = found[number].layer, applied(graph, node, operands)
        count = max(_SAMPLES // len(batches), 1)
        places = [drawn_places(rng, layer, y, count) for (y,) in made]
        wanted = [targets(layer, y, p) for (y,), p in zip(made, places, strict=True)]
        pairs = list(zip((each[1 - layer.place] for each in operands), places, strict=True))
        rows = np.concatenate([_inputs(layer, x, p) for x, p in pairs]).astype(np.float64)
        rows -= rows.mean(0)
        seen[number] = Seen(places, np.concatenate(wanted), rows.T @ rows / len(rows))
        return made

    walk(graph, batches, step, "what flows")
    return seen


def _numbers(graph: Graph) -> Mapping[Node, int]:
    return {node: number for number, node in enumerate(operators(graph))}


def _inputs(layer: Linear, x: Array, places: Places) -> Array:
    """What the inputs hold at some places, each at one tap: (samples, inputs)."""
    return (channels if layer.kernel else features)(layer, x, places)


def _silenced(coupling: Coupling, gone: Collection[int], graph: Graph) -> Graph:
    """A graph that differs in constants alone, with zeros for the same channels."""
    if graph is coupling.graph:
        return silenced(coupling, gone)
    lost_of, other, found = coupling.among(gone), graph.analysis(Coupling), set[int]()
    for node, twin in zip(*map(operators, (coupling.graph, graph)), strict=True):
        pairs = zip((*node.inputs, *node.outputs), (*twin.inputs, *twin.outputs), strict=True)
        for port, same in ((p, twin) for value, twin in pairs for p in axes(value)):
            if port in coupling.starts:
                found.update(other.group((same, port[1]))[lost_of(port)].tolist())
    return silenced(other, found)


def _solved(
    graph: Graph, batches: Batches, found: Readers, seen: Mapping[int, Seen]
) -> Mapping[int, Solved]:
    """The readers solved, each on what those before it give in the silenced ``graph``."""
    made, numbers = dict[int, Solved](), _numbers(graph)

    def step(node: Node, operands: list[list[Any]], _: Held) -> list[Sequence[Any]] | None:
        if (number := numbers.get(node, -1)) not in found:
            return None
        layer = linear(node)
        assert isinstance(layer, Linear)
        arrays = [each[1 - layer.place] for each in operands]
        pairs = zip(arrays, seen[number].places, strict=True)
        read = np.concatenate([features(layer, x, p) for x, p in pairs])
        new = _fitted(found[number], seen[number], read)
        if new is None:
            return None
        made[number], x = new, Value(layer.x.type)
        y = _layered(layer, node.on(x if v is layer.x else v for v in node.inputs), new).y
        run = running(Graph({"x": x}, {"y": y}, opset=graph.opset))
        return [[run({"x": array})["y"]] for array in arrays]

    walk(graph, batches, step, "solving")
    return made


def _fitted(reader: Reader, was: Seen, read: Array) -> Solved | None:
    """The weights and biases that make the targets of what is read; None where that is not finite.

    The ridge is towards each channel's own projection: what the others say of it.
    """
    layer, gram = reader.layer, was.gram
    if not (np.isfinite(gram).all() and np.isfinite(read).all() and np.isfinite(was.targets).all()):
        return None
    groups, outputs, inputs, taps = layer.weight.shape
    weight = layer.weight.astype(np.float64)
    bias = np.asarray(layer.bias, np.float64).reshape(groups, outputs)
    shift = np.zeros((groups, outputs))
    apart = read.reshape(len(read), groups, inputs, taps)
    wanted = was.targets.reshape(len(read), groups, outputs)
    for group in range(groups):
        lost, old = reader.gone[group], weight[group]
        stays = np.flatnonzero(~lost)
        here = group * inputs + np.arange(inputs)
        prior = _projected(gram[np.ix_(here, here)], old, lost)
        seen = apart[:, group, stays].reshape(len(read), -1)
        moments = Moments.of(seen, wanted[:, group], prior)
        new = System(moments.gram, _RIDGE).solved(moments.cross, prior)
        old[:, lost] = 0
        old[:, stays] = new.T.reshape(outputs, len(stays), taps)
        shift[group] = moments.target - moments.mean @ new - bias[group]
    weight[reader.unmade], shift[reader.unmade] = 0, 0
    return Solved(weight, shift.reshape(-1))


def _projected(gram: Array, weight: Array, lost: Array) -> Array:
    """What the weights (outputs, inputs, taps) are where lost inputs are said by the others.

    As (inputs that stay and taps, outputs).
    """
    stays = ~lost
    if not lost.any():
        found = weight
    else:
        across = gram[np.ix_(stays, lost)]
        said = solve(gram[np.ix_(stays, stays)], across, np.zeros_like(across), _SMALL)
        found = weight[:, stays] + np.einsum("kr,ort->okt", said, weight[:, lost])
    flat: Array = found.reshape(len(weight), -1).T
    return flat


def _layered(layer: Linear, node: Node, new: Solved, *, shifted: bool = True) -> Linear:
    """A layer on the operands of ``node``, with new weights, and the bias that these need."""
    made = replace(layer, node=node).with_weight(new.weight)
    return made.with_bias(np.asarray(layer.bias) + new.shift) if shifted else made


def _rebuilt(
    coupling: Coupling, gone: Collection[int], solved: Mapping[int, Solved], *, compact: bool
) -> Graph:
    """The original with solved layers, without the channels or with zeros for them."""
    silent, lost_of, lost = silenced(coupling, gone), coupling.among(gone), dict[Port, Array]()
    numbers, originals = _numbers(silent), operators(coupling.graph)
    made = {node: solved[number] for node, number in numbers.items() if number in solved}
    takers = {t: made[node] for node in made if (t := _taker(silent, node))}

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        if node not in numbers:
            return None
        for old, new in zip(originals[numbers[node]].inputs, inputs, strict=True):
            masks = {p[1]: lost_of(p) for p in axes(old) if p in coupling.starts}
            lost.update(((new, axis), mask) for axis, mask in masks.items() if mask.any())
        if node in takers:
            return _shifted(node, inputs, takers[node].shift)
        layer = linear(node) if node in made else ""
        if not isinstance(layer, Linear):
            return None
        free = _taker(silent, node) is None
        return [_layered(layer, node.on(inputs), made[node], shifted=free).y]

    after = transform(silent, visit)
    if not compact:
        return after
    narrow = after.analysis(Coupling)
    groups = [narrow.group(port)[mask] for port, mask in lost.items() if port in narrow.starts]
    return without(narrow, np.concatenate(groups).tolist())


def _taker(graph: Graph, node: Node) -> Node | None:
    """The norm or the Add behind a layer that takes what is added to its bias, if there is one."""
    value = node.outputs[0]
    (reader, *others) = graph.readers.get(value, (None,))
    if reader is None or others or graph.uses[value] != 1:
        return None
    if is_norm(reader) and reader.inputs[0] is value:
        return reader
    biased = linear(reader) if node.op == ops.MatMul and reader.op == ops.Add else ""
    return reader if isinstance(biased, Linear) and biased.node is node else None


def _shifted(node: Node, inputs: tuple[Value, ...], shift: Array) -> Outputs:
    """A norm, or an Add, behind a layer whose results are to be moved by ``shift``."""
    if not is_norm(node):
        whole = linear(node.on(inputs))
        assert isinstance(whole, Linear)
        return [whole.with_bias(np.asarray(whole.bias) + shift).y]
    mean = tensor_of(inputs[3])
    assert mean is not None
    new = ops.constant((mean.array - shift).astype(mean.array.dtype), inputs[3])
    return node.on((*inputs[:3], new, *inputs[4:])).outputs
