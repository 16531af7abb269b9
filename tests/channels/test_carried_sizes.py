"""A size that a Shape reads and an operator gives to an axis ties the two axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from redir import ops
from redir.channels import ports
from redir.channels.coupling import Coupling
from redir.errors import Broken
from redir.ir import Attr, Graph, Node, Value, evaluate
from redir.ir.tensor import Tensor
from redir.passes import Merge, Prune
from redir.testing import check_on, check_removal, plant_duplicates
from tests.helpers import const, ints, operators, placeholder

RNG = np.random.default_rng(0)
NOTHING, ONE = ops.Absent(), Tensor(np.ones(1, np.float32))
Between = Callable[[Value], Value]


def network(between: Between) -> tuple[Graph, Value]:
    """Two layers, and what is between them; and the map that the first one gives."""
    x = placeholder("n", 3, "h", "w")
    weights = (const(RNG.normal(size=shape)) for shape in ((8, 3, 3, 3), (2, 8, 1, 1)))
    first = ops.Relu(ops.Conv(x, next(weights), pads=(1, 1, 1, 1)))
    return Graph({"x": x}, {"y": ops.Conv(between(first), next(weights))}), first


def part(x: Value, start: int, end: int) -> Value:
    return ops.Slice(ops.Shape(x), ints(start), ints(end))


def behind(*parts: Value) -> Value:
    return ops.Concat(*parts, axis=0)


def flat(r: Value) -> Value:
    return ops.Relu(ops.Reshape(r, ints(0, 0, -1)))


def pooled(r: Value) -> Value:
    return ops.MaxPool(r, kernel_shape=(2, 2), strides=(2, 2))


def resized(x: Value, sizes: Value, **attrs: Attr) -> Value:
    how: dict[str, Attr] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
    return ops.Resize(x, NOTHING, NOTHING, sizes, **{**how, "nearest_mode": "floor", **attrs})


def expanded(r: Value, read: int = 2) -> Value:
    """What torch's exporter makes of an expand in which -1 may say that a size stays.

    The first so many sizes are ``read``, and the others stay.
    """
    target = behind(part(r, 0, read), ints(*[-1] * (4 - read)))
    stays = ops.Equal(target, ints(-1, -1, -1, -1))
    one = ops.GlobalAveragePool(r)
    return ops.Add(r, ops.Expand(one, ops.Where(stays, ints(1, 1, 1, 1), target)))


def split(r: Value) -> Value:
    """What onnxruntime makes of several Slices of one vector of sizes."""
    op = ops.lookup("Split", 13)
    assert op is not None
    four = Node(op, (ops.Shape(r), ints(1, 1, 1, 1)), {"axis": 0}, arity=4).outputs
    return ops.Reshape(flat(r), behind(*four))


def cut_back(r: Value) -> Value:
    """A map that is padded by as much as another one is larger, in no axis of channels."""
    more = ops.Sub(part(r, 2, 4), part(pooled(r), 2, 4))
    return ops.Add(r, ops.Pad(pooled(r), behind(ints(0, 0, 0, 0, 0, 0), more)))


def normed_in_groups(r: Value) -> Value:
    """What torch's exporter makes of a GroupNorm: an InstanceNormalization of groups."""
    groups = ops.Reshape(r, ints(0, 4, -1))
    factor, bias = (const(RNG.normal(size=4)) for _ in range(2))
    return ops.Reshape(ops.InstanceNormalization(groups, factor, bias), ops.Shape(r))


def in_rows(r: Value) -> Value:
    """Parts of the channels in rows, beside those of other places and examples."""
    last = ops.Transpose(r, perm=(0, 2, 3, 1))
    rows = ops.Mul(ops.Reshape(last, ints(-1, 4)), const(RNG.normal(size=4)))
    back = ops.Reshape(rows, behind(part(last, 0, 3), ints(8)))
    return ops.Transpose(back, perm=(0, 3, 1, 2))


