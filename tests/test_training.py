"""Training towards fewer channels: the penalty, its schedule, and what is asleep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import redir
from redir.passes import Prune

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from redir.training import DynamicSparsity, Epoch  # noqa: E402 - behind the skip


def network(width: int = 10) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, width, 3), torch.nn.BatchNorm2d(width), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(width * 36, 4),
    )  # fmt: skip


ARGS = (torch.zeros(2, 1, 8, 8),)


def control(module: Any, **options: Any) -> DynamicSparsity:
    return DynamicSparsity(module, ARGS, sparsity=0.5, epochs=10, **options)


def put_to_sleep(module: Any, count: int) -> None:
    with torch.no_grad():
        module[1].weight[:] = 1.0
        module[1].weight[:count] = 1e-6


def test_what_is_scaled_to_nothing_is_asleep() -> None:
    module = network().train()
    given = control(module)
    for count in (0, 3, 7):
        put_to_sleep(module, count)
        assert given.share == count / 10
    assert module.training


def test_what_is_read_by_nothing_is_asleep() -> None:
    module = network()
    given = control(module)
    with torch.no_grad():
        module[4].weight.reshape(4, 10, 36)[:, :2] = 0
    assert given.share == 0.2


def test_the_penalty_draws_scales_towards_zero() -> None:
    module = network()
    given = control(module)
    given.rate = 0.25
    with torch.no_grad():
        module[1].weight[:2] = torch.tensor([-3.0, 0.0])
    module(torch.randn(4, 1, 8, 8)).sum().backward()
    before = module[1].weight.grad.clone()
    given.penalise()
    added = (module[1].weight.grad - before).numpy()
    np.testing.assert_allclose(added, [-0.25, 0, *[0.25] * 8], atol=1e-6)


def test_without_gradients_there_is_nothing_to_draw() -> None:
    module = network()
    control(module).penalise()
    assert module[1].weight.grad is None


@pytest.mark.parametrize(
    ("asleep", "rates"),
    [
        ([0, 0, 0], [0, 1, 2]),  # too few, and no more of them
        ([2, 4, 5], [0, 0, 0]),  # as many more as must
        ([1, 1, 4], [0, 0, 1]),  # enough, then none
        ([0, 0, 6, 7, 7], [0, 1, 2, 1, 0]),  # too many, and more of them
        ([0, 0, 7, 6, 6], [0, 1, 2, 1, 1]),  # too many, but fewer
        ([6, 7], [0, 0]),  # no rate below 0
    ],
)
def test_the_rate_follows_what_is_asleep(
    asleep: list[int], rates: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = iter([0.0, *(count / 10 for count in asleep)])
    monkeypatch.setattr(DynamicSparsity, "share", property(lambda _: next(shares)))
    monkeypatch.setattr(DynamicSparsity, "_families", lambda _: iter(()))
    given = control(network(), step=0.5)
    for _ in asleep:
        given.end_epoch()
    assert given.history == [
        Epoch(count / 10, 0.5 * rate) for count, rate in zip(asleep, rates, strict=True)
    ]


def test_norms_whose_channels_cannot_go_are_left_alone() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4))
    assert control(module).scales == []
    assert control(module).share == 0


def test_what_is_asleep_is_pruned() -> None:
    module = network()
    put_to_sleep(module, 4)
    smaller, _ = redir.compress(
        module.eval(), ARGS, pipeline=[Prune(criterion="dafp", threshold=0.02)]
    )
    shapes = [tuple(p.shape) for p in smaller.parameters()]
    assert shapes[0] == (6, 1, 3, 3)
