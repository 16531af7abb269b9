"""The recipe of CONTRIBUTING for an operator, followed on a toy: its entry alone is enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest
from onnx import defs

from redir import ops
from redir.backends.onnx import to_proto
from redir.channels.coupling import Coupling
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import evaluate
from redir.ops import links, mixing, traits
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.passes.fold_constants import FoldConstants
from redir.passes.merge import Merge
from redir.passes.prune import Prune
from redir.testing import check_on, check_removal
from redir.text import parse, tensors
from tests.helpers import const, operators, placeholder

FEEDS = {"x": np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)}


def doubled(node: Node, x: Any) -> Sequence[Any]:
    del node
    return [x * np.asarray(2, x.dtype)]


ENTRY = ops.entry(
    mixing.as_first,
    doubled,
    links=links.first_operand,
    has=traits.always("elementwise", "linear", "keeps_zero", "foldable"),
)


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    """An operator of the standard that doubles, as long as a test lasts."""
    part = defs.OpSchema.FormalParameter
    defs.register_schema(
        defs.OpSchema(
            "Toy",
            "",
            21,
            inputs=[part("X", "T")],
            outputs=[part("Y", "T")],
            type_constraints=[("T", ["tensor(float)", "tensor(double)"], "")],
        )
    )
    ops.lookup.cache_clear()
    with mock.patch.dict(ops.ENTRIES, {"Toy": ENTRY}):
        yield
    defs.deregister_schema("Toy", 21, "")
    ops.lookup.cache_clear()


def conv(x: Value, rows: object) -> Value:
    """A 1x1 convolution by a matrix."""
    return ops.Conv(x, const(np.array(rows)[:, :, None, None]))


def net(rows: object, columns: object) -> Graph:
    """A Toy between two convolutions by matrices."""
    x = placeholder(1, 1, 3, 3)
    toy = ops.lookup("Toy", 21)
    assert toy
    return Graph({"x": x}, {"y": conv(toy(conv(x, rows)), columns)})


def channels(graph: Graph) -> int | None:
    (node,) = (n for n in graph.nodes if n.op.name == "Toy")
    return node.outputs[0].type.size(1)


def test_it_is_read_from_a_file_and_written_to_one() -> None:
    graph = from_proto(to_proto(net([[1], [2]], [[1, 3]])))
    assert [n.op.standard for n in graph.nodes if n.inputs] == ["Conv", "Toy", "Conv"]


def test_it_is_read_from_text() -> None:
    graph = net([[1], [2]], [[1, 3]])
    held = {t.digest: t.array for t in tensors(graph)}
    toy = next(n for n in parse(repr(graph), lambda d, _: held[d]).nodes if n.op.name == "Toy")
    assert (toy.op.standard, toy.outputs[0].type.shape) == ("Toy", (1, 2, 3, 3))


def test_its_channels_are_tied() -> None:
    coupling = Coupling(net([[1], [2]], [[1, 3]]))
    (toy,) = (n for n in coupling.graph.nodes if n.op.name == "Toy")
    read, made = (coupling.group((v, 1)).tolist() for v in (toy.inputs[0], toy.outputs[0]))
    assert read == made
    assert not coupling.pinned & set(read)


@pytest.mark.parametrize("second", [[1], [2]], ids=["duplicate", "multiple"])
def test_channels_are_merged_through_it(second: list[int]) -> None:
    assert channels(check_on(Merge(), net([[1], second], [[1, 3]]))) == 1


def test_channels_that_differ_are_not_merged() -> None:
    graph = net([[1], [3]], [[1, 3]])
    assert check_on(Merge(), graph) is graph


def test_channels_are_pruned_through_it() -> None:
    graph = net([[1], [4], [2], [3]], [[1, 4, 2, 3]])
    assert channels(check_on(Prune(channel_ratio=0.5), graph)) == 2
    check_removal(graph)


def test_zeros_are_seen_through_it() -> None:
    assert channels(check_on(EliminateDeadChannels(), net([[1], [0]], [[1, 3]]))) == 1


def test_it_is_folded() -> None:
    toy = ops.lookup("Toy", 21)
    assert toy
    x = placeholder(2)
    folded = check_on(FoldConstants(), Graph({"x": x}, {"y": ops.Add(x, toy(const([1, 2])))}))
    assert operators(folded) == ["Add"]
    assert evaluate(folded, {"x": np.zeros(2, np.float32)})["y"].tolist() == [2, 4]


def test_one_rule_writes_it_as_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    from redir.backends.torch.ops import TABLE  # noqa: PLC0415 - torch comes first
    from redir.backends.torch.writer import to_torch  # noqa: PLC0415

    graph = net([[1], [2]], [[1, 3]])
    with mock.patch.dict(TABLE, {"Toy": lambda site: f"{site.ref(0)} * 2"}):
        found = to_torch(graph)(torch.from_numpy(FEEDS["x"]))
    np.testing.assert_array_equal(found.detach().numpy(), evaluate(graph, FEEDS)["y"])
