"""The layers that read what a norm makes: they take its scale and its bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from redir import ops
from redir.channels.constants import reads_border
from redir.channels.coupling import Coupling
from redir.channels.streams import tied
from redir.ir import Graph, Node, Port, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Array, Tensor
from redir.layers.linear import Linear, linear, whole
from redir.ops import is_absent, tensor_of

_UNTOLD = 7  # the version from which the bias of a Gemm broadcasts


@dataclass(frozen=True)
class Fold:
    """A norm, and the layers that take its ``scale`` and ``bias`` (channels,)."""

    norm: Node
    scale: Array
    bias: Array
    layers: Sequence[Linear]

    @property
    def plain(self) -> bool:
        """Whether there is nothing to take."""
        return bool(np.all(self.scale == 1)) and len(self.norm.inputs) < 3  # noqa: PLR2004


def fold_of(graph: Graph, norm: Node, spare: float = 0) -> Fold | str:
    """What is to be done so that a norm has neither scale nor bias, or why it cannot be.

    Biases of its readers may hold so many numbers more than its own as there are to ``spare``.
    """
    x, scale = norm.inputs[:2]
    given = [v for v in norm.inputs[2:3] if not is_absent(v)]
    arrays = [_numbers(v) for v in (scale, *given)]
    bias = arrays[1] if given else np.zeros_like(arrays[0])
    layers = _layers(graph, (norm.outputs[0], (x.rank or 0) - 1))
    if isinstance(layers, str):
        return layers
    fold = Fold(norm, arrays[0], bias, layers)
    freed = sum(v.type.size(0) or 0 for v in given if graph.uses[v] == 1)
    return _misfit(graph, fold, freed + spare) or fold


def _numbers(value: Value) -> Array:
    tensor = tensor_of(value)
    assert tensor is not None
    return tensor.array.astype(np.float64)


def _layers(graph: Graph, start: Port) -> Sequence[Linear] | str:
    """The layers that read a value along an axis, or moved or averaged in others."""
    coupling, found = graph.analysis(Coupling), list[Linear]()
    reached = dict.fromkeys([start])
    for value, axis in (order := list(reached)):
        if value in graph.outputs.values():
            return "the graph gives out what it makes"
        for node in graph.readers.get(value, ()):
            layer = linear(node) if node.has("layer") else None
            if isinstance(layer, str):
                return f"{node} reads it, but {layer}"
            if layer is not None and _reads(layer, (value, axis)):
                found.append(whole(graph, layer))
            elif node.op != ops.Shape:
                results = _passed(coupling, node, (value, axis))
                if not results:
                    return f"{node} reads it, which is no layer"
                order += [port for port in results.items() if port not in reached]
                reached.update(dict.fromkeys(results.items()))
    shared = next((a for a in found if graph.uses[a.held] > _count(found, a.held)), None)
    return found if shared is None else f"others read the weights of {shared.node}"


def _reads(layer: Linear, port: Port) -> bool:
    """Whether each output of a layer adds up over all channels of an axis."""
    value, axis = port
    mixes = layer.groups == 1 and layer.node.op != ops.ConvTranspose
    return mixes and layer.x is value and (value.rank or 0) + layer.x_axis == axis


def _count(layers: Sequence[Linear], held: Value) -> int:
    return sum(layer.held is held for layer in layers)


def _passed(coupling: Coupling, node: Node, port: Port) -> Mapping[Value, int]:
    """The results that hold each channel, moved or averaged along other axes."""
    linked = tied(coupling, node, port)
    straight = node.has("linear") and node.has("keeps_constants") and node.inputs[0] is port[0]
    alone = straight and node.op.terms(node) == ((0,),) and node.inputs.count(port[0]) == 1
    return {v: linked[v] for v in node.outputs if v in linked} if alone else {}


def _misfit(graph: Graph, fold: Fold, freed: float) -> str | None:
    """Why layers cannot take a scale and a bias, if they cannot."""
    cost = 0
    for layer in fold.layers:
        most = np.finfo(layer.array.dtype).max
        if np.abs(layer.weight * fold.scale[:, None]).max(initial=0.0) > most:
            return f"the weights of {layer.node} would be too large"
        if not fold.bias.any():
            continue
        if layer.node.op == ops.Conv and reads_border(layer.node):
            return f"{layer.node} reads zeros around it"
        old = layer.node.op == ops.Gemm and layer.node.op.version < _UNTOLD
        if layer.bias is None or not layer.beta or old:
            return f"the bias of {layer.node} is not one constant number for each output"
        if np.abs(_biased(layer, fold)).max(initial=0.0) > most:
            return f"the bias of {layer.node} would be too large"
        own = layer.added is not None and graph.uses[layer.added] == 1
        cost += 0 if own and layer.added and layer.added.type.size(0) else layer.outputs
    return "biases of its readers would hold more numbers than its own" if cost > freed else None


def _biased(layer: Linear, fold: Fold) -> Array:
    """The bias of a layer, with what it makes of that of the norm."""
    assert layer.bias is not None
    made = layer.weight[0].sum(2, dtype=np.float64) @ fold.bias
    total: Array = layer.bias + made * (layer.alpha / layer.beta)
    return total


def folded(graph: Graph, folds: Sequence[Fold]) -> Graph:
    """The graph in which layers have taken the scales and biases of norms."""
    norms = {fold.norm: fold for fold in folds}
    scaled = {a.held: (a, fold.scale) for fold in folds for a in fold.layers}
    biased = {(a.behind or a.node): _biased(a, f) for f in folds if f.bias.any() for a in f.layers}

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        if node in norms:
            ones = np.ones_like(norms[node].scale).astype(node.inputs[1].type.dtype)
            return node.on((inputs[0], ops.constant(ones, node.inputs[1]))).outputs
        if node.outputs[0] in scaled:
            layer, scale = scaled[node.outputs[0]]
            weight = layer.stored(layer.weight * scale[:, None]).astype(layer.array.dtype)
            return node.on((), value=Tensor.take(weight)).outputs
        if node not in biased:
            return None
        layer_now = linear(node.on(inputs))
        assert isinstance(layer_now, Linear)
        return layer_now.with_bias(biased[node]).y

    return transform(graph, visit)
