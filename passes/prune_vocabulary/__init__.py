"""Keep some words of a model that reads or writes ids of words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from redir import ops
from redir.channels.removal import narrowed
from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.errors import BadInput, BadPipeline
from redir.io import ids as files
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, grafted, transform
from redir.ir.tensor import Array
from redir.ops import OPSET, lookup, tensor_of
from redir.passes.prune_vocabulary.following import Ids, Vocabulary, ids_of, vocabulary
from redir.pipeline import Pass

KEY = "redir.vocabulary"
_BY_NEW_IDS = tuple(
    replace(promise, name=f"{promise.name} by new ids")
    for promise in (SAME_INTERFACE, SAME_OUTPUTS)
)
_INT64 = 7  # TensorProto.INT64, as a Cast names it


@dataclass(frozen=True)
class PruneVocabulary(Pass):
    """Only some rows of the table that an input of ids looks up stay, and what goes with them.

    That is the axis of the outputs that has a number for each id, where a weight makes it, tied to
    the table or not. Ids are counted anew, in their old order: an input then takes the places that
    they have in the file of ``ids``, sorted, and so does the axis of an output. Names and types of
    the interface stay; the ids in it, and the size of that axis, are the new ones, and in these
    terms the outputs are the same. The old id of each new one is in the metadata of the model,
    ``redir.vocabulary``, a list in JSON.

    ``ids`` names the file, as in ``prune-vocabulary{ids=ids.json}``: a vector of whole numbers in
    an ``.npy`` file, a list in a ``.json`` file, or text. ``input`` is the input of ids, by default
    the one that looks up the most rows. The model stays as it is where ids are also computed with,
    or something else needs all of them, and where these are the words that it was left with before.
    """

    ids: str = ""
    input: str = ""

    guarantees = (*_BY_NEW_IDS, NO_GROWTH, NO_MORE_PARAMETERS)

    def run(self, graph: Graph) -> Graph:
        """Narrow tables and outputs, and count anew what ids are compared with.

        Raises:
            BadPipeline: no file is given.
            BadInput: the file is missing or damaged, or an id is not one of the model's.
        """
        found = self._found(graph)
        if found is None:
            return graph
        kept, words = found
        ports = dict.fromkeys(words.ports, kept)
        after = narrowed(_compared(graph, words.ids, kept), ports, {})
        before = _told(graph)
        old = kept.tolist() if before is None else [before[i] for i in kept]
        return replace(after, metadata={**graph.metadata, KEY: json.dumps(old)})

    def restated(self, graph: Graph) -> Graph:
        """The model itself, asked for words by their new ids."""
        found = self._found(graph)
        return graph if found is None else _asked(graph, *found)

    def explain(self, graph: Graph) -> Iterator[str]:
        """Why the model stays as it is."""
        words = _words(graph, self.input)
        if isinstance(words, str):
            yield words

    def _found(self, graph: Graph) -> tuple[Array, Vocabulary] | None:
        """The ids that stay, and what has one for each; None where there is nothing to do."""
        if not self.ids:
            raise BadPipeline("prune-vocabulary: no ids are given: ids=FILE names those that stay")
        kept, words = files.read(self.ids), _words(graph, self.input)
        if isinstance(words, str) or _told(graph) == kept.tolist():
            return None
        if kept[-1] >= words.ids.size:
            raise BadInput(f"{self.ids}: {kept[-1]} is no id of {words.ids.size}")
        return None if kept.size == words.ids.size else (kept, words)


def _told(graph: Graph) -> list[int] | None:
    """The old ids that a model states, if it was here before."""
    told: list[int] | None = json.loads(graph.metadata.get(KEY, "null"))
    return told


def _words(graph: Graph, name: str) -> Vocabulary | str:
    ids = ids_of(graph, name)
    return ids if isinstance(ids, str) else vocabulary(graph, ids)


def _compared(graph: Graph, ids: Ids, kept: Array) -> Graph:
    """The graph in which what ids are compared with is a new id, or none that there is."""
    places: Mapping[Node, int] = dict(ids.compared)

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        tensor = tensor_of(node.inputs[places[node]]) if node in places else None
        if tensor is None:
            return None
        new = np.full(ids.size + 1, kept.size)
        new[kept] = np.arange(kept.size)
        inside = (tensor.array >= 0) & (tensor.array < ids.size)
        array = new[np.where(inside, tensor.array, ids.size)].astype(tensor.array.dtype)
        held = ops.constant(array, node.inputs[places[node]])
        return node.on(held if i == places[node] else v for i, v in enumerate(inputs)).outputs

    return transform(graph, visit)


def _asked(graph: Graph, kept: Array, words: Vocabulary) -> Graph:
    """The graph behind a table of the old ids of new ones, with only those in its outputs."""
    gather, cast = (lookup(name, graph.opset.get("", OPSET)) for name in ("Gather", "Cast"))
    assert gather is not None
    assert cast is not None
    old = graph.inputs[words.ids.name]
    inputs = {name: Value(v.type) if v is old else v for name, v in graph.inputs.items()}
    new = inputs[words.ids.name]
    places = new if new.type.dtype in (np.int32, np.int64) else cast(new, to=_INT64)
    asked = gather(ops.constant(kept.astype(old.type.dtype)), places)
    given = {v: asked if v is old else v for v in graph.inputs.values()}
    values = dict(zip(graph.outputs, grafted(graph, given, lambda *_: None), strict=True))
    for name, axis in words.outputs.items():
        values[name] = gather(values[name], ops.constant(kept), axis=axis)
    return replace(graph, inputs=inputs, outputs=values)