FREE: dict[str, Between] = {
    "a norm of groups": normed_in_groups,
    "rows of parts of the channels": in_rows,
    "Expand to the sizes of a map": lambda r: ops.Mul(
        r, ops.Expand(ops.GlobalAveragePool(r), ops.Shape(r))
    ),
    "Expand of one number": lambda r: ops.Expand(const([[[[2.0]]]]), ops.Shape(r)),
    "Expand to sizes and a number": lambda r: ops.Expand(
        ops.GlobalAveragePool(r), behind(part(r, 0, 1), ints(8), part(r, 2, 4))
    ),
    "Expand where it may say that a size stays": expanded,
    "Expand where it says that the channels stay": lambda r: expanded(r, 1),
    "Expand of fewer axes": lambda r: ops.Add(
        r, ops.Expand(const(RNG.normal(size=(8, 1, 1))), ops.Shape(r))
    ),
    "Reshape back": lambda r: ops.Reshape(flat(r), ops.Shape(r)),
    "Reshape back to sizes and a number": lambda r: ops.Reshape(
        flat(r), behind(part(r, 0, 1), ints(8), part(r, 2, 4))
    ),
    "Reshape back to sizes that are split": split,
    "Reshape back to sizes in columns": lambda r: ops.Reshape(
        flat(r), ops.Squeeze(ops.Unsqueeze(ops.Shape(r), ints(1)), ints(1))
    ),
    "Resize to the sizes of two maps": lambda r: resized(
        pooled(r), behind(part(r, 0, 2), part(ops.Relu(r), 2, 4))
    ),
    "Resize to sizes and a number": lambda r: resized(
        pooled(r), behind(part(r, 0, 1), ints(8), part(r, 2, 4))
    ),
    "Resize of some axes": lambda r: resized(pooled(r), part(r, 2, 4), axes=(2, 3)),
    "zeros": lambda r: ops.Add(r, ops.ConstantOfShape(ops.Shape(r))),
    "ones alone": lambda r: ops.ConstantOfShape(
        behind(part(r, 0, 1), ints(8), part(r, 2, 4)), value=ONE
    ),
    "Pad by computed amounts": cut_back,
}
PINNED: dict[str, Between] = {
    "computed with": lambda r: ops.Reshape(flat(r), ops.Add(ops.Shape(r), ints(0))),
    "compared with what it may be": lambda r: ops.Expand(
        ops.GlobalAveragePool(r),
        ops.Where(ops.Equal(ops.Shape(r), ints(8, 8, 8, 8)), ops.Shape(r), ops.Shape(r)),
    ),
    "a Reshape in which nobody knows what is of which size": lambda r: ops.Reshape(
        ops.Reshape(r, ints(-1)), ops.Shape(r)
    ),
    "a Resize that keeps proportions": lambda r: resized(
        pooled(r), ops.Shape(r), keep_aspect_ratio_policy="not_larger"
    ),
    "a Resize that cuts": lambda r: resized(
        pooled(r), ops.Shape(r), coordinate_transformation_mode="tf_half_pixel_for_nn"
    ),
    "a Pad by a computed number of channels": lambda r: ops.Pad(
        r, ops.Mul(ops.Concat(*[ops.Shape(r)] * 2, axis=0), ints(*[0] * 8))
    ),
}


@pytest.mark.parametrize("what", FREE)
def test_channels_whose_number_is_given_to_an_axis_are_free(what: str) -> None:
    graph, first = network(FREE[what])
    assert not Coupling(graph).is_pinned((first, 1))


@pytest.mark.parametrize("what", PINNED)
def test_channels_whose_number_is_used_otherwise_are_pinned(what: str) -> None:
    graph, first = network(PINNED[what])
    assert Coupling(graph).is_pinned((first, 1))


