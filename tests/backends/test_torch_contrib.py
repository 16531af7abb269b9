"""onnxruntime's own operators compute the same in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from redir.errors import Unsupported
from redir.ir.interpreter import evaluate
from tests.ops.test_contrib import CASES, feeds, graph_of

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from redir.backends.torch.writer import to_torch  # noqa: E402 - torch comes first

REFUSED = {  # by PyTorch
    "Attention, added",
    "Attention, past",
    "GroupQueryAttention",
    "GroupQueryAttention, turned",
    "LayerNormalization",
    "MultiHeadAttention, causal",
    "MultiHeadAttention, causal, fewer places",
    "MultiHeadAttention, causal, more places",
    "MultiHeadAttention, past",
}


@pytest.mark.parametrize("name", sorted(CASES.keys() - REFUSED))
def test_it_computes_the_same(name: str) -> None:
    graph, given = graph_of(CASES[name]), feeds(CASES[name])
    wanted = evaluate(graph, given)
    with torch.no_grad():
        found = to_torch(graph)(*(torch.from_numpy(array) for array in given.values()))
    for one, (key, array) in zip(
        found if isinstance(found, tuple) else (found,), wanted.items(), strict=True
    ):
        np.testing.assert_allclose(one.numpy(), array, 2e-5, 2e-5, err_msg=key)
        assert one.numpy().dtype == array.dtype


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_it_is_refused(name: str) -> None:
    with pytest.raises(Unsupported):
        to_torch(graph_of(CASES[name]))
