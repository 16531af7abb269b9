"""What was measured on this machine, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from redir.atomic import replacing
from redir.errors import BadInput
from redir.io.cache import cache_folder
from redir.ir import Graph
from redir.ops import tensor_of
from redir.runtime.onnxruntime import runtime_version


@dataclass(frozen=True)
class Timings:
    """Numbers by key in a JSON file; one that cannot be read or written is as good as empty."""

    path: Path

    @classmethod
    def of_this_machine(cls) -> Timings:
        """Those of the user on this machine."""
        return cls(cache_folder() / "latency.json")

    def key(self, before: Graph, after: Graph, *how: float) -> str:
        """What a ratio of times depends on: machine, runtime, and both models but for weights.

        ``how`` it is measured counts, too.
        """
        parts = (platform.machine(), platform.processor(), _cpu(), runtime_version(), *how)
        text = "\n".join([*map(str, parts), *_form(before), "became", *_form(after)])
        return hashlib.sha256(text.encode()).hexdigest()

    def read(self, key: str) -> float | None:
        """The number under ``key``, if there is one."""
        found = self._all().get(key)
        return float(found) if isinstance(found, int | float) else None

    def write(self, key: str, number: float) -> None:
        """Keep ``number`` under ``key``."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as (file,):
                file.write(json.dumps({**self._all(), key: number}, indent=0).encode())
        except (OSError, BadInput):
            return

    def _all(self) -> dict[str, object]:
        try:
            found = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _cpu() -> str:
    """The name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("model name")), "")


def _form(graph: Graph) -> Iterator[str]:
    """A line for each node: its operator, attributes, types, and where its operands come from."""
    places = {value: name for name, value in graph.inputs.items()}
    yield ", ".join(f"{name}: {value.type}" for name, value in graph.inputs.items())
    for number, node in enumerate(graph.nodes):
        places.update({value: f"{number}.{value.index}" for value in node.outputs})
        types = ", ".join(str(value.type) for value in node.outputs)
        held = tensor_of(node.outputs[0]) is not None
        attrs = "" if held else sorted((k, str(a)) for k, a in node.attrs.items())
        yield f"{node.op}-{node.op.version} {attrs} {[places[v] for v in node.inputs]}: {types}"
    yield str([places[v] for v in graph.outputs.values()])
