"""The recipe of CONTRIBUTING for an emission, followed on a toy."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from redir import ops  # noqa: E402 - torch comes first
from redir.backends.torch.emit.site import Result, Site  # noqa: E402
from redir.backends.torch.ops import TABLE  # noqa: E402
from redir.backends.torch.writer import source, to_torch  # noqa: E402
from redir.errors import Unsupported  # noqa: E402
from redir.ir import Graph, Node, Value  # noqa: E402
from redir.ir.tensor import TensorType  # noqa: E402

TYPE = TensorType(np.dtype(np.float32), (2, 3))


def twice(site: Site) -> Result:
    return f"{site.ref(0)} * {site.attr('by', 2)}"


@pytest.fixture
def graph() -> Graph:
    """A graph of one operator that no runtime knows."""
    x = Value(TYPE)
    (y,) = Node(ops.opaque("Scale", "toy", 1, [TYPE]), (x,), {"by": 3}).outputs
    return Graph({"x": x}, {"y": y})


def test_an_operator_without_a_rule_is_refused(graph: Graph) -> None:
    with pytest.raises(Unsupported, match="no PyTorch form"):
        source(graph)


@mock.patch.dict(TABLE, {"toy.Scale": twice})
def test_an_operator_with_a_rule_is_written_by_it(graph: Graph) -> None:
    assert "return x * 3" in source(graph)
    assert to_torch(graph)(torch.ones(2, 3)).tolist() == [[3.0] * 3] * 2
