"""A rule that fails is a fault of redir's, and is told; one that does not cover a case is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from redir.errors import Fault  # noqa: E402 - behind the check that torch is there
from redir.frontends.torch.call import RULES  # noqa: E402
from redir.frontends.torch.program import from_program, from_torch  # noqa: E402
from redir.ir.interpreter import evaluate  # noqa: E402
from tests.frontends.test_torch import feeds_of, floats, module_of, results_of  # noqa: E402

F, ROWS, ONE = torch.nn.functional, floats(3, 4), torch.tensor([0])


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule for ``relu`` fails."""

    def fails(*_: Any) -> Any:
        raise KeyError("none")

    monkeypatch.setitem(RULES, "relu", fails)


@pytest.mark.usefixtures("broken")
def test_a_rule_that_fails_is_a_fault() -> None:
    with pytest.raises(Fault, match=r"rule for aten.relu.default 'relu' fails with KeyError"):
        from_torch(module_of(F.relu), (ROWS,))


@pytest.mark.usefixtures("broken")
@pytest.mark.filterwarnings("ignore::redir.errors.Fault")
def test_it_is_then_read_without_the_rule() -> None:
    graph = from_torch(module_of(F.relu), (ROWS,))
    (found,) = evaluate(graph, feeds_of(graph, ((ROWS,), {}))).values()
    np.testing.assert_array_equal(np.asarray(found), F.relu(ROWS))


@pytest.mark.usefixtures("broken")
def test_a_rule_that_fails_on_what_torch_does_not_take_is_none() -> None:
    program = torch.export.export(module_of(F.relu), (ROWS,))
    (call,) = (n for n in program.graph.nodes if n.op == "call_function")
    call.meta["val"] = call.meta["val"][0]
    assert from_program(program).outputs


@pytest.mark.filterwarnings("ignore:var:UserWarning")  # which has no number for it
@pytest.mark.parametrize("what", [
    lambda x: x.sum().sort().values,
    lambda x: x.sum().index_select(0, ONE),
    lambda x: x.sum().unfold(0, 1, 1),
    lambda x: x.sum().flip([0]) + 1,
    lambda x: x.sum().movedim(0, 0) + 1,
    lambda x: torch.cat([x[0, :0], x[0, :0]]),
    lambda x: F.pixel_unshuffle(x.reshape(1, 2, 6), 2),
    lambda x: F.adaptive_avg_pool1d(x, 0),
    lambda x: torch.addbmm(x[:, :3], x[None], x.T[None]),
    lambda x: torch.linalg.vector_norm(x, 0),
    lambda x: x[:1].var(0),
    lambda x: x.var(0, correction=4),
])  # fmt: skip
def test_rules_leave_what_they_do_not_cover(what: Any) -> None:
    module = module_of(what)
    graph = from_torch(module, (ROWS,))
    (found,) = evaluate(graph, feeds_of(graph, ((ROWS,), {}))).values()
    (wanted,) = results_of(module(ROWS))
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-5)


@pytest.mark.parametrize("what", [
    lambda x: torch.add(x, x, alpha=x.shape[0]),
    lambda x: F.elu(x, alpha=x.shape[0]),
    lambda x: x.tril(x.shape[0]),
])  # fmt: skip
def test_rules_leave_a_number_that_depends_on_the_shape(what: Any) -> None:
    sizes = ({0: torch.export.Dim("rows")},)
    graph = from_torch(module_of(what), (ROWS,), dynamic_shapes=(sizes,))
    assert [n.op.domain for n in graph.nodes][-1] == "aten"
