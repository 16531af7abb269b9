"""Processes beside this one do what this one would: same results, errors and warnings."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from signal import SIG_IGN, SIGINT, SIGKILL, getsignal
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from onnx import parser
from threadpoolctl import ThreadpoolController

from redir import tasks
from redir.cost import counts, layers
from redir.errors import BadPipeline, Lost, MissingExtra, OutOfSteps, Skipped
from redir.frontends.onnx import from_proto
from redir.io import models
from redir.ir import Graph, limits
from redir.ir.tensor import Tensor
from redir.ops import Const, MatMul
from redir.passes.hash import Hash
from redir.passes.palettize import Palettize
from redir.passes.split_inputs import SplitInputs
from redir.pipeline import Pass
from redir.pipeline.executors import Pool
from redir.pipeline.executors.pool import PROCESS
from redir.testing.strategies import graphs
from tests.helpers import const, placeholder
from tests.pipeline import deeds
from tests.processes import of_group, until

MEMORY = 2**30
ENDLESS = from_proto(
    parser.parse_model("""<ir_version: 9, opset_import: ["" : 17]>
      g (float[2] x) => (float[2] y) <int64 n = {1099511627776}, bool go = {1}> {
        y = Loop (n, go, x) <body = b (int64 i, bool a, float[2] s) => (bool o, float[2] t)
          { o = Identity (a)  t = Neg (s) }>
      }""")
)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Two processes for all tests here."""
    with Pool(2, MEMORY) as found:
        yield found


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch, pool: Pool) -> Iterator[None]:
    """Everything is worth a process."""
    monkeypatch.setattr(tasks, "_LOOK", 0.0)
    monkeypatch.setattr(tasks, "_WORTH", 0.0)
    monkeypatch.setattr(counts, "_LARGE", 1)
    monkeypatch.setattr(counts, "_WORTH", 1)
    with tasks.using(pool):
        yield


