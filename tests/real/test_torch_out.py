"""Real models become PyTorch that computes the same.

As close to onnxruntime as 1e-5 of the magnitude, or else as that is to the interpreter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir.errors import Unsupported
from redir.ir import Graph
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array
from tests.real.inputs import SHARED, Feeds, each, feeds_of, loaded, original, outputs_of

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from redir.backends.torch.writer import identifier, to_torch  # noqa: E402 - torch comes first

_CLOSE = 1e-5  # of the magnitude of an output
_OWN = 4  # times what onnxruntime itself is from the interpreter: sums in another order


@each(SHARED)
def test_a_real_model_computes_the_same(path: Path) -> None:
    torch.set_num_threads(1)
    graph, feeds, held = loaded(path), feeds_of(path), original(path)
    assert held is not None
    with torch.no_grad():
        given = {identifier(n): torch.from_numpy(np.array(a)) for n, a in feeds.items()}
        found = to_torch(graph)(**given)
    found = found if isinstance(found, tuple) else (found,)
    wanted = outputs_of(held, feeds)
    pairs = {n: (t.numpy(), a) for t, (n, a) in zip(found, wanted.items(), strict=True)}
    far = {name: pair for name, pair in pairs.items() if distance(*pair) > _CLOSE}
    exact = interpreted(graph, feeds) if far else {}
    for name, (ours, theirs) in far.items():
        assert distance(ours, theirs) <= _CLOSE + _OWN * distance(exact.get(name, theirs), theirs)


def interpreted(graph: Graph, feeds: Feeds) -> dict[str, Any]:
    """What the interpreter computes; nothing where it does not know an operator."""
    try:
        return evaluate(graph, feeds)
    except Unsupported:
        return {}


def distance(found: Array, wanted: Array) -> float:
    """The largest difference, as a share of the magnitude of ``wanted``."""
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    scale = float(np.abs(wanted).max(initial=1e-3))
    return float(np.abs(found.astype(np.float64) - wanted).max(initial=0.0)) / scale
