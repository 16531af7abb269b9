"""The conformance kit refutes seeded wrong passes, each for its own reason."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import Phase, settings

from redir import coupling, narrow, ops
from redir.coupling import Coupling
from redir.errors import Broken
from redir.guarantees import NO_GROWTH, SAME_INTERFACE, SAME_OUTPUTS, Guarantee
from redir.ir import Graph, Node, Port, Value
from redir.passes import eliminate_identity, fold_batchnorm, fold_constants, hash, merge  # noqa: A004
from redir.pipeline import Pass
from redir.rewrite import Outputs, transform
from redir.tensor import Array, Tensor
from redir.testing import check_pass, graphs

EXAMPLES = 600


@pytest.fixture(autouse=True)
def _unshrunk() -> Iterator[None]:
    """That there is a counterexample is enough; to look for the smallest takes longer."""
    before = settings.get_current_profile_name()
    settings.register_profile("unshrunk", settings(), phases=[Phase.generate])
    settings.load_profile("unshrunk")
    yield
    settings.load_profile(before)


@dataclass(frozen=True)
class MergeNodes(Pass):
    """Common subexpressions, by a key that says too little."""

    key: Callable[[Node, tuple[Value, ...]], Hashable]
    guarantees: ClassVar[tuple[Guarantee, ...]] = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH)

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


content = coupling._content


def no_biases(port: Port) -> Array | None:
    size = port[0].type.size(0)
    return np.zeros(size or 0, np.int64) if port[0].rank == 1 else content(port)


pins: Callable[[Coupling], dict[Port, Node | str]] = vars(Coupling)["pins"].func
joined = merge._joined


@property  # type: ignore[misc]
def no_output_pins(tied: Coupling) -> dict[Port, Node | str]:
    return {p: why for p, why in pins(tied).items() if not str(why).startswith("graph output")}


def first_weight(tied: Coupling, family: list[Port], numbers: dict[Port, Array]) -> Any:
    made = [p for p in family if p[0].node and p[0].node.op == ops.Const and p not in tied.summed]
    return joined(tied, made[:1], numbers)


def without_sums(array: Array, axis: int, kept: Array, _: Array | None) -> Array:
    return array.take(kept, axis)


WRONG_MERGES: dict[str, tuple[object, str, object]] = {
    "that ignores biases": (coupling, "_content", no_biases),
    "that narrows outputs": (Coupling, "pins", no_output_pins),
    "that does not add up what reads": (narrow, "_narrow", without_sums),
    "that looks at the first weight only": (merge, "_joined", first_weight),
}


@pytest.mark.parametrize("wrong", WRONG_MERGES)
def test_merge(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*WRONG_MERGES[wrong])
    with pytest.raises(Broken, match=r"differs|was float32|IllTyped|KeyError"):
        check_pass(merge.Merge(), graphs("conv", "residual", "depthwise", "activation"), EXAMPLES)


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


@pytest.mark.parametrize("wrong", [without_epsilon, without_mean, mean_for_bias])
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


def copied_anywhere(node: Node, sizes: dict[Value, Any]) -> Any:
    known = sizes.get(node.inputs[-1]) if node.op == ops.Reshape else None
    goal = np.array([k if isinstance(k, int) else 0 for k in known or ()], np.int64)
    return (
        None if known is None else node.on((node.inputs[0], ops.Const(value=Tensor(goal)))).outputs
    )


def reversed_shape(_: Node, x: Value) -> tuple[int, ...] | None:
    return x.type.static[::-1] if x.type.static else None


@pytest.mark.parametrize(
    ("part", "wrong"), [("_copied_sizes", copied_anywhere), ("_shape", reversed_shape)]
)
def test_fold_constants(part: str, wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_constants, part, wrong)
    drawn = graphs("computed_shape", "transpose", "conv", "channel_pad")
    with pytest.raises(Broken, match=r"differs|was |IllTyped|Unsupported"):
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
    monkeypatch.setattr(hash, "hashed", WRONG_HASHES[wrong])
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


LAWS: dict[str, tuple[Callable[[Graph], Graph], str]] = {
    "never fires": (lambda graph: graph, "never fired"),
    "gives a copy": (replace, "gave a copy"),
    "renames outputs": (renamed, "outputs .* became"),
    "gives something else each time": (numbered, "a second run gave something else"),
    "writes to its graph": (written, "wrote to the graph"),
    "fails": (failing, "ZeroDivisionError: main"),
}


@pytest.mark.parametrize("law", LAWS)
def test_a_pass_that(law: str) -> None:
    change, why = LAWS[law]
    with pytest.raises(Broken, match=why):
        check_pass(Does(change), max_examples=20)
