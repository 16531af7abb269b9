"""Reading operators of PyTorch that few modules have: by rules, or by torch's own simpler ones."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import redir  # noqa: E402 - behind the check that torch is there
from redir.frontends.torch.program import from_torch  # noqa: E402
from tests.frontends.test_torch import (  # noqa: E402
    assert_computes,
    assert_plain,
    floats,
    module_of,
    reads,
    results_of,
    whole,
)

nn, F = torch.nn, torch.nn.functional
Dim = torch.export.Dim
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
X, IMAGE, ROWS = floats(2, 3, 4), floats(2, 3, 8, 7), floats(3, 4)
PLACES = torch.tensor([0, 2, 0])


def both_ways(what: Any, *args: Any) -> None:
    """What is read computes the same here, in onnxruntime, and back in PyTorch."""
    graph = reads(what, *args)
    with torch.no_grad():
        wanted, found = module_of(what)(*args), redir.to_torch(graph)(*args)
    for ours, theirs in zip(results_of(found), results_of(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("what", [
    (lambda x: torch.zeros(5, 4).index_add(0, PLACES, x), ROWS),
    (lambda x: torch.zeros(4, 5).index_add(1, PLACES, x.T, alpha=2), ROWS),
    (lambda x: torch.zeros(5, 4).index_add_(0, PLACES, x), ROWS),
    (nn.Unfold(3, padding=1), IMAGE),
    (nn.Fold((6, 6), 3, padding=1), floats(2, 27, 36)),
    (lambda x: torch.logaddexp(x, x * 2), X),
    (lambda x: torch.tensordot(x, x, ([1], [1])), X[0]),
    (F.tanhshrink, X),
    (lambda x: x.tril(), X),
])  # fmt: skip
def test_operators_without_a_rule_are_read_as_those_that_torch_makes_of_them(
    what: tuple[Any, ...],
) -> None:
    both_ways(*what)


@pytest.mark.parametrize("what", [
    (nn.GRUCell(4, 6), ROWS, floats(3, 6)),
    (nn.GRUCell(4, 6, bias=False), ROWS, floats(3, 6)),
    (nn.LSTMCell(4, 6), ROWS, (floats(3, 6), floats(3, 6))),
    (nn.RNNCell(4, 6), ROWS, floats(3, 6)),
    (nn.RNNCell(4, 6, nonlinearity="relu"), ROWS, floats(3, 6)),
    (nn.LSTM(4, 8, 2, bidirectional=True, proj_size=3, batch_first=True), floats(2, 5, 4)),
])  # fmt: skip
def test_recurrent_cells_and_projections(what: tuple[Any, ...]) -> None:
    both_ways(*what)


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.RNNCell])
def test_a_cell_takes_any_batch(cell: Any) -> None:
    module = module_of(cell(4, 6))
    batch = Dim("batch")
    sizes = ({0: batch}, {0: batch})
    graph = from_torch(module, (ROWS, floats(3, 6)), dynamic_shapes=sizes)
    assert_plain(graph)
    assert_computes(graph, module, (floats(5, 4), floats(5, 6)))


def test_a_triangle_of_any_size() -> None:
    module = module_of(lambda x: x.tril() + x.triu(1))
    size = Dim("size")
    graph = from_torch(module, (floats(4, 4),), dynamic_shapes=(({0: size, 1: size},),))
    assert_plain(graph)
    assert_computes(graph, module, (floats(6, 6),))


IDS, STARTS = whole(7, low=0, high=20), torch.tensor([0, 2, 2, 5])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("more", [
    ({}, whole(3, 4, low=0, high=20)),
    ({}, IDS, STARTS),
    ({"include_last_offset": True}, IDS, torch.tensor([0, 2, 2, 5, 7])),
    ({"padding_idx": 3}, torch.tensor([[3, 1, 3], [3, 3, 3]])),
])  # fmt: skip
def test_bags_of_embeddings(mode: str, more: tuple[Any, ...]) -> None:
    options, *args = more
    both_ways(nn.EmbeddingBag(20, 5, mode=mode, **options), *args)


def test_a_bag_with_factors_of_any_batch() -> None:
    module = module_of(nn.EmbeddingBag(20, 5, mode="sum"))
    args = (whole(3, 4, low=0, high=20), None, floats(3, 4))
    batch = Dim("batch")
    graph = from_torch(module, args, dynamic_shapes=({0: batch}, None, {0: batch}))
    assert_plain(graph)
    assert_computes(graph, module, (whole(5, 4, low=0, high=20), None, floats(5, 4)))


GRIDS = [
    *product(["bilinear", "nearest"], ["zeros", "border", "reflection"]),
    ("bicubic", "zeros"),
    *(
        pytest.param("bicubic", pads, marks=pytest.mark.nightly)
        for pads in ("border", "reflection")
    ),
]


@pytest.mark.parametrize(("mode", "pads"), GRIDS)
@pytest.mark.parametrize("corners", [False, True])
def test_grids(mode: str, pads: str, corners: bool) -> None:  # noqa: FBT001 - a case
    def sample(x: Any, grid: Any) -> Any:
        return F.grid_sample(x, grid, mode=mode, padding_mode=pads, align_corners=corners)

    both_ways(sample, floats(2, 2, 4, 5), 1.2 * torch.tanh(floats(2, 3, 4, 2)))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_grids_in_space(mode: str) -> None:
    def sample(x: Any, grid: Any) -> Any:
        return F.grid_sample(x, grid, mode=mode, align_corners=False)

    both_ways(sample, floats(2, 3, 4, 3, 5), torch.tanh(floats(2, 3, 2, 4, 3)))


def test_affine_grids() -> None:
    both_ways(lambda t: F.affine_grid(t, (2, 3, 4, 5), align_corners=False), floats(2, 2, 3))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("how", [
    {"scale_factor": 0.4}, {"size": (3, 11)}, {"size": (3, 4), "align_corners": True},
])  # fmt: skip
def test_resizing_without_aliases(mode: str, how: dict[str, Any]) -> None:
    both_ways(lambda x: F.interpolate(x, mode=mode, antialias=True, **how), IMAGE)


@pytest.mark.parametrize("sizes", [(4, 1), (3, 5), (5, 7)])
def test_the_largest_of_windows_of_different_widths(sizes: tuple[int, int]) -> None:
    both_ways(lambda x: F.adaptive_max_pool2d(x, sizes), IMAGE)


def test_a_rectifier_of_random_slope_has_the_mean_one_in_evaluation() -> None:
    both_ways(F.rrelu, X)


@pytest.mark.parametrize("ends", [(), (-2, 2), (0.5, 1)])
@pytest.mark.parametrize("x", [X, torch.arange(-3, 4) / 2, torch.ones(4)])
def test_histograms(x: Any, ends: tuple[float, float]) -> None:
    both_ways(lambda x: torch.histc(x, 8, *ends), x)


def test_a_pool_that_is_undone_by_the_places_it_gives() -> None:
    x = floats(2, 3, 8, 8)
    both_ways(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), x)


def test_a_cond_is_an_if() -> None:
    def choose(x: Any) -> Any:
        return torch.cond(x.sum() > 0, lambda t: t.relu() * 2, lambda t: t - 1, (x,))

    graph = reads(choose, ROWS)
    assert_computes(graph, module_of(choose), (ROWS.abs(),))
    assert_computes(graph, module_of(choose), (-ROWS.abs(),))


def test_a_cond_of_layers() -> None:
    class Sides(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            return torch.cond(x.sum() > 0, self.left, lambda t: self.right(t).relu(), (x,))

    both_ways(Sides(), ROWS.abs())
    both_ways(Sides(), -ROWS.abs())
