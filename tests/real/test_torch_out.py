"""Real models become PyTorch that computes the same, or the operator in the way is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir.errors import Unsupported
from redir.interpret import evaluate
from redir.ir import Graph
from redir.tensor import Array
from tests.real.inputs import SHARED, Feeds, feeds_of, loaded, name_of, original, outputs_of

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from redir.backends.torch import identifier, to_torch  # noqa: E402 - torch comes first

_CLOSE = 1e-5  # of the magnitude of an output


@pytest.mark.parametrize("path", SHARED, ids=name_of)
def test_a_real_model_computes_the_same(path: Path) -> None:
    torch.set_num_threads(1)
    graph, feeds, held = loaded(path), feeds_of(path), original(path)
    assert held is not None
    with torch.no_grad():
        given = {identifier(n): torch.from_numpy(np.array(a)) for n, a in feeds.items()}
        found = to_torch(graph)(**given)
    found = found if isinstance(found, tuple) else (found,)
    wanted = outputs_of(held, feeds)
    exact = interpreted(graph, feeds) or wanted
    for tensor, (name, array) in zip(found, wanted.items(), strict=True):
        assert_close(tensor.numpy(), array, exact[name], name)


def interpreted(graph: Graph, feeds: Feeds) -> dict[str, Any]:
    """What the interpreter computes; nothing where it does not know an operator."""
    try:
        return evaluate(graph, feeds)
    except Unsupported:
        return {}


def assert_close(found: Any, wanted: Array, exact: Array, name: str) -> None:
    """As close to onnxruntime as that is to the interpreter, and 1e-5 of the magnitude."""
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), name
    scale = float(np.abs(wanted).max(initial=1e-3))
    own = float(np.abs(wanted.astype(np.float64) - exact).max(initial=0.0))
    off = float(np.abs(found.astype(np.float64) - wanted).max(initial=0.0))
    assert off <= _CLOSE * scale + 2 * own, (name, off / scale, own / scale)
