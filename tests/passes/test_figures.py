"""What the pictures show is what the passes find."""

from __future__ import annotations

import io
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.errors import BadInput, MissingExtra
from redir.ir import Graph
from redir.ir.tensor import Array, Tensor
from redir.passes.cse import Cse
from redir.passes.hash import Hash
from redir.passes.hash.cells import hashed
from redir.passes.hash.figures import draw_density, draw_distinct
from redir.passes.uneven_depthwise import UnevenDepthwise
from redir.passes.uneven_depthwise.figures import draw_ranks
from tests.helpers import placeholder

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(8, 4, 3, 3)).astype(np.float32)


def conv(weights: Array) -> Graph:
    x = placeholder(1, weights.shape[1], 8, 8)
    return Graph({"x": x}, {"y": ops.Conv(x, ops.Const(value=Tensor(weights)))})


def axes_of(figure: Any) -> Any:
    """The first axes: what matplotlib says of its types depends on whether it is there."""
    return figure.axes[0]


@pytest.fixture(autouse=True)
def _matplotlib() -> None:
    pytest.importorskip("matplotlib", reason="drawing needs the extra plot")


@pytest.mark.parametrize("bandwidth", [0.1, 0.5])
def test_a_density_has_a_dot_for_each_value_that_hash_leaves(bandwidth: float) -> None:
    axes = axes_of(draw_density(WEIGHTS, bandwidth, title="layer"))
    dots = axes.lines[-1].get_xdata()
    np.testing.assert_allclose(dots, np.unique(hashed(WEIGHTS, bandwidth)), rtol=1e-6)
    assert axes.get_title() == f"layer: {dots.size} cells"


def test_a_density_has_a_line_at_each_border() -> None:
    axes = axes_of(draw_density(WEIGHTS, 0.3))
    places = [segment[0, 0] for segment in axes.collections[0].get_segments()]
    assert len(places) == axes.lines[-1].get_xdata().size + 1
    assert (places[0], places[-1]) == (WEIGHTS.min(), WEIGHTS.max())


def test_weights_that_are_all_equal_have_no_density() -> None:
    with pytest.raises(BadInput, match="no density"):
        draw_density(np.ones(9, np.float32))


def test_distinct_values_stand_side_by_side() -> None:
    few = hashed(WEIGHTS, 0.5)
    axes = axes_of(draw_distinct({"before": conv(WEIGHTS), "after": conv(few)}))
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [np.unique(WEIGHTS).size, np.unique(few).size]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["before", "after"]


def test_ranks_are_sorted_and_those_of_each_channel() -> None:
    weights = WEIGHTS.copy()
    weights[:, 1] = RNG.integers(1, 4, (8, 1, 1)) * weights[0, 1]
    weights[:, 3] = 0
    axes = axes_of(draw_ranks(conv(weights)))
    assert axes.images[0].get_array().tolist() == [[8, 8, 1, 0]]


def test_an_error_drops_kernels() -> None:
    exact, near = (
        axes_of(draw_ranks(conv(WEIGHTS), error)).images[0].get_array() for error in (0, 0.5)
    )
    assert near.sum() < exact.sum()


def test_pointwise_convolutions_have_no_ranks() -> None:
    axes = axes_of(draw_ranks(conv(WEIGHTS[..., :1, :1])))
    assert axes.get_yticks().size == 0


def test_a_pass_draws_what_it_did() -> None:
    before, step = conv(WEIGHTS), Hash(0.3)
    pictures = step.figures(before, step(before))
    assert list(pictures) == ["distinct values", "density"]
    counts = [bar.get_width() for bar in axes_of(pictures["distinct values"]).patches]
    assert counts == [
        np.unique(WEIGHTS).size,
        axes_of(pictures["density"]).lines[-1].get_xdata().size,
    ]
    assert list(UnevenDepthwise().figures(before, before)) == ["ranks"]


def test_a_pass_that_has_nothing_to_show_draws_nothing() -> None:
    graph = conv(np.ones((2, 4, 1, 1), np.float32))
    assert list(Hash().figures(graph, graph)) == ["distinct values"]
    assert Cse().figures(graph, graph) == {}


def test_any_graph_is_drawn_and_written() -> None:
    x = placeholder(2)
    for figure in (
        draw_distinct({"empty": Graph({"x": x}, {"y": ops.Relu(x)})}),
        draw_distinct({}),
    ):
        figure.savefig(io.BytesIO(), format="svg")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"pip install .\.\[plot\]"):
        draw_ranks(conv(WEIGHTS))


@pytest.mark.nightly
def test_the_pictures_of_the_documentation_are_drawn(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "docs/examples/pictures.py"))["main"](tmp_path)
    names = {path.name for path in (ROOT / "docs/pictures").iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == names
