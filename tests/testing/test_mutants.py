"""The conformance kit refutes seeded wrong passes, each for its own reason."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from redir import ops
from redir.channels import constants, removal
from redir.channels.coupling import Coupling
from redir.channels.removal import Joined
from redir.check.guarantees import NO_GROWTH, SAME_INTERFACE, SAME_OUTPUTS
from redir.errors import Broken
from redir.ir import Graph, Node, Port, Value
from redir.ir.rewriter import Outputs, map_constants, transform
from redir.ir.tensor import Array, Tensor
from redir.ops import sizes, traits
from redir.passes import (
    eliminate_dead_channels,
    eliminate_identity,
    fold_batchnorm,
    fold_constants,
    hash,  # noqa: A004
    merge,
)
from redir.passes.merge import algebra, linear_sums, plan, repeated_operands, value_numbering
from redir.passes.merge.value_numbering import Numbers
from redir.pipeline import Pass
from redir.testing import check_pass, graphs
from redir.testing.draft import Draft
from redir.testing.strategies import STEPS
from tests.helpers import one_of_three, placeholder

EXAMPLES = 600


pytestmark = pytest.mark.usefixtures("unshrunk")


@st.composite
def chains(draw: st.DrawFn, *steps: str) -> Graph:
    """Draw a graph of these steps, each on the one before, where its rank allows."""
    d = Draft(draw)
    for name in steps:
        rank, step = STEPS[name]
        x = d.values[-1]
        if rank in (0, x.rank):
            d.add(step(d, x))
    return Graph(d.inputs, {"out": d.values[-1]})


@dataclass(frozen=True)
class MergeNodes(Pass):
    """Common subexpressions, by a key that says too little."""

    key: Callable[[Node, tuple[Value, ...]], Hashable]
    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH)

    def run(self, graph: Graph) -> Graph:
        seen: dict[Hashable, Node] = {}

        def first(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
            key = self.key(node, inputs)
            return seen.setdefault(key, node.on(inputs)).outputs if node.inputs else None

        return transform(graph, first)


def attrs(node: Node) -> Hashable:
    return (node.op, tuple(sorted(node.attrs.items())), node.arity)


KEYS: dict[str, Callable[[Node, tuple[Value, ...]], Hashable]] = {
    "attributes": lambda node, inputs: (node.op, inputs, node.arity, node.bodies),
    "the order of operands": lambda node, inputs: (attrs(node), frozenset(inputs)),
    "all operands but the first": lambda node, inputs: (attrs(node), inputs[:1]),
    "operands": lambda node, _: (attrs(node), node.outputs[0].type),
    "the operator": lambda node, inputs: (inputs, node.outputs[0].type, node.arity),
    "that it is random or unknown": lambda node, inputs: (attrs(node), inputs),
}


@pytest.mark.parametrize("ignored", KEYS)
def test_cse_that_ignores(ignored: str) -> None:
    drawn = graphs("again", "arithmetic", "leaky_relu", "concat", "random", "opaque")
    with pytest.raises(Broken, match=r"differs|came or went"):
        check_pass(MergeNodes(KEYS[ignored]), drawn, EXAMPLES)


content, proportion = value_numbering.content, value_numbering._in_proportion


def no_biases(port: Port) -> Numbers | None:
    size = port[0].type.size(0) or 0
    return Numbers(np.zeros(size, int), np.zeros(size)) if port[0].rank == 1 else content(port)


pins: Callable[[Coupling], dict[Port, Node | str]] = vars(Coupling)["pins"].func
assigned, roles = linear_sums._assigned, linear_sums._roles
alike, factors, terms = plan.alike, plan._scaled, algebra.terms


@property  # type: ignore[misc]
def no_output_pins(tied: Coupling) -> dict[Port, Node | str]:
    return {p: why for p, why in pins(tied).items() if not str(why).startswith("graph output")}


def first_weight(tied: Coupling, family: list[Port], *others: Any) -> Any:
    made = [p for p in family if p[0].node and p[0].node.op == ops.Const and p not in tied.summed]
    return alike(tied, made[:1], *others)


def without_sums(array: Array, axis: int, kept: Array, _: Joined | None) -> Array:
    return array.take(kept, axis)


def without_factors(*args: Any) -> Joined:
    return replace(factors(*args), factor=np.ones(factors(*args).factor.size))


def inverse_factors(*args: Any) -> Joined:
    return replace(factors(*args), factor=1 / factors(*args).factor)


def in_any_proportion(keys: Array, lengths: Array) -> Any:
    return proportion(keys, np.broadcast_to(lengths[:, :1], lengths.shape))


def whatever_is_held(tied: Coupling, _: Any, port: Port) -> Array:
    return np.zeros(tied.group(port).size)


def without_kept(*args: Any) -> Any:
    found = assigned(*args)
    return None if found is None else (found[0], set())


def without_rows(tied: Coupling) -> Any:
    return replace(roles(tied), added=set())


def all_equal(tied: Coupling) -> dict[Port, Numbers]:
    zeros = {port: np.zeros(tied.group(port).size) for port in tied.ports}
    return {port: Numbers(zero, zero) for port, zero in zeros.items()}


def homogeneous(node: Node) -> list[tuple[int, ...]]:
    return terms(node) or [(0,)]


WRONG_MERGES: dict[str, tuple[object, str, object]] = {
    "that ignores biases": (value_numbering, "content", no_biases),
    "that narrows outputs": (Coupling, "pins", no_output_pins),
    "that does not add up what reads": (removal, "_narrow", without_sums),
    "that looks at the first weight only": (plan, "alike", first_weight),
    "that forgets factors": (plan, "_scaled", without_factors),
    "that divides by factors": (plan, "_scaled", inverse_factors),
    "that lets biases be of other factors": (value_numbering, "_in_proportion", in_any_proportion),
    "that takes a sigmoid for homogeneous": (value_numbering, "terms", homogeneous),
    "that takes any border for zero": (traits, "_border", lambda _: 0.0),
    "that adds across a relu": (linear_sums, "is_linear", terms),
    "that adds where columns differ": (linear_sums, "_held", whatever_is_held),
    "that adds where scales differ": (linear_sums, "_assigned", without_kept),
    "that drops instead of adding": (linear_sums, "_roles", without_rows),
    "that takes operands for repeats": (repeated_operands, "number_channels", all_equal),
    "that drops operands in part": (repeated_operands, "_whole", lambda *args: args[-1]),
}
DRAWN = {
    "that takes a sigmoid for homogeneous": chains("conv", "activation", "conv"),
    "that takes any border for zero": chains("conv", "channel_pad", "conv"),
    "that adds across a relu": chains("conv", "activation", "conv"),
    "that adds where scales differ": chains("conv", "scale", "conv"),
    "that takes operands for repeats": graphs("concat", "conv"),
    "that drops operands in part": graphs("concat", "scale", "conv"),
}


@pytest.mark.nightly
@pytest.mark.parametrize("wrong", WRONG_MERGES)
def test_merge(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*WRONG_MERGES[wrong])
    with pytest.raises(Broken, match=r"differs|was float32|IllTyped|KeyError|Unsupported"):
        check_pass(merge.Merge(), DRAWN.get(wrong, chains("conv", "conv")), EXAMPLES)


fold_norm = fold_batchnorm._folded


def without_epsilon(norm: Node) -> Value | None:
    return fold_norm(norm.on(norm.inputs, epsilon=0.0))


def without_mean(norm: Node) -> Value | None:
    x, scale, bias, mean, var = norm.inputs
    zero = ops.Const(value=Tensor(np.zeros(mean.type.static or (), np.float32)))
    return fold_norm(norm.on((x, scale, bias, zero, var)))


def mean_for_bias(norm: Node) -> Value | None:
    x, scale, bias, mean, var = norm.inputs
    return fold_norm(norm.on((x, scale, mean, bias, var)))


@pytest.mark.parametrize("wrong", one_of_three([mean_for_bias, without_epsilon, without_mean]))
def test_fold_batchnorm(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_batchnorm, "_folded", wrong)
    with pytest.raises(Broken, match="differs"):
        check_pass(fold_batchnorm.FoldBatchnorm(), graphs("conv", "batchnorm"), EXAMPLES)


@pytest.mark.parametrize("dropped", ["Cast", "Pad", "Transpose", "Relu", "Reshape"])
def test_eliminate_identity_that_drops_any(dropped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eliminate_identity, "_is_identity", lambda node: node.op.name == dropped)
    drawn = graphs("cast", "channel_pad", "transpose", "activation", "reshape")
    with pytest.raises(Broken, match="eliminate-identity"):
        check_pass(eliminate_identity.EliminateIdentity(), drawn, EXAMPLES)


def copied_anywhere(node: Node) -> tuple[int, ...] | None:
    goal = sizes.goal_of(node) if node.op == ops.Reshape else None
    dims = [] if goal is None else [goal.dims.get(axis) for axis in goal.axes]
    return tuple(dim if isinstance(dim, int) else 0 for dim in dims) or None


def reversed_sizes(node: Node) -> list[Value] | None:
    known = [] if node.sizes is None else [size.dim for size in node.sizes.reshape(-1)]
    return [ops.constant(np.array(known[::-1]))] if None not in known and known else None


@pytest.mark.parametrize(
    ("part", "wrong"), [("_copied_sizes", copied_anywhere), ("_sized", reversed_sizes)]
)
def test_fold_constants(part: str, wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_constants, part, wrong)
    drawn = graphs("computed_shape", "transpose", "conv", "channel_pad")
    with pytest.raises(Broken, match=r"differs|was |IllTyped|Unsupported"):
        check_pass(fold_constants.FoldConstants(), drawn, EXAMPLES)


def test_fold_constants_at_any_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_constants, "affordable", lambda graph, known, whole: whole)  # noqa: ARG005
    drawn = graphs("grown_constant", "computed_shape")
    with pytest.raises(Broken, match="parameters became"):
        check_pass(fold_constants.FoldConstants(), drawn, EXAMPLES)


WRONG_HASHES: dict[str, Callable[[Array, Any, float], Array]] = {
    "moves zeros": lambda weights, *_: weights + 1,
    "turns the order": lambda weights, *_: -weights,
    "tells equal weights apart": lambda w, *_: (
        w * np.arange(w.size).reshape(w.shape).astype(w.dtype)
    ),
    "changes the shape": lambda weights, *_: weights[:1],
    "changes the type": lambda weights, *_: weights.astype(np.float64),
}


@pytest.mark.parametrize("wrong", WRONG_HASHES)
def test_hash_that(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash, "moved", WRONG_HASHES[wrong])
    with pytest.raises(Broken, match=r"was 0|order|distinct|type|IllTyped|was float32"):
        check_pass(hash.Hash(), graphs("conv", "gemm"), EXAMPLES)


# The laws that no pass has to promise


@dataclass(frozen=True)
class Does(Pass):
    """Whatever it is told."""

    change: Callable[[Graph], Graph]

    def run(self, graph: Graph) -> Graph:
        return self.change(graph)


NUMBERS: Iterator[int] = count()


def renamed(graph: Graph) -> Graph:
    return replace(graph, outputs={f"{name}_": v for name, v in graph.outputs.items()})


def numbered(graph: Graph) -> Graph:
    return replace(graph, name=f"main{next(NUMBERS)}")


def written(graph: Graph) -> Graph:
    object.__setattr__(graph, "name", graph.name + "_")
    return graph


def failing(graph: Graph) -> Graph:
    raise ZeroDivisionError(graph.name)


SLOWLY = "never fires"  # as one that fires too late, below
LAWS: dict[str, tuple[Callable[[Graph], Graph], str]] = {
    SLOWLY: (lambda graph: graph, "never fired"),
    "gives a copy": (replace, "gave a copy"),
    "renames outputs": (renamed, "outputs .* became"),
    "gives something else each time": (numbered, "a second run gave something else"),
    "writes to its graph": (written, "wrote to the graph"),
    "fails": (failing, "ZeroDivisionError: main"),
}


@pytest.mark.parametrize(
    "law", [pytest.param(law, marks=[pytest.mark.nightly] * (law == SLOWLY)) for law in LAWS]
)
def test_a_pass_that(law: str) -> None:
    change, why = LAWS[law]
    with pytest.raises(Broken, match=why):
        check_pass(Does(change), max_examples=20)


@pytest.mark.parametrize(("place", "found"), [(3, True), (17, True), (999, False)])
def test_a_pass_that_fires_late_is_given_more_graphs(place: int, *, found: bool) -> None:
    x = placeholder(1)
    plain, double = Graph({"x": x}, {"y": x}), Graph({"x": x}, {"y": ops.Identity(x)})
    drawn = count()
    late = st.integers().map(lambda _: double if next(drawn) == place else plain)
    if found:
        check_pass(eliminate_identity.EliminateIdentity(), late, 5)
    else:
        with pytest.raises(Broken, match="never fired on 25 graphs"):
            check_pass(eliminate_identity.EliminateIdentity(), late, 5)


# Constant channels

product = eliminate_dead_channels._product
fold, with_bias = eliminate_dead_channels._folded, eliminate_dead_channels._with_bias
weighted = constants._weighted
CHANGED: dict[Value, Tensor] = {}


def noted(graph: Graph, bias: Any, made: Array, inputs: tuple[Value, ...]) -> Node:
    new = with_bias(graph, bias, made, inputs)
    CHANGED[bias.value] = new.inputs[bias.place].node.attrs["value"]
    return new


def changed_for_all(*args: Any) -> Graph:
    CHANGED.clear()
    return map_constants(fold(*args), lambda value, _: CHANGED.get(value))


def without_factor(node: Node, kernel: Array, numbers: Array) -> Array:
    plain = node if node.op == ops.Conv else node.on(node.inputs, alpha=1.0)
    return product(plain, kernel, numbers)


def of_the_first_group(node: Node, kernel: Array, numbers: Array) -> Array:
    size = kernel.shape[2]
    return product(node, kernel, np.resize(numbers[:size], numbers.size))


def without_bias(node: Node, operands: list[Any], unknown: Array) -> Array:
    return weighted(node, operands[:2], unknown)


def of_the_last(parts: Iterable[Any], size: int) -> Array:
    numbers = np.full(size, np.nan)
    for _, places, brought in parts:
        numbers[places] = brought
    return numbers


DEAD = eliminate_dead_channels
WRONG_FOLDS: dict[str, tuple[object, str, object]] = {
    "ignores the border": (DEAD, "reads_border", lambda _: False),
    "ignores the border of depthwise kernels": (constants, "reads_border", lambda _: False),
    "changes a shared bias": (DEAD, "_folded", changed_for_all),
    "forgets a factor": (DEAD, "_product", without_factor),
    "takes one group for all": (DEAD, "_product", of_the_first_group),
    "forgets what makes a constant": (constants, "_weighted", without_bias),
    "looks at one operand": (constants, "_agreed", of_the_last),
}


@st.composite
def constant_channels(draw: st.DrawFn) -> Graph:
    """Two of four channels are constant, most of the time still where they are read."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    x = placeholder(1, 2, 3, 3)

    def weight(*shape: int, silent: int = 0) -> Value:
        array = rng.integers(1, 4, shape).astype(np.float32)
        array[:silent:2] = 0
        return ops.Const(value=Tensor.take(array))

    def pads() -> tuple[int, ...]:
        return (draw(st.integers(0, 1)),) * 4

    def other_of_four() -> Value:
        return ops.Conv(x, weight(4, 2, 1, 1, silent=draw(SILENT)))

    shared = weight(2)
    stem = ops.Conv(x, weight(4, 2, 1, 1, silent=4), weight(4))
    makers: list[Callable[[], Value]] = [
        lambda: stem,
        lambda: ops.Conv(stem, weight(4, 1, 3, 3), weight(4), pads=pads()),
        lambda: ops.Add(stem, other_of_four()),
        lambda: ops.Concat(stem, other_of_four(), axis=2),
    ]
    middle = draw(st.sampled_from(makers))()
    read = ops.Conv(middle, weight(2, draw(st.sampled_from([2, 4])), 1, 1), shared, pads=pads())
    flat = ops.Flatten(middle)
    again = ops.Gemm(flat, weight(flat.type.size(1) or 0, 2), shared, alpha=draw(FACTOR))
    other = ops.Conv(x, weight(2, 2, 1, 1), shared)
    return Graph({"x": x}, {"read": read, "again": again, "other": other})


SILENT, FACTOR = st.sampled_from([0, 4]), st.sampled_from([1.0, 2.0])


@pytest.mark.parametrize("what", WRONG_FOLDS)
def test_eliminate_dead_channels_that(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DEAD, "_with_bias", noted)
    monkeypatch.setattr(*WRONG_FOLDS[what])
    with pytest.raises(Broken, match="differs"):
        check_pass(DEAD.EliminateDeadChannels(), constant_channels(), EXAMPLES)


def test_eliminate_dead_channels_as_it_is() -> None:
    check_pass(DEAD.EliminateDeadChannels(), constant_channels())
