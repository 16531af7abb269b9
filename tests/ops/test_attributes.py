"""An entry of the operator table lists what it understands: any other node is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import defs, helper

from redir import ops
from redir.backends.onnx import to_proto
from redir.errors import Unsupported
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node
from redir.ir.interpreter import evaluate
from redir.passes.cse import Cse
from redir.passes.eliminate_identity import EliminateIdentity
from redir.passes.fold_batchnorm import FoldBatchnorm

SCHEMAS = [
    schema
    for schema in defs.get_all_schemas_with_history()
    if schema.domain == "" and schema.name in ops.ENTRIES and not schema.deprecated
]
NOT_UNDERSTOOD = {(name, "output_sequence") for name in ("GRU", "LSTM", "RNN")}


def test_an_entry_was_written_for_every_version() -> None:
    """Where this fails, read what is new in the versions before ``ops.READ`` goes up."""
    newer = [s for s in SCHEMAS if s.since_version > ops.ENTRIES[s.name].newest]
    assert [f"{s.name}-{s.since_version}" for s in newer] == []


def test_an_entry_lists_every_attribute_or_leaves_it_out_on_purpose() -> None:
    every = {(s.name, a) for s in SCHEMAS for a in s.attributes}
    listed = {(name, a) for name, entry in ops.ENTRIES.items() for a in entry.attributes}
    assert every - listed == NOT_UNDERSTOOD


def test_every_attribute_that_is_listed_exists() -> None:
    """Entries that list the same are one kind, each of whose operators may lack some."""
    kinds = {(ops.ENTRIES[s.name].attributes, a) for s in SCHEMAS for a in s.attributes}
    listed = {(e.attributes, a) for e in ops.ENTRIES.values() for a in e.attributes - {"captures"}}
    assert listed <= kinds


# What goes beyond an entry


def graph_of(name: str, shape: list[int], opset: int, count: int = 1, **attrs: Any) -> Graph:
    """A graph of one operator, as a file has it that no checker has seen."""
    names = [f"x{i}" for i in range(count)]
    node = helper.make_node(name, names, ["y"], **attrs)
    inputs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in names]
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)
    opsets = [helper.make_opsetid("", opset)]
    return from_proto(
        helper.make_model(helper.make_graph([node], "one", inputs, [y]), opset_imports=opsets)
    )


BEYOND = {
    "attribute": graph_of("Relu", [2, 3], 13, alpha=3.0),
    "attribute of a newer version": graph_of(
        "SpaceToDepth", [2, 3, 4, 4], 13, blocksize=2, mode="CRD"
    ),
    "attribute of an operator without an entry": graph_of("EyeLike", [2, 3], 9, diagonal=2),
    "operand": graph_of("Relu", [2, 3], 13, count=2),
    "operand that is missing": graph_of("Relu", [2, 3], 13, count=0),
    "operator set": graph_of("Relu", [2, 3], defs.onnx_opset_version() + 1),
    "attribute that is not understood": graph_of("GRU", [2, 3, 4], 1, 3, output_sequence=1),
}


@pytest.mark.parametrize("graph", BEYOND.values(), ids=BEYOND)
def test_what_goes_beyond_an_entry_is_opaque(graph: Graph) -> None:
    (node,) = graph.nodes
    assert node.op.opaque
    assert not node.repeatable
    assert not list(node.op.links(node))


@pytest.mark.parametrize("graph", BEYOND.values(), ids=BEYOND)
def test_what_goes_beyond_an_entry_is_written_as_it_was_read(graph: Graph) -> None:
    (node,), (written,) = graph.nodes, to_proto(graph).graph.node
    assert written.op_type == node.op.name
    assert {a.name for a in written.attribute} == set(node.attrs)
    assert len(written.input) == len(node.inputs)


FOREIGN = ["attribute", "attribute of a newer version", "operand", "operator set"]


@pytest.mark.parametrize("what", FOREIGN)
def test_what_no_schema_has_is_not_computed(what: str) -> None:
    graph = BEYOND[what]
    ones = {n: np.ones(v.type.static or (), np.float32) for n, v in graph.inputs.items()}
    with pytest.raises(Unsupported):
        evaluate(graph, ones)


@pytest.mark.parametrize(("alpha", "opaque"), [(0.01, False), (0.5, True)])
def test_an_attribute_at_its_default_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, alpha: float, *, opaque: bool
) -> None:
    bare = replace(ops.ENTRIES["LeakyRelu"], attributes=frozenset())
    monkeypatch.setitem(ops.ENTRIES, "LeakyRelu", bare)
    assert graph_of("LeakyRelu", [2, 3], 16, alpha=alpha).nodes[0].op.opaque == opaque


def test_a_version_that_an_entry_was_not_written_for_is_opaque(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = replace(ops.ENTRIES["SpaceToDepth"], newest=13)
    monkeypatch.setitem(ops.ENTRIES, "SpaceToDepth", older)
    new, old = (graph_of("SpaceToDepth", [2, 3, 4, 4], v, blocksize=2) for v in (28, 13))
    assert (new.nodes[0].op.opaque, old.nodes[0].op.opaque) == (True, False)
    assert evaluate(new, {"x0": np.ones((2, 3, 4, 4), np.float32)})["y"].shape == (2, 12, 2, 2)


# Passes leave it alone


X = graph_of("Relu", [1, 2, 1, 1], 13).inputs["x0"]


def strange(name: str, *inputs: Any, **attrs: Any) -> Any:
    """A node that has an attribute which no version of its operator has."""
    op = ops.opaque(name, "", 13, [inputs[0].type])
    return Node(op, inputs, {**attrs, "strange": 1}).outputs[0]


def ones(*shape: int) -> Any:
    return ops.constant(np.ones(shape, np.float32))


def test_a_norm_behind_it_is_not_folded() -> None:
    y = strange("Conv", X, ones(2, 2, 1, 1))
    before = Graph({"x": X}, {"y": ops.BatchNormalization(y, *(ones(2) for _ in range(4)))})
    assert FoldBatchnorm()(before) is before


def test_it_is_not_shared() -> None:
    before = Graph({"x": X}, {"y": ops.Add(strange("Relu", X), strange("Relu", X))})
    assert Cse()(before) is before


def test_it_is_no_identity() -> None:
    before = Graph({"x": X}, {"y": strange("Concat", X, axis=1)})
    assert EliminateIdentity()(before) is before


def test_an_operator_that_stands_by_its_schema_is_standard() -> None:
    assert (ops.Relu.standard, strange("Relu", X).node.op.standard) == ("Relu", "")
