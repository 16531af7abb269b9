"""As many drawn graphs as it takes to trust the passes: no promise is broken on any."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from redir.ir import Graph
from redir.pipeline import Pipeline
from redir.pipeline.presets import PRESETS, preset
from redir.testing import check_pass, graphs
from tests.passes import test_hash, test_palettize, test_split_inputs, test_uneven_depthwise
from tests.steps import STEPS

SHARDS = 4
GRAPHS = 100_000  # over all exact passes
EXACT = {**STEPS, PRESETS["exact"]: [steps for drawn in STEPS.values() for steps in drawn]}

EACH = 20_000  # over the forms of each of RED's passes
LAYERS = graphs("conv", "grouped", "depthwise", "conv_transpose", "gemm", "matmul", "shared_weight")
RED: dict[str, tuple[int, st.SearchStrategy[Graph]]] = {
    "merge": (1, LAYERS),
    "hash": (1, st.one_of(LAYERS, test_hash.skewed())),
    **{
        f"split-inputs{{cost={cost}}}": (
            3,
            st.one_of(LAYERS, test_split_inputs.convs(), test_split_inputs.matrices()),
        )
        for cost in ("macs", "multiplications", "bytes")
    },
    **{
        f"uneven-depthwise{{basis={basis}}}": (
            3,
            st.one_of(LAYERS, test_uneven_depthwise.layers()),
        )
        for basis in ("distinct", "multiples", "rank")
    },
    "palettize": (1, test_palettize.layers()),
}


@pytest.mark.nightly
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("spec", EXACT)
def test_no_promise_is_broken(spec: str, shard: int) -> None:  # noqa: ARG001 - each draws others
    drawn = st.one_of(graphs(), *(graphs(*always) for always in EXACT[spec]))
    check_pass(Pipeline.parse(spec), drawn, -(-GRAPHS // (len(EXACT) * SHARDS)))


def test_every_exact_pass_is_drawn_for() -> None:
    assert STEPS.keys() == {step.name for step in preset("exact").passes}


@pytest.mark.nightly
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("spec", RED)
def test_no_promise_of_red_is_broken(spec: str, shard: int) -> None:  # noqa: ARG001
    forms, drawn = RED[spec]
    check_pass(Pipeline.parse(spec), drawn, -(-EACH // (forms * SHARDS)))
