"""The laws of traits, by brute force: what an operator claims holds, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, reject, settings
from hypothesis import strategies as st
from hypothesis.errors import UnsatisfiedAssumption

from redir import ops
from redir.errors import IllTyped, Unsupported
from redir.ir import Node, Value
from redir.ir.op import Trait
from redir.ir.tensor import Array
from redir.ops import traits
from redir.runtime.onnxruntime import session
from tests.drawn_nodes import DRAWERS, VERSIONS, Case, Draw, with_options

Arrays: TypeAlias = list[Array | None]
Change: TypeAlias = Callable[[Array], Array]


def run(node: Node, arrays: Arrays) -> list[Array]:
    with np.errstate(all="ignore"):
        return [np.asarray(a) for a in node.op.evaluate(node, *arrays)]


def operands(case: Case) -> Arrays:
    return [None if ops.is_absent(v) else case.arrays[v] for v in case.node.inputs]


def factors(node: Node, place: int) -> list[int]:
    """One factor of each term."""
    return list(dict.fromkeys(p[min(place, len(p) - 1)] for p in node.op.terms(node)))


def changed(case: Case, places: Sequence[int], change: Change) -> list[Array]:
    """The results where the operands at ``places`` are changed."""
    arrays = operands(case)
    return run(
        case.node, [change(a) if i in places and a is not None else a for i, a in enumerate(arrays)]
    )


def data(case: Case, place: int = 0) -> list[Array]:
    arrays = operands(case)
    return [a for i in factors(case.node, place) if (a := arrays[i]) is not None]


def same(found: Sequence[Array], wanted: Sequence[Array]) -> bool:
    return all(
        a.shape == b.shape
        and np.allclose(a.astype(float), b.astype(float), 1e-4, 1e-4, equal_nan=True)
        for a, b in zip(found, wanted, strict=True)
    )


def fractions(case: Case, place: int = 0) -> list[Array]:
    """The data as small fractions; nothing is asked of other kinds, or where results are odd."""
    arrays = [a * np.asarray(0.125, a.dtype) for a in data(case, place) if a.dtype.kind == "f"]
    assume(arrays and len(arrays) == len(data(case, place)))
    results = put(case, factors(case.node, place), arrays)
    assume(all(np.isfinite(y).all() for y in results if y.dtype.kind == "f"))
    return arrays


def put(case: Case, places: Sequence[int], arrays: Sequence[Array]) -> list[Array]:
    """The results on other operands at ``places``."""
    new = dict(zip(places, arrays, strict=True))
    return run(case.node, [new.get(i, a) for i, a in enumerate(operands(case))])


# The laws: each says of a case whether it holds there


def moves_data(case: Case) -> bool:
    def bent(a: Array) -> Array:
        if a.dtype == bool:
            return ~a
        factor = np.array(0.375 if a.dtype.kind == "f" else 3, a.dtype)
        with np.errstate(over="ignore"):
            return np.asarray((a - factor) ** 2 * factor - a)

    def same_behind(change: Change) -> bool:
        before = run(case.node, operands(case))
        return same(changed(case, factors(case.node, 0), change), [change(y) for y in before])

    return same_behind(bent) and same_behind(np.ones_like)


def linear(case: Case) -> bool:
    def adds_up(place: int) -> bool:
        places, ours = factors(case.node, place), fractions(case, place)
        theirs = [np.roll(a, 1) / 2 + np.asarray(0.25, a.dtype) for a in ours]
        parts = put(case, places, ours), put(case, places, theirs)
        both = put(case, places, [a + b for a, b in zip(ours, theirs, strict=True)])
        return all_floats(both) and same([a + b for a, b in zip(*parts, strict=True)], both)

    return adds_up(0) and adds_up(1)


def all_floats(arrays: Sequence[Array]) -> bool:
    return {a.dtype.kind for a in arrays} == {"f"}


def positively_homogeneous(case: Case) -> bool:
    def grows_alike(place: int) -> bool:
        places, ours = factors(case.node, place), fractions(case, place)
        before, after = put(case, places, ours), put(case, places, [a * 4 for a in ours])
        return all_floats(after) and same(after, [4 * y for y in before])

    return grows_alike(0) and grows_alike(1)


def keeps_zero(case: Case) -> bool:
    before = run(case.node, operands(case))

    def keeps(place: int) -> bool:
        after = changed(case, factors(case.node, place), np.zeros_like)
        return same(after, [np.zeros_like(y) for y in before])

    return keeps(0) and keeps(1)


def keeps_constants(case: Case) -> bool:
    places, arrays = factors(case.node, 0), fractions(case)

    def keeps(number: float) -> bool:
        results = put(case, places, [np.full_like(a, number) for a in arrays])
        return all(np.allclose(y, number) for y in results)

    return keeps(2.5) and keeps(-1.5)


def elementwise(case: Case) -> bool:
    (first, *more), arrays = run(case.node, operands(case)), operands(case)
    assume(first.ndim)
    norm = case.node.op == ops.BatchNormalization
    column = (-1, *[1] * (first.ndim - 2))

    def spread(a: Array, place: int) -> Array:
        whole = np.broadcast_to(a.reshape(column) if norm and place else a, first.shape)
        return whole.reshape(-1) if a.ndim else a

    flat = [a if a is None else spread(a, i) for i, a in enumerate(arrays)]
    return not more and same(run(case.node, flat), [first.reshape(-1)])


def identity_if_same_type(case: Case) -> bool:
    x, y = case.node.inputs[0], case.node.outputs[0]
    assume(x.type.static is not None and x.type == y.type and x.type.dtype.kind == "f")
    array = case.arrays[x] * np.float32(0.375)
    return same(put(case, [0], [array]), [array] * case.node.arity)


def exact_on_whole_numbers(case: Case) -> bool:
    arrays = [a for a in operands(case) if a is not None and a.dtype.kind == "f"]
    assume(arrays and same(arrays, [np.round(a) for a in arrays]))
    results = [y for y in run(case.node, operands(case)) if y.dtype.kind == "f"]
    assume(all(np.isfinite(y).all() for y in results))
    return same(results, [np.round(y) for y in results])


def stays_small(case: Case) -> bool:
    assume(case.node.has("exact_on_whole_numbers"))
    fractions(case)
    places = {i for term in case.node.op.terms(case.node) for i in term}
    results = changed(case, sorted(places), lambda a: 64 * a)
    arrays = operands(case)
    most = 16 + sum(
        64 * float(np.abs(a).max(initial=0)) for i in places if (a := arrays[i]) is not None
    )
    return all(float(np.abs(y.astype(float)).max(initial=0)) <= most for y in results)


def sizes_stay(case: Case) -> bool:
    def freed(place: int) -> list[object]:
        other = Value(case.node.inputs[place].type)
        inputs = (*case.node.inputs[:place], other, *case.node.inputs[place + 1 :])
        return [v.type.shape for v in case.node.on(inputs).outputs]

    held = [i for i, v in enumerate(case.node.inputs) if i and ops.tensor_of(v) is not None]
    assume(case.node.op.version >= min(13, VERSIONS[case.node.op.name][-1]))
    return all(freed(i) == [v.type.shape for v in case.node.outputs] for i in held)


LAWS: dict[Trait, Callable[[Case], bool]] = {
    "moves_data": moves_data,
    "linear": linear,
    "positively_homogeneous": positively_homogeneous,
    "keeps_zero": keeps_zero,
    "keeps_constants": keeps_constants,
    "elementwise": elementwise,
    "identity_if_same_type": identity_if_same_type,
    "exact_on_whole_numbers": exact_on_whole_numbers,
    "grows": stays_small,
    "takes_sizes": sizes_stay,
}

NEGATED = {"grows", "takes_sizes"}  # whose laws hold for those that do not claim them
UNTOLD: dict[Trait, dict[str, str]] = {  # not claimed, and no counterexample is drawn
    "linear": {
        "Einsum": "links do not say for which place an operand stands that is given twice",
        "Resize": "a crop may read outside",
    },
    "keeps_zero": {
        "ArgMax": "its results are places",
        "ArgMin": "its results are places",
        "LpNormalization": "0 / 0 is no number",
        "Mod": "0 mod 0 is no number",
        "Resize": "a crop may read outside",
    },
    "elementwise": {"Range": "its operands are single numbers"},
    "keeps_constants": {"Resize": "cubic weights are rounded"},
    "identity_if_same_type": {
        **dict.fromkeys(("ReduceL1", "ReduceL2"), "it drops a sign, but where it reduces nothing"),
        **dict.fromkeys(
            "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum".split(),
            "there is none, but it is not worth a claim",
        ),
        "Pad": "a border may make up for a cut at the other end",
        "Resize": "a crop may read elsewhere",
        "Slice": "it may turn an axis around",
        "Transpose": "it may turn a square",
    },
    "grows": dict.fromkeys(("ScatterElements", "ScatterND"), "many updates may meet"),
    "exact_on_whole_numbers": {
        "Atanh": "there is no other whole number than 0 that it takes",
        "Dropout": "in training it scales by a fraction",
        "EyeLike": "nothing reads it",
        "Pow": "runtimes take logarithms",
        "QuantizeLinear": "it divides by its scale",
    },
}
UNTOLD["positively_homogeneous"] = UNTOLD["linear"]
UNTOLD["linear"] = {**UNTOLD["linear"], "LRN": "of small numbers it nearly is"}


@st.composite
def cases(draw: Draw, name: str) -> Case:
    try:
        case = DRAWERS[name](draw, name, draw(st.sampled_from(VERSIONS[name])))
        case = with_options(draw, case) if draw(st.booleans()) else case
        run(case.node, operands(case))
    except (IllTyped, Unsupported):
        reject()
    return case


def judged(case: Case, trait: Trait) -> bool | None:
    """Whether the law holds; None where it says nothing of the case."""
    try:
        return LAWS[trait](case)
    except UnsatisfiedAssumption:
        return None
    except (Unsupported, ValueError, TypeError, IndexError):
        return False


@dataclass
class Seen:
    """What drawn nodes show of a trait.

    ``broken`` are those that claim it and for which it does not hold; of those that do not claim
    it, it holds for some, and for others it is ``refuted``.
    """

    broken: list[Case] = field(default_factory=list)
    holds: bool = False
    refuted: bool = False

    def look(self, case: Case, trait: Trait) -> None:
        claims = case.node.has(trait) != (trait in NEGATED)
        if claims or not self.refuted:
            found = judged(case, trait)
            self.broken += [case] * (claims and found is False)
            self.holds |= not claims and found is True
            self.refuted |= not claims and found is False


def looked_at(name: str, count: int) -> dict[Trait, Seen]:
    """What so many nodes of an operator show of each trait."""
    seen = {trait: Seen() for trait in LAWS}

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(name))
    def each(case: Case) -> None:
        for trait, one in seen.items():
            one.look(case, trait)

    each()
    return seen


def unclaimed(name: str, seen: Mapping[Trait, Seen]) -> set[Trait]:
    """The traits without a counterexample that it neither claims nor is known not to."""
    untold = {trait for trait, names in UNTOLD.items() if name in names}
    return {trait for trait, one in seen.items() if one.holds and not one.refuted} - untold


MANY = 100  # nodes, on which all that does not hold fails once
NO_KERNEL = {"Gelu", "GlobalLpPool"}  # of onnx.reference
# Slow to draw, with a relative that is drawn for every change.
SLOW = {"CastLike": "Cast", "DeformConv": "Conv", "Upsample": "Resize"}
DRAWN = [name for name in ops.ENTRIES if name in DRAWERS and name not in NO_KERNEL]

BY_DAY = [pytest.param(n, marks=[pytest.mark.nightly] * (n in SLOW)) for n in DRAWN]


@pytest.mark.parametrize("name", BY_DAY)
def test_an_operator_has_the_traits_that_it_claims_and_no_others(name: str) -> None:
    seen = looked_at(name, min(settings().max_examples, MANY))
    if unclaimed(name, seen):  # of so few a counterexample need not be one
        seen = looked_at(name, MANY)
    assert {trait: one.broken for trait, one in seen.items() if one.broken} == {}
    assert unclaimed(name, seen) == set()


def test_every_operator_that_claims_a_trait_is_drawn() -> None:
    assert set(traits.RULES) <= set(DRAWERS)


FOLDED = [name for name in DRAWN if "foldable" in traits.claims_of(name)]


@pytest.mark.nightly
@pytest.mark.parametrize("name", FOLDED)
@settings(max_examples=5, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_folded_is_what_a_runtime_computes(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(name))
    graph = replace(case.graph, opset={"": case.node.op.version})
    results = run(case.node, operands(case))
    assume(case.node.op.agreed(case.node, operands(case), results))
    try:
        found = session(graph)({n: case.arrays[v] for n, v in graph.inputs.items()})
    except Unsupported:  # an operator set, or a type, that onnxruntime does not know
        reject()
    assert same(list(found.values()), results)
