"""What a module keeps from call to call comes back: buffers it changes, frozen weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import redir
from redir.app.cli import main
from redir.errors import Unsupported
from redir.ir.interpreter import evaluate

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from torch import nn  # noqa: E402 - torch comes first

from redir.backends.torch.writer import source  # noqa: E402
from redir.frontends.torch.program import from_program  # noqa: E402
from tests.source_files import imported  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own
X = torch.arange(6.0).reshape(2, 3)


class Keeping(nn.Module):  # type: ignore[misc]
    """A linear layer and two buffers, for what changes them."""

    calls: Any
    seen: Any

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("calls", torch.tensor(4))
        self.register_buffer("seen", torch.zeros(2, 3))


class Counter(Keeping):
    """A number that counts calls, read when it has changed."""

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return self.layer(x) * self.calls


class Unread(Keeping):
    """A number that counts calls, and that nothing reads."""

    def forward(self, x: Any) -> Any:
        self.calls.add_(1)
        return self.layer(x)


class Cache(Keeping):
    """A cache of which a part is written, inside a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Rows()

    def forward(self, x: Any) -> Any:
        return self.inner(self.layer(x)).sum(1)


class Rows(nn.Module):  # type: ignore[misc]
    """A buffer of four rows, of which each call writes two."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(2, 4, 3))

    def forward(self, x: Any) -> Any:
        self.rows[:, 1:3] = x[:, None]
        self.rows[:, 0] += 1
        return self.rows


class Average(Keeping):
    """A moving average, without gradients, read before and after."""

    def forward(self, x: Any) -> Any:
        before = self.seen * 2
        with torch.no_grad():
            self.seen.mul_(0.9).add_(self.layer(x), alpha=0.1)
            self.seen[0] += 1
        return before + self.seen


class Swap(Keeping):
    """The buffer becomes the input, and what it was comes out."""

    def forward(self, x: Any) -> Any:
        before = self.seen.clone()
        self.seen.copy_(self.layer(x))
        return before


class Assigned(Keeping):
    """The buffer is assigned and not written to."""

    def forward(self, x: Any) -> Any:
        self.seen = self.layer(x) + self.seen
        return {"state": self.seen, "x": x}


class Plain(Keeping):
    """A tensor that is no buffer is written to."""

    def __init__(self) -> None:
        super().__init__()
        self.total = torch.zeros(3)

    def forward(self, x: Any) -> Any:
        self.total += x.sum(0)
        return self.layer(x) + self.total


KINDS = [Counter, Unread, Cache, Average, Swap, Assigned, Plain]


def read(kind: Any) -> tuple[Any, Any]:
    """A module as it was, and its graph."""
    torch.manual_seed(0)
    module = kind().eval()
    return copy.deepcopy(module), redir.from_torch(module, (X,))


def calls(module: Any) -> list[Any]:
    """What call after call gives, on inputs that differ."""
    with torch.no_grad():
        given = [module(X * (k + 1)) for k in range(3)]
    return [t.clone() for t in torch.utils._pytree.tree_leaves(given)]


def assert_keeps(module: Any, again: Any) -> None:
    """Both give the same in each call, and end with the same buffers."""
    for a, b in zip(calls(module), calls(again), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)
    held = dict(module.named_buffers())
    for name, buffer in again.named_buffers():
        torch.testing.assert_close(buffer, held.get(name, buffer), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_changes_its_buffers(kind: Any) -> None:
    module, graph = read(kind)
    assert_keeps(module, redir.to_torch(graph))


@pytest.mark.parametrize("kind", [Counter, Cache, Average])
def test_source_changes_its_buffers(kind: Any, tmp_path: Path) -> None:
    module, graph = read(kind)
    redir.save(graph, tmp_path / "net.py")
    assert_keeps(module, imported(tmp_path / "net.py").load())


@pytest.mark.parametrize("kind", KINDS)
def test_no_pass_takes_a_buffer_that_changes_for_a_constant(kind: Any) -> None:
    module, _ = read(kind)
    smaller = redir.compress(copy.deepcopy(module), (X,))
    assert_keeps(module, smaller.module)


def test_the_map_names_buffers_that_change() -> None:
    assert redir.compress(Counter().eval(), (X,)).map["calls"]["name"] == "calls"


def test_reading_leaves_the_buffers_of_the_module() -> None:
    module = Counter().eval()
    redir.from_torch(module, (X,))
    assert module.calls == 4


def test_state_is_an_input_with_a_default_and_an_output() -> None:
    graph = read(Counter)[1]
    assert (list(graph.inputs), list(graph.outputs)) == (["x", "calls"], ["output", "calls_next"])
    assert graph.defaults["calls"].array == 4
    first = evaluate(graph, {"x": X.numpy()})
    second = evaluate(graph, {"x": X.numpy(), "calls": first["calls_next"]})
    np.testing.assert_allclose(second["output"], first["output"] / 5 * 6, rtol=1e-6)


def test_onnx_has_state_as_an_input_and_an_output(tmp_path: Path) -> None:
    redir.save(read(Counter)[1], tmp_path / "net.onnx")
    found = onnx.load(tmp_path / "net.onnx").graph
    assert [i.name for i in found.initializer if i.name in {v.name for v in found.input}] == [
        "calls"
    ]
    assert [o.name for o in found.output] == ["output", "calls_next"]


def test_the_command_line_says_what_is_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    redir.save(read(Counter)[1], tmp_path / "net.redir")
    out = tmp_path / "net.onnx"
    assert main(["compress", str(tmp_path / "net.redir"), str(out), "--quiet"]) == 0
    assert main(["stats", str(tmp_path / "net.redir")]) == 0
    said = capsys.readouterr().err
    assert "note: 'calls', state that the module keeps, is an input" in said
    assert "may be overridden" not in said


def test_text_keeps_state(tmp_path: Path) -> None:
    module, graph = read(Average)
    redir.save(graph, tmp_path / "net.redir")
    assert_keeps(module, redir.to_torch(redir.load(tmp_path / "net.redir")))


def test_a_buffer_named_as_an_input_stays_apart() -> None:
    class Named(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("x", torch.zeros(2, 3))

        def forward(self, x: Any) -> Any:
            self.x += x
            return self.x * 1.0

    module = Named().eval()
    again = redir.to_torch(redir.from_torch(copy.deepcopy(module), (X,)))
    assert_keeps(module, again)


def test_a_functional_program_changes_its_buffers() -> None:
    module = Average().eval()
    program = torch.export.export(module, (X,)).run_decompositions({})
    assert_keeps(module, redir.to_torch(from_program(program)))


def test_a_saved_program_changes_its_buffers(tmp_path: Path) -> None:
    module = Average().eval()
    torch.export.save(torch.export.export(module, (X,)), tmp_path / "net.pt2")
    assert_keeps(module, redir.to_torch(redir.load(tmp_path / "net.pt2")))


def test_a_module_that_comes_back_is_read_again() -> None:
    module, graph = read(Average)
    again = redir.to_torch(redir.from_torch(redir.to_torch(graph), (X,)))
    assert_keeps(module, again)


def test_training_goes_past_a_buffer_that_changes() -> None:
    again = redir.to_torch(read(Average)[1]).train()
    for _ in range(2):
        again(X).sum().backward()
    assert again.layer.weight.grad.any()
    assert not again.seen.requires_grad


def test_a_parameter_that_changes_is_refused() -> None:
    class Decaying(Keeping):
        def forward(self, x: Any) -> Any:
            with torch.no_grad():
                self.layer.weight.mul_(0.9)
            return self.layer(x)

    with pytest.raises(Unsupported, match=r"layer\.weight: forward writes to this parameter"):
        redir.from_torch(Decaying().eval(), (X,))


def test_an_attribute_that_is_read_and_assigned_is_refused() -> None:
    class Attribute(Keeping):
        def __init__(self) -> None:
            super().__init__()
            self.state = torch.zeros(2, 3)

        def forward(self, x: Any) -> Any:
            self.state = self.layer(x) + self.state
            return self.state

    with pytest.raises(Unsupported, match=r"register_buffer\('state'"):
        redir.from_torch(Attribute().eval(), (X,))


# Parameters that are not trained


class Backbone(nn.Module):  # type: ignore[misc]
    """A backbone that is frozen whole, a layer of which the bias is, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
        self.neck = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(2), requires_grad=False)
        self.backbone.requires_grad_(requires_grad=False)
        self.neck.bias.requires_grad_(requires_grad=False)

    def forward(self, x: Any) -> Any:
        return self.head(self.neck(self.backbone(x))) * self.scale


def trained(module: Any) -> dict[str, bool]:
    return {n: p.requires_grad for n, p in module.named_parameters()}


def test_frozen_parameters_stay_frozen() -> None:
    module = Backbone().eval()
    assert trained(redir.to_torch(redir.from_torch(module, (X,)))) == trained(module)


def test_source_freezes_a_module_whole() -> None:
    text = source(redir.from_torch(Backbone().eval(), (X,)))
    assert [line.strip() for line in text.splitlines() if "requires_grad_" in line] == [
        "model.backbone.requires_grad_(False)",
        "model.neck.bias.requires_grad_(False)",
        "model.scale.requires_grad_(False)",
    ]


def test_frozen_parameters_stay_frozen_when_they_are_folded() -> None:
    found = trained(redir.compress(Backbone().eval(), (X,)).module)
    assert {name.split(".")[0] for name, on in found.items() if on} == {"neck"}
    assert {name.split(".")[0] for name, on in found.items() if not on} == {"backbone"}


def test_frozen_recurrent_layers_stay_frozen() -> None:
    module = nn.Sequential(nn.LSTM(3, 4)).eval().requires_grad_(requires_grad=False)
    again = redir.to_torch(redir.from_torch(module, (X[:, None],)))
    assert not any(trained(again).values())
