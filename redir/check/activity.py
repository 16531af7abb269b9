"""Which channels were awake when a model was checked: an error in one that slept is not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from redir.check.guarantees import constants
from redir.check.observed import Observed
from redir.errors import Unsupported
from redir.ir import Graph, Node, Port, Value
from redir.ir.tensor import Array
from redir.ops import tensor_of
from redir.runtime.onnxruntime import runner


def active_share(a: Observed, b: Observed) -> float | None:
    """The share of the channels of the layers of ``b`` with new weights that were not constant.

    A channel is looked at behind the activation that follows its layer, over all of the feeds.
    None where no layer has new weights, or where this cannot be run.
    """
    ports = list(dict.fromkeys(_changed(a.graph, b.graph)))
    if not ports or not b.feeds:
        return None
    try:
        _look(b, [port for port in ports if port not in b.awake])
    except Unsupported:
        return None
    return float(np.concatenate([b.awake[port] for port in ports]).mean())


def _look(b: Observed, ports: Sequence[Port]) -> None:
    """Note which channels of ``ports`` were awake."""
    if not ports:
        return
    outputs = {str(i): value for i, (value, _) in enumerate(ports)}
    run = runner(Graph(b.graph.inputs, outputs, defaults=b.graph.defaults))
    awake, first = dict[Port, Array](), dict[Port, Array]()
    for given in b.feeds:
        found = run(given)
        for i, port in enumerate(ports):
            channels = _channels(found.pop(str(i)), port[1])
            moved = (channels != first.setdefault(port, channels[:, :1].copy())).any(axis=1)
            awake[port] = awake.get(port, False) | moved
    b.awake.update(awake)


def _changed(a: Graph, b: Graph) -> Iterator[Port]:
    """The channels of layers that read a tensor which ``a`` has not."""
    known = set(constants(a))
    new = {t for t in constants(b) if t not in known and t.type.dtype.kind == "f"}
    for node in b.nodes:
        weights = [v for v in node.inputs if tensor_of(v) in new and (v.rank or 0) > 1]
        for weight in weights:
            yield from (_behind(b, port) for port in _tied(node, weight))


def _tied(node: Node, weight: Value) -> Iterator[Port]:
    """The axes of results that are channels of ``weight``."""
    for link in node.op.links(node):
        for one, other in ((link.a, link.b), (link.b, link.a)):
            if one[0] is weight and other[0] in node.outputs and len(link.index):
                yield other


def _behind(graph: Graph, port: Port) -> Port:
    """The channels behind the biases and activations that alone read them, one by one."""
    value, axis = port
    while len(readers := graph.readers.get(value, ())) == 1 and graph.uses[value] == 1:
        (node,) = readers
        flowing = [v for v in node.inputs if tensor_of(v) is None]
        alike = len(node.outputs) == 1 and node.outputs[0].type == value.type
        behind = (node.outputs[0], axis)
        if flowing != [value] or not alike or not _is_tied(node, (value, axis), behind):
            break
        value = node.outputs[0]
    return value, axis


def _is_tied(node: Node, port: Port, other: Port) -> bool:
    return any({link.a, link.b} == {port, other} for link in node.op.links(node))


def _channels(array: Array, axis: int) -> Array:
    """The numbers of each channel of ``axis``: (channels, numbers)."""
    moved = np.moveaxis(array, axis, 0)
    return moved.reshape(len(moved), prod(moved.shape[1:]))
