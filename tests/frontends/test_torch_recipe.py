"""The recipe of CONTRIBUTING for a rule, followed on a toy."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from redir.frontends.torch.call import RULES, Call, aten  # noqa: E402 - torch comes first
from redir.frontends.torch.program import from_torch  # noqa: E402
from redir.ir import Value  # noqa: E402
from tests.frontends.test_torch import floats, module_of  # noqa: E402


@pytest.fixture
def toy() -> Any:
    """A rule for an operator that has none, as long as a test lasts."""
    with mock.patch.dict(RULES):

        @aten("digamma")
        def _digamma(c: Call, x: Value) -> Value:
            return c.main("Neg", c.op("Abs", x))

        yield


def operators() -> list[str]:
    graph = from_torch(module_of(torch.digamma), (floats(2, 3),))
    return [node.op.name for node in graph.nodes]


def test_an_operator_without_a_rule_is_carried() -> None:
    assert operators() == ["digamma.default"]


@pytest.mark.usefixtures("toy")
def test_an_operator_with_a_rule_becomes_what_the_rule_says() -> None:
    assert operators() == ["Abs", "Neg"]
