"""A dask cluster does what this process would, also when a worker dies."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir import tasks
from redir.errors import BadInput, Lost, MissingExtra, Skipped
from redir.ir import limits
from redir.pipeline.executors import Cluster, cluster
from tests.pipeline import deeds

distributed = pytest.importorskip("distributed", reason="it is the cluster")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # dask's sockets


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The scheduler of three processes."""
    options = {"n_workers": 3, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options, silence_logs=50) as found:
        yield found.scheduler_address


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


def test_a_task_that_kills_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(Lost, match="deaths 1/1: lost by --scheduler tcp://"):
        tasks.mapped(deeds.dying, [(tmp_path, 99)], "deaths")


def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(cluster, "_ALIKE", ("redir", "pytest"))
    monkeypatch.setattr(cluster, "version", lambda name: f"{name} 0")
    with pytest.raises(BadInput, match="and here it is redir 0: "), Cluster(address, 1):
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
