"""How the time and the memory of redir grow with the nodes and with the weights of a model.

Each is measured at three sizes, and the last column is the exponent: by which power of the size it
grows from the smallest to the largest. Models of 2 GiB and more are run in another way than smaller
ones, and measured alone. The models are drawn, and need 10 GB of disk::

    python -m tests.benchmarks.growth
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory

from redir.app import tables
from tests.benchmarks.chains import drawn
from tests.benchmarks.spending import Spent, redir

NODES = (1_000, 4_000, 16_000)
WEIGHTS = (0.05e9, 0.2e9, 0.8e9)  # bytes of 20 layers
HUGE = (2.4e9, 3.6e9, 4.8e9)
LAYERS = 20
NARROW = 16
JOBS = ("--jobs", "1")


def chain(folder: Path, nodes: float) -> Path:
    """A chain of so many nodes, a Relu behind each layer and an Identity behind every second."""
    return drawn(folder / "chain.onnx", round(nodes / 2.5), NARROW)


def wide(folder: Path, size: float) -> Path:
    """A chain of few layers that store so many bytes."""
    return drawn(folder / "wide.onnx", LAYERS, round((size / 4 / LAYERS) ** 0.5))


Ran = Callable[[Path, Path], Spent]
STEPS: dict[str, Ran] = {
    "compress": lambda a, b: redir("compress", "--no-timing", *JOBS, a, b),
    "hash": lambda a, b: redir("opt", *JOBS, "-p", "hash", a, b),
    "palettize{bits=4}": lambda a, b: redir("opt", *JOBS, "-p", "palettize{bits=4}", a, b),
}


def lines(
    what: str, step: str, sizes: Sequence[float], made: Callable[[Path, float], Path]
) -> Iterator[list[str]]:
    """The lines of a table for one step and what is made larger."""
    found = []
    for size in sizes:
        with TemporaryDirectory() as folder:
            model = made(Path(folder), size)
            found.append(STEPS[step](model, Path(folder) / "out.onnx"))
    for unit, form in (("processor", "{:.1f} s"), ("peak", "{:.2f} GB")):
        spent = [getattr(each, unit) for each in found]
        power = log(spent[-1] / spent[0]) / log(sizes[-1] / sizes[0])
        yield [step, what, *map(form.format, spent), f"{power:.2f}"]


def main() -> None:
    """Print the table."""
    rows = [*lines("nodes", "compress", NODES, chain)]
    for step in STEPS:
        rows += lines("bytes", step, WEIGHTS, wide)
    rows += lines("bytes, huge", "compress", HUGE, wide)
    tables.write_table(("step", "larger", "small", "middle", "large", "exponent"), rows)


if __name__ == "__main__":
    main()