def assert_pruned_alike(graph: Graph) -> None:
    """Assert that without half of its channels it gives what it gives with zeros for them."""
    pair = [Prune(0.5, compact=compact)(graph) for compact in (False, True)]
    for shape in ((2, 3, 7, 6), (1, 3, 4, 9)):
        x = RNG.normal(size=shape).astype(np.float32)
        zeros, left = (evaluate(each, {"x": x})["y"] for each in pair)
        np.testing.assert_allclose(left, zeros, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("what", FREE)
def test_without_channels_the_axes_that_are_given_their_number_are_narrower(what: str) -> None:
    graph, _ = network(FREE[what])
    assert_pruned_alike(graph)
    pruned = Prune(0.5)(graph).outputs["y"].node
    assert pruned is not None
    assert pruned.inputs[1].type.shape == (2, 4, 1, 1)


@pytest.mark.parametrize("what", FREE)
def test_planted_copies_are_found(what: str) -> None:
    graph, _ = network(FREE[what])
    planted = plant_duplicates(graph, 1.0, 0)
    found = check_on(Merge(), planted).outputs["y"].node
    assert found is not None
    assert (found.inputs[1].type.size(1) or 0) <= 8


SEEDS = range(4)  # of which channels go


def removed(between: Between, *seeds: int) -> None:
    """Compare a network without some of its channels with one that has zeros for them."""
    for seed in seeds:
        check_removal(network(between)[0], seed=seed)


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=[pytest.mark.nightly] * (n > 0)) for n in SEEDS]
)
@pytest.mark.parametrize("what", FREE | PINNED)
def test_without_any_channels_it_is_as_if_they_were_zero(what: str, seed: int) -> None:
    removed((FREE | PINNED)[what], seed)


def test_a_resize_that_keeps_proportions_leaves_other_axes_as_they_are() -> None:
    how: dict[str, Attr] = {"axes": (-2, -1), "keep_aspect_ratio_policy": "not_larger"}
    graph, first = network(lambda r: resized(pooled(r), part(r, 2, 4), **how))
    assert not Coupling(graph).is_pinned((first, 1))


def test_an_axis_goes_with_the_one_whose_size_it_is_given() -> None:
    x = placeholder("n", 3, "h", "w")
    maps = [ops.Conv(x, const(RNG.normal(size=(8, 3, 1, 1)))) for _ in range(2)]
    one = ops.Reshape(ops.Reshape(maps[0], ints(0, 0, -1)), ops.Shape(maps[1]))
    y = ops.Conv(one, const(RNG.normal(size=(2, 8, 1, 1))))
    graph = Graph({"x": x}, {"y": y})
    coupling = Coupling(graph)
    np.testing.assert_array_equal(coupling.group((one, 1)), coupling.group((maps[1], 1)))
    assert_pruned_alike(graph)


def test_an_axis_that_is_given_the_size_of_an_input_is_pinned() -> None:
    x, like = placeholder("n", 3, "h", "w"), placeholder("n", 8, "h", "w")
    first = ops.Conv(x, const(RNG.normal(size=(8, 3, 1, 1))))
    same = ops.Reshape(flat(first), ops.Shape(like))
    y = ops.Conv(same, const(RNG.normal(size=(2, 8, 1, 1))))
    assert Coupling(Graph({"x": x, "like": like}, {"y": y})).is_pinned((first, 1))


def test_sizes_that_are_given_out_too_stay() -> None:
    graph, first = network(FREE["Reshape back"])
    shape = next(node for node in graph.nodes if node.op == ops.Shape).outputs[0]
    assert Coupling(Graph(graph.inputs, {**graph.outputs, "s": shape})).is_pinned((first, 1))


def test_two_readers_that_ask_for_one_size_share_it() -> None:
    def twice(r: Value) -> Value:
        target = behind(part(r, 0, 1), ints(8), part(r, 2, 4))
        return ops.Add(ops.Reshape(flat(r), target), ops.Reshape(flat(ops.Neg(r)), target))

    pruned = Prune(0.5)(network(twice)[0])
    assert operators(pruned).count("Concat") == 1


def test_that_axes_given_a_size_stand_alone_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "carried", lambda *_: ())
    with pytest.raises(Broken):
        removed(FREE["Expand of one number"], *SEEDS)
