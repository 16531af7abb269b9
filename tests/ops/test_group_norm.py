"""GroupNormalization of operator set 18, with a scale and a bias for each group of channels."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.backends.onnx import to_proto
from redir.channels.coupling import Coupling
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.passes.merge import Merge
from redir.passes.prune import Prune
from redir.runtime.onnxruntime import runner
from redir.testing import check_on, check_removal
from tests.helpers import const, placeholder

GROUPS, EACH = 3, 2
SCALE, BIAS = [3, 1, 2], [1, 2, 3]
ROWS = [[1], [2], [3], [5], [2], [7]]
FEEDS = {"x": np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype(np.float32)}


def net(columns: list[int], rows: list[list[int]] = ROWS, bias: list[int] = BIAS) -> Graph:
    """A norm of three groups between two convolutions by matrices, as a file of it is read."""
    x = placeholder(2, 1, 3, 3)
    first = ops.Conv(x, const(np.array(rows)[:, :, None, None]), const([0, 1, 2, 3, 4, 5]))
    norm = ops.lookup("GroupNormalization", 18)
    assert norm
    y = ops.Relu(norm(first, const(SCALE), const(bias), num_groups=GROUPS))
    last = ops.Conv(y, const(np.array([columns])[:, :, None, None]))
    return from_proto(to_proto(Graph({"x": x}, {"y": last}, opset={"": 18})))


def norm_of(graph: Graph) -> Node:
    (node,) = (n for n in graph.nodes if n.op.name == "GroupNormalization")
    return node


def scale_of(graph: Graph) -> list[float]:
    tensor = ops.tensor_of(norm_of(graph).inputs[1])
    return [] if tensor is None else [float(n) for n in tensor.array]


def computed_by_hand(x: Array) -> Array:
    grouped = x.reshape(len(x), GROUPS, -1)
    far = grouped - grouped.mean(-1, keepdims=True)
    even = far / np.sqrt(grouped.var(-1, keepdims=True) + 1e-5)
    scale, bias = (np.array(a, np.float32)[:, None] for a in (SCALE, BIAS))
    return np.asarray((even * scale + bias).reshape(x.shape))


NET = net([1, 1, 1, 1, 1, 1])
DEAD = net([1, 1, 0, 0, 1, 1])
HALF_DEAD = net([1, 1, 0, 1, 1, 1])


def test_it_is_read_as_the_standard_operator() -> None:
    assert (norm_of(NET).op.standard, norm_of(NET).op.version) == ("GroupNormalization", 18)


def test_each_group_has_its_scale_and_bias() -> None:
    read, made = norm_of(NET).inputs[0], norm_of(NET).outputs[0]
    inside = Graph(dict(NET.inputs), {"read": read, "made": made}, opset={"": 18})
    found = evaluate(inside, FEEDS)
    np.testing.assert_allclose(found["made"], computed_by_hand(found["read"]), 1e-4, 1e-5)


def test_whole_groups_are_free() -> None:
    coupling, norm = Coupling(NET), norm_of(NET)
    channels = coupling.group((norm.outputs[0], 1)).tolist()
    assert not coupling.pinned & set(channels)
    assert [channels.index(c) // EACH for c in channels] == [0, 0, 1, 1, 2, 2]
    assert coupling.group((norm.inputs[1], 0)).tolist() == channels[::EACH]


def test_vectors_of_another_size_pin_the_channels() -> None:
    norm = norm_of(NET)
    wide = norm.on([norm.inputs[0], *(const(np.ones(GROUPS * EACH)) for _ in range(2))])
    assert list(wide.op.links(wide)) == []


def test_pruning_takes_whole_groups() -> None:
    pruned = check_on(Prune(channel_ratio=0.4), NET)
    assert norm_of(pruned).attrs["num_groups"] == GROUPS - 1
    assert norm_of(pruned).inputs[0].type.size(1) == (GROUPS - 1) * EACH
    np.testing.assert_allclose(runner(pruned)(FEEDS)["y"], evaluate(pruned, FEEDS)["y"], 1e-4, 1e-4)


def test_a_group_that_nothing_reads_goes() -> None:
    left = check_on(EliminateDeadChannels(), DEAD)
    assert scale_of(left) == [3, 2]
    np.testing.assert_allclose(evaluate(left, FEEDS)["y"], evaluate(DEAD, FEEDS)["y"], 1e-4, 1e-4)


def test_a_group_of_which_something_is_read_stays() -> None:
    assert scale_of(check_on(EliminateDeadChannels(), HALF_DEAD)) == SCALE


def test_channels_that_a_norm_makes_equal_in_part_are_not_merged() -> None:
    equal = net([1, 1, 1, 1, 1, 1], rows=[[1], [2], [1], [2], [1], [2]])
    assert scale_of(check_on(Merge(), equal)) == SCALE


def test_removing_is_the_same_as_silencing() -> None:
    check_removal(NET)


def test_both_backends_compute_the_same() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    from redir.backends.torch.writer import to_torch  # noqa: PLC0415 - torch comes first

    wanted = runner(NET)(FEEDS)["y"]
    found = to_torch(NET)(torch.from_numpy(FEEDS["x"])).detach().numpy()
    np.testing.assert_allclose(evaluate(NET, FEEDS)["y"], wanted, 1e-4, 1e-4)
    np.testing.assert_allclose(found, wanted, 1e-4, 1e-4)
