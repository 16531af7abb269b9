"""A dask cluster does what this process would, also when a worker dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir import ops, tasks
from redir.backends.onnx import to_proto
from redir.errors import BadInput, Lost, MissingExtra, Skipped
from redir.io import models
from redir.ir import Graph, Value, limits
from redir.pipeline import Pipeline, sweep
from redir.pipeline.compress import chosen
from redir.pipeline.executors import Cluster, Pool, cluster
from redir.pipeline.presets import PRESETS
from redir.pipeline.sweep import Sweep
from tests.helpers import const, placeholder
from tests.pipeline import deeds

distributed = pytest.importorskip("distributed", reason="it is the cluster")
FEW = [round(0.3 + 0.1 * number, 2) for number in range(7)]
MANY = [round(0.25 + 0.06 * number, 2) for number in range(12)]
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # dask's sockets


@contextmanager
def processes(count: int) -> Iterator[str]:
    """The scheduler of so many processes."""
    options = {"n_workers": count, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options, silence_logs=50) as found:
        yield found.scheduler_address


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The scheduler of two processes."""
    with processes(2) as found:
        yield found


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch, address: str) -> Iterator[None]:
    """Everything is worth being sent there."""
    monkeypatch.setattr(tasks, "_LOOK", 0.0)
    monkeypatch.setattr(tasks, "_WORTH", 0.0)
    with Cluster(address, 2**30) as found, tasks.using(found):
        yield


def test_arrays_go_there_and_back() -> None:
    arrays = [np.full(10**5, number, np.float32) for number in range(5)]
    found = tasks.mapped(deeds.same, arrays, "arrays")
    assert [array.tobytes() for array in found] == [array.tobytes() for array in arrays]


def test_all_workers_work(tmp_path: Path) -> None:
    assert max(tasks.mapped(deeds.together, [tmp_path] * 3, "tasks")) > 1


def test_no_more_run_than_fit(tmp_path: Path) -> None:
    found = tasks.mapped(deeds.together, [tmp_path] * 3, "tasks", memory=lambda _: 2**30)
    assert found == [1, 1, 1]


def test_errors_warnings_and_limits_travel() -> None:
    with pytest.raises(MissingExtra, match="a deed needs redir's extra 'deeds'"):
        tasks.mapped(deeds.refused, range(3), "numbers")
    with pytest.warns(Skipped, match="2 is skipped"):
        tasks.mapped(deeds.warned, [2], "numbers")
    with limits.allowing(2**40):
        assert tasks.mapped(deeds.limit, [0], "numbers") == [2**40]


def test_a_task_whose_worker_dies_is_done_again(tmp_path: Path) -> None:
    items: list[Any] = [partial(deeds.dying, (tmp_path, 1)), *[partial(deeds.pid, 0)] * 3]
    assert tasks.mapped(deeds.called, items, "deeds")[0] == 1


@pytest.mark.nightly
def test_a_task_that_kills_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(Lost, match="deaths 1/1: lost by --scheduler tcp://"):
        tasks.mapped(deeds.dying, [(tmp_path, 99)], "deaths")


# A sweep


def kill_one(address: str) -> None:
    """Kill a worker of a cluster."""
    with distributed.Client(address, set_as_default=False) as client:
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)


def swept(
    graph: Graph,
    pipelines: Sequence[Pipeline],
    executor: tasks.Executor,
    midway: Callable[[], None],
) -> list[bytes]:
    """The models of a sweep; ``midway`` happens once three of them are there."""
    with tasks.using(executor):
        points = Sweep(graph, pipelines).points()
        found = dict(islice(((p.place, p.result.graph) for p in points), 3))
        midway()
        found.update((p.place, p.result.graph) for p in points)
    assert sorted(found) == list(range(len(pipelines)))
    return [to_proto(found[place]).SerializeToString() for place in sorted(found)]


def check_sweep(graph: Graph, pipeline: str, ratios: Sequence[float], address: str) -> None:
    """Check that a sweep is the same here, in processes and on a cluster that loses a worker."""
    pipelines = [chosen(pipeline=pipeline, macs=ratio) for ratio in ratios]
    here = swept(graph, pipelines, tasks.Serial(), lambda: None)
    with Pool(2, 2**34) as pool:
        assert swept(graph, pipelines, pool, lambda: None) == here
    with Cluster(address, 2**34) as found:
        assert swept(graph, pipelines, found, partial(kill_one, address)) == here
    assert len(set(here)) > len(ratios) // 2


def residual() -> Graph:
    """A little network with a branch around a layer."""
    rng, x = np.random.default_rng(0), placeholder("n", 3, 6, 6)

    def conv(y: Value, outputs: int) -> Value:
        weight = rng.normal(size=(outputs, y.type.size(1) or 0, 3, 3))
        return ops.Relu(ops.Conv(y, const(weight), pads=(1, 1, 1, 1)))

    first = conv(x, 8)
    return Graph({"x": x}, {"y": conv(ops.Add(first, conv(first, 8)), 6)})


def test_a_sweep_is_the_same_everywhere(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(sweep, "_LARGE", 0)
    check_sweep(residual(), "factorize{statistics=drawn,examples=4}", FEW, address)


@pytest.mark.nightly
def test_that_of_a_resnet_too_on_three_workers(shared: Path) -> None:
    graph = models.load(shared / "models/cifar10-resnet20-bn.onnx")
    with processes(3) as address:
        check_sweep(graph, PRESETS["best"], MANY, address)


# What is refused


def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(cluster, "_ALIKE", ("redir", "pytest"))
    monkeypatch.setattr(cluster, "version", lambda name: f"{name} 0")
    with pytest.raises(BadInput, match="and here it is redir 0: "), Cluster(address, 1):
        pass


def test_a_worker_that_cannot_import_redir_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    answers = {"tcp://there:1": ImportError("no redir")}
    monkeypatch.setattr(distributed.Client, "run", lambda *_, **__: answers)
    with pytest.raises(BadInput, match="cannot run redir: no redir"), Cluster(address, 1):
        pass


def test_a_worker_that_dies_while_it_is_asked_is_none(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    answers = {"tcp://there:1": ConnectionResetError("closed")}
    monkeypatch.setattr(distributed.Client, "run", lambda *_, **__: answers)
    with Cluster(address, 1):
        pass


def test_a_cluster_without_workers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_STARTS", 0.5)
    options = {"n_workers": 0, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(**options, silence_logs=50) as empty,
        pytest.raises(BadInput, match="no worker answered"),
        Cluster(empty.scheduler_address, 1),
    ):
        pass


def test_a_worker_is_no_scheduler(address: str) -> None:
    with distributed.Client(address, set_as_default=False) as client:
        worker = next(iter(client.nthreads()))
    with pytest.raises(BadInput, match="it is no scheduler, but a Worker"):
        Cluster(worker, 1)
