"""Running a graph: by onnxruntime where it is installed, else by redir's own interpreter."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from math import inf, isinf
from typing import Any, Literal

import numpy as np

from redir import ops
from redir.atomic import Stopped, temporary_folder
from redir.backends.onnx import save, to_proto
from redir.errors import MissingExtra, OutOfSteps, TooLarge, Unsupported
from redir.ir import Graph, Node, Value, limits
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array, TensorType
from redir.ops import tensor_of
from redir.ops.agreement import traps
from redir.progress import progress
from redir.runtime.deadlines import ending_at
from redir.text import tensors

__all__ = ["Run", "runner"]

Run = Callable[[Mapping[str, Array]], dict[str, Any]]

EXACT_PRODUCTS = ("session.x64quantprecision", "1")  # of onnxruntime's session options
_BYTES = (np.dtype(np.uint8), np.dtype(np.int8))


@cache
def _onnxruntime() -> Any:
    """The package, imported when it is needed: that takes as long as a small model; or None."""
    try:
        import onnxruntime  # noqa: PLC0415
    except ImportError as error:  # the extra is optional
        if isinstance(error.__cause__, Stopped):  # a signal, of which its own start made an error
            raise error.__cause__ from None
        return None
    onnxruntime.disable_telemetry_events()  # what a user runs is nobody's business
    return onnxruntime


def installed() -> bool:
    """Whether onnxruntime is there."""
    return _onnxruntime() is not None


def runtime_version() -> str:
    """The version of onnxruntime, empty without it."""
    return str(_onnxruntime().__version__) if installed() else ""


def stored_bytes(graph: Graph) -> int:
    """The bytes of all constants of a graph, those in the bodies of control flow too."""
    return sum(tensor.nbytes for tensor in tensors(graph))


def allowance(graph: Graph) -> int:
    """The bytes that a run of ``graph`` may take: in proportion to its constants."""
    with limits.following(stored_bytes(graph)):
        return limits.limit()


def is_huge(graph: Graph) -> bool:
    """Whether a graph is run by the interpreter, which holds one weight at a time.

    onnxruntime holds all of them, mostly twice.
    """
    return stored_bytes(graph) >= _HUGE


_HUGE = 2**31  # bytes of constants, which no file without external data holds


def runner(graph: Graph) -> Run:
    """What computes the outputs of ``graph`` on feeds by name."""
    if is_huge(graph):
        return lambda feeds: evaluate(graph, feeds)
    try:
        return session(graph)
    except (MissingExtra, Unsupported):
        return lambda feeds: evaluate(graph, feeds)


def session(graph: Graph, threads: int = 1, *, exact: bool = True) -> Session:
    """``graph`` in onnxruntime on ``threads`` threads of the CPU.

    ``exact`` adds up products of bytes without saturation, as the operators are defined; else as
    fast as onnxruntime does by itself, which on some CPUs is another result: see ``saturates``.

    Raises:
        MissingExtra: onnxruntime is not installed.
        Unsupported: it does not accept the model.
    """
    if not installed():
        raise MissingExtra("running a model in onnxruntime", "ort")
    options = _onnxruntime().SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 4
    stored, most = stored_bytes(graph), allowance(graph)
    _limit_memory(options, most)
    if exact:
        options.add_session_config_entry(*EXACT_PRODUCTS)
    guard = Guard.of(graph)
    guard.check({})
    with _written(graph, stored) as model:
        try:
            made = _onnxruntime().InferenceSession(model, options, ["CPUExecutionProvider"])
        except Exception as error:
            raise Unsupported(f"onnxruntime refuses the model: {_line(error)}") from error
    names = tuple(output.name for output in made.get_outputs())
    return Session(made, names, guard, most, _PATIENCE + stored / _BYTES_A_SECOND, threads)


@contextmanager
def _written(graph: Graph, stored: int) -> Iterator[str | bytes]:
    """``graph``, which stores so many bytes, as onnxruntime reads it: a file if it is large."""
    if stored < _SMALL:
        yield to_proto(graph).SerializeToString()
        return
    with temporary_folder() as folder:
        path = folder / "model.onnx"
        save(graph, path, external=True)  # from where it is mapped
        yield str(path)


_SMALL = 2**20  # bytes that may be in memory twice
_PATIENCE = 20.0  # seconds that any model may run for
_BYTES_A_SECOND = 10**7  # of the constants of a larger model, which may run for longer


def _limit_memory(options: Any, most: int) -> None:
    """Let onnxruntime fail, rather than the machine, where it would take more bytes."""
    ort = _onnxruntime()
    where = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    exact = {"max_mem": most, "arena_extend_strategy": 1}  # takes what is asked for, no more
    ort.create_and_register_allocator(where, ort.OrtArenaCfg(exact))
    options.add_session_config_entry("session.use_env_allocators", "1")


@cache
def saturates() -> bool:
    """Whether onnxruntime's sums of products of uint8 and int8 saturate on this CPU, as it warns.

    On x86 without VNNI they are added up in pairs of 16 bits, which 255 * 127 + 255 * 127 leaves.
    """
    if not installed():
        return False
    left, right = (np.full((8, 8), np.iinfo(dtype).max, dtype) for dtype in _BYTES)
    x, w = Value(TensorType(left.dtype, left.shape)), ops.constant(right)
    run = session(Graph({"x": x}, {"y": ops.MatMulInteger(x, w)}), exact=False)
    return bool(run({"x": left})["y"][0, 0] != 8 * 255 * 127)


def mixes_bytes(graph: Graph) -> bool:
    """Whether a graph holds both uint8 and int8, whose products may saturate."""
    held = {v.type.dtype for n in graph.walk() for v in (*n.inputs, *n.outputs)}
    return held.issuperset(_BYTES)


@dataclass(frozen=True)
class Guard:
    """What must not be given to onnxruntime, which it does not survive.

    ``divisions`` are those of whole numbers that may be the least by -1, each with a graph for
    either operand.
    """

    divisions: tuple[tuple[Node, Graph, Graph], ...]

    @classmethod
    def of(cls, graph: Graph) -> Guard:
        """The divisions of a graph, but for those in the bodies of its control flow."""
        reach: dict[Value, frozenset[str]] = {v: frozenset({n}) for n, v in graph.inputs.items()}
        found = []
        for node in graph.nodes:
            needs = frozenset[str]().union(*(reach[v] for v in node.inputs))
            reach.update(dict.fromkeys(node.outputs, needs))
            if node.op in _DIVIDING and _may_trap(node):
                inputs = {name: v for name, v in graph.inputs.items() if name in needs}
                left, right = (Graph(inputs, {"": v}, defaults=graph.defaults) for v in node.inputs)
                found.append((node, left, right))
        return cls(tuple(found))

    def check(self, feeds: Mapping[str, Array]) -> None:
        """Compute the divisors that these feeds reach, and what is divided by -1.

        Raises:
            Unsupported: the least number is divided by -1.
        """
        for node, left, right in self.divisions:
            if bool(feeds) != bool(right.inputs):
                continue  # constants are folded, and divided, before anything is given
            by = _computed(right, feeds)
            if np.any(by == -1) and traps((_computed(left, feeds), by)):
                raise Unsupported(f"{node} divides the least number of its type by -1")


def _computed(graph: Graph, feeds: Mapping[str, Array]) -> Array:
    """The one output; 0 where the interpreter cannot compute it."""
    try:
        return np.asarray(evaluate(graph, feeds)[""])
    except Unsupported:
        return np.zeros((), np.int64)


_DIVIDING = (ops.Div, ops.Mod)


def _may_trap(node: Node) -> bool:
    """Whether the operands are whole numbers, and may be the least and -1 as far as is known."""
    if node.inputs[0].type.dtype.kind != "i":
        return False
    held = [tensor_of(v) for v in node.inputs]
    least = np.iinfo(node.inputs[0].type.dtype).min
    return all(
        t is None or bool(np.any(t.array == n)) for t, n in zip(held, (least, -1), strict=True)
    )


@dataclass(frozen=True)
class Session:
    """A model that onnxruntime holds, called with feeds by name.

    It may take ``most`` bytes, and run for ``seconds``.
    """

    held: Any  # an InferenceSession
    names: tuple[str, ...]  # of the outputs
    guard: Guard
    most: int
    seconds: float
    threads: int = 1

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """The outputs by name.

        Raises:
            Unsupported: onnxruntime fails on these feeds.
            TooLarge: it takes more time or memory than a model of its size may.
        """
        self.guard.check(feeds)
        try:
            return self._run(feeds)
        except OutOfSteps:
            raise
        except TooLarge:  # and what other runs had left is given back, their results too
            return self._run(feeds)

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        try:
            with _ending_after(self.seconds) as options:
                return dict(zip(self.names, self.held.run(None, dict(feeds), options), strict=True))
        except Exception as error:
            if options.terminate:
                long = f"the model runs for more than {self.seconds:.0f} s in onnxruntime"
                raise OutOfSteps(long) from None
            if _NO_ROOM in str(error):
                raise TooLarge(
                    f"the model needs more than {limits.readable(self.most)} to run in "
                    "onnxruntime (--max-bytes raises it)"
                ) from None
            raise Unsupported(f"onnxruntime fails on these inputs: {_line(error)}") from error


_NO_ROOM = "Available memory of"
_GIVING_BACK = ("memory.enable_memory_arena_shrinkage", "cpu:0")  # of its options of a run


@contextmanager
def _ending_after(seconds: float) -> Iterator[Any]:
    """Options of a run that ends, at the next operator, when it has taken so long.

    What it took counts no longer then: onnxruntime would keep it for runs of the same sizes, on top
    of what those of other sizes take.
    """
    options = _onnxruntime().RunOptions()
    if isinf(seconds):
        yield options
        return
    options.add_run_config_entry(*_GIVING_BACK)
    with ending_at(time.monotonic() + seconds, lambda: setattr(options, "terminate", True)):
        yield options


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class Times:
    """The median seconds of two models run in turn, and their ratio from pair to pair.

    ``ratio`` is the median over the pairs, ``low`` and ``high`` are the quartiles.
    """

    before: float
    after: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["faster", "slower", "same"]:
        """Faster or slower only where three of four pairs say so."""
        return "faster" if self.high < 1 else "slower" if self.low > 1 else "same"

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> Times:
        """What the seconds of pairs of runs come to."""
        first, second = zip(*pairs, strict=True)
        low, ratio, high = np.quantile(np.divide(second, first), (0.25, 0.5, 0.75)).tolist()
        return cls(statistics.median(first), statistics.median(second), ratio, low, high)


def time_pairs(a: Run, b: Run, feeds: Mapping[str, Array], pairs: int = 15) -> Times:
    """The times of ``a`` and of ``b`` on ``feeds``, run in turn after a warm-up.

    There are fewer ``pairs``, at least nine, where they take more than five seconds.
    """
    found, spent = list[tuple[float, float]](), 0.0
    runs = zip(progress(range(pairs), "timed runs"), _timed(a, b, feeds, feeds, pairs), strict=True)
    for _, pair in runs:
        found.append(pair)
        spent += sum(pair)
        if spent > _LONG and len(found) >= _FEWEST:
            break
    return Times.of(found)


_LONG, _FEWEST = 5.0, 9  # seconds, and pairs of runs


def pair_ratio(
    a: Run,
    b: Run,
    feeds: Mapping[str, Array],
    others: Mapping[str, Array] | None = None,
    *,
    seconds: float = 1.0,
    least: int = 15,
) -> float:
    """The median, over pairs of runs in turn, of the time of ``b`` over that of ``a``.

    ``b`` runs on ``others``, if that is not the same. At ``least`` so many pairs, at most 1,000,
    and as many as take about so many ``seconds``.
    """
    ratios, spent = list[float](), 0.0
    for old, new in _timed(a, b, feeds, feeds if others is None else others, 1000):
        ratios.append(new / old)
        spent += old + new
        if len(ratios) >= least and spent >= seconds:
            break
    return statistics.median(ratios)


def _timed(
    a: Run, b: Run, feeds: Mapping[str, Array], others: Mapping[str, Array], pairs: int
) -> Iterator[tuple[float, float]]:
    """The seconds of each pair of runs, after one for warming up."""
    for number in range(pairs + 1):
        times = _seconds(a, feeds), _seconds(b, others)
        if number:
            yield times
        else:
            a, b = _trusted(a), _trusted(b)


def _trusted(run: Run) -> Run:
    """``run`` without a watch on its time and memory, which would be measured too."""
    return replace(run, seconds=inf) if isinstance(run, Session) else run


def _seconds(run: Run, feeds: Mapping[str, Array]) -> float:
    """How long a run takes: on one thread, how long that worked, whatever else the machine does."""
    alone = isinstance(run, Session) and run.threads == 1 and _FINE
    clock = time.thread_time if alone else time.perf_counter
    start = clock()
    run(feeds)
    return clock() - start


_FINE = time.get_clock_info("thread_time").resolution < 1e-5  # noqa: PLR2004 - much less than a run