ARRAYS: dict[str, Any] = {
    "small": np.arange(3),
    "large": np.arange(10**5, dtype=np.float32),
    "empty": np.zeros((0, 4)),
    "single": np.array(2.5),
    "columns": np.asfortranarray(np.arange(10**5, dtype=np.int16).reshape(100, 1000)),
    "every second": np.arange(10**5)[::2],
    "bfloat16": np.arange(10**5).astype(ml_dtypes.bfloat16).reshape(100, -1),
    "int4": np.zeros(10**5, ml_dtypes.int4),
    "texts": np.array(["a", "b"], object),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_go_there_and_back(name: str) -> None:
    (found,) = tasks.mapped(deeds.same, [ARRAYS[name]], name)
    assert (found.dtype, found.shape) == (ARRAYS[name].dtype, ARRAYS[name].shape)
    assert np.array_equal(found, ARRAYS[name])


def test_an_array_that_lies_in_a_file_does(tmp_path: Path) -> None:
    held = np.memmap(tmp_path / "w", np.float32, "w+", shape=(10, 10**4))
    held[:] = 3
    found = tasks.mapped(deeds.first, [held[5], held], "rows")
    assert found == [3, 3]


def test_tensors_go_there_and_back() -> None:
    held = [Tensor(array) for array in ARRAYS.values()]
    assert tasks.mapped(deeds.same, held, "tensors") == held


def test_results_are_in_the_order_of_the_items() -> None:
    items = list(range(20))
    assert tasks.mapped(deeds.same, items, "numbers", memory=lambda n: n % 7) == items


def test_nothing_is_done_of_nothing() -> None:
    assert tasks.mapped(deeds.same, [], "numbers") == []


def test_other_processes_work() -> None:
    found = set(tasks.mapped(deeds.pid, range(8), "numbers"))
    assert os.getpid() not in found
    assert 1 <= len(found) <= 2


def test_no_file_is_left_between_maps(pool: Pool) -> None:
    tasks.mapped(deeds.same, [ARRAYS["large"]] * 3, "arrays")
    assert list(pool.folder.iterdir()) == []


def test_a_process_has_one_thread() -> None:
    assert tasks.mapped(deeds.threads, [0], "numbers") == [("1", "1")]


def test_here_it_has_one_too() -> None:
    with ThreadpoolController().limit(limits=2), tasks.using(tasks.Serial()):
        assert tasks.mapped(deeds.blas_threads, [0], "numbers") == [{1}]


def test_an_error_arrives_as_what_it_is() -> None:
    with pytest.raises(MissingExtra, match="a deed needs redir's extra 'deeds'") as raised:
        tasks.mapped(deeds.refused, range(3), "numbers")
    assert any("deeds.py" in note for note in raised.value.__notes__)


def test_a_warning_arrives() -> None:
    with pytest.warns(Skipped, match="2 is skipped"):
        assert tasks.mapped(deeds.warned, [2], "numbers") == [2]


def test_what_may_be_asked_for_is_the_same_there() -> None:
    with limits.allowing(2**40):
        assert tasks.mapped(deeds.limit, [0], "numbers") == [2**40]


def test_steps_of_loops_are_counted_there() -> None:
    with pytest.raises(OutOfSteps):
        tasks.mapped(deeds.run_for_long, [ENDLESS], "graphs")


def test_what_cannot_come_back_is_an_error() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        tasks.mapped(deeds.unpicklable, [0], "numbers")


def test_a_function_of_no_module_is_refused() -> None:
    with pytest.raises(BadPipeline, match="what makes numbers 1/1 cannot be sent"):
        tasks.mapped(lambda n: n, [0], "numbers")


def test_an_error_leaves_processes_for_the_next(pool: Pool) -> None:
    with pytest.raises(MissingExtra):
        tasks.mapped(deeds.refused, range(3), "numbers")
    assert tasks.mapped(deeds.same, [1, 2, 3], "numbers") == [1, 2, 3]
    assert list(pool.folder.iterdir()) == []


# Processes that die


def test_a_task_whose_process_dies_is_done_again(tmp_path: Path) -> None:
    assert tasks.mapped(deeds.dying, [(tmp_path, 2), (tmp_path, 0)], "deaths") == [2, 0]


def test_a_task_that_kills_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(Lost, match="deaths 2/2: 3 processes died over it, the last by signal 9"):
        tasks.mapped(deeds.dying, [(tmp_path, 0), (tmp_path, 99)], "deaths")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_death_costs_its_task_only(tmp_path: Path) -> None:
    marks, deaths = tmp_path / "marks", tmp_path / "deaths"
    marks.mkdir()
    deaths.mkdir()
    items: list[Any] = [partial(deeds.noted, (marks, "other")), partial(deeds.dying, (deaths, 1))]
    assert tasks.mapped(deeds.called, items, "deeds") == ["other", 1]
    assert len(list(marks.iterdir())) == 1


# Memory


@pytest.mark.parametrize(
    ("each", "most"), [(MEMORY // 2 - PROCESS, 2), (MEMORY // 2, 1), (2**40, 1)]
)
def test_no_more_run_than_fit(tmp_path: Path, each: int, most: int) -> None:
    found = tasks.mapped(deeds.together, [tmp_path] * 3, "tasks", memory=lambda _: each)
    assert max(found) == most


# Passes


@pytest.mark.parametrize("step", [Hash(error=0.05), SplitInputs(), Palettize(error=0.05)], ids=str)
@given(graph=graphs("conv", "gemm"))
def test_a_pass_makes_the_same(step: Pass, graph: Graph) -> None:
    found = step.run(graph)
    with tasks.using(tasks.Serial()):
        assert str(step.run(graph)) == str(found)


@given(graph=graphs("conv", "gemm"))
def test_costs_are_the_same(graph: Graph) -> None:
    other: Graph = pickle.loads(pickle.dumps(graph))  # noqa: S301 - whose weights were not seen
    found = layers(graph)
    with tasks.using(tasks.Serial()):
        assert found == layers(other)


def test_weights_are_looked_at_elsewhere_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = Tensor(np.eye(3, dtype=np.float32))
    x = placeholder(1, 3)
    graph = Graph({"x": x}, {"y": MatMul(x, Const(value=tensor))})
    monkeypatch.setattr(Tensor, "_distinct", None)
    assert [layer.cost.distinct for layer in layers(graph)] == [2]
    assert tensor.distinct == 2


# What is left when a process is ended

SCRIPT = """
import os, sys
from pathlib import Path
from redir import tasks
from redir.__main__ import main
from redir.pipeline.executors import pool
pool._MEMORY = Path(sys.argv.pop(1))
os.chdir(pool._MEMORY.parent)
tasks._LOOK = tasks._WORTH = 0
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("kill", "number", "code"),
    [
        pytest.param(os.killpg, SIGINT, 130, marks=pytest.mark.nightly),
        (os.kill, SIGKILL, -SIGKILL),
    ],
)
def test_nothing_is_left_of_a_run_that_is_ended(
    tmp_path: Path, kill: Callable[[int, int], None], number: int, code: int
) -> None:
    memory, model = tmp_path / "memory", tmp_path / "large.onnx"
    memory.mkdir()
    (tmp_path / "struct.py").write_text("open('ran', 'w')")  # which stands beside the model
    x, weights = placeholder(1, 2000), np.random.default_rng(0).random((2, 2000, 2000), np.float32)
    first, second = map(const, weights)
    models.save(Graph({"x": x}, {"y": MatMul(MatMul(x, first), second)}), model)
    command = f"opt {model} {tmp_path}/out.onnx -p palettize{{error=0.01}} --jobs 2".split()
    script = [sys.executable, "-c", SCRIPT, str(memory), *command]
    with subprocess.Popen(script, process_group=0, stderr=subprocess.PIPE) as run:
        try:
            until(lambda: len(list(memory.glob("*/*"))) > 1)
            kill(run.pid, number)
            _, said = run.communicate(timeout=60)
        finally:
            run.kill()
    until(lambda: not of_group(run.pid) and not list(memory.iterdir()))
    assert not (tmp_path / "ran").exists()
    assert run.returncode == code
    assert said.count(b"\n") == (code > 0)


def test_what_processes_import_again_is_next_to_nothing() -> None:
    script = "import sys, redir.__main__; sys.exit('redir.app' in sys.modules)"
    assert not subprocess.run([sys.executable, "-c", script], check=False).returncode


STARTING = """
import os, signal, sys, threading, time
from pathlib import Path
from redir import tasks
from redir.pipeline.executors.worker import Worker
from tests.pipeline import deeds

def interrupt():
    while True:
        os.killpg(0, signal.SIGINT)
        time.sleep(0.001)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: None)
    threading.Thread(target=interrupt, daemon=True).start()
    workers = [Worker(Path(sys.argv[1]), deeds.__name__) for _ in range(9)]
    time.sleep(0.1)
    for worker in workers:
        worker.end()
"""


def test_a_worker_that_starts_says_nothing_when_it_is_interrupted(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTING, str(tmp_path)],
        process_group=0,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.skipif(getsignal(SIGINT) == SIG_IGN, reason="SIGINT was ignored from the start")
def test_processes_that_are_not_ours_hear_an_interruption() -> None:
    with Pool(1, MEMORY) as pool, tasks.using(pool):
        assert tasks.mapped(deeds.hears, [0], "numbers") == [False]
        with get_context("forkserver").Pool(1) as theirs:
            assert theirs.map(deeds.hears, [0]) == [True]
