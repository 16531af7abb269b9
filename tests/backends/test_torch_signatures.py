"""What ``forward`` takes comes back: nested arguments, kinds, names and defaults."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import redir

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from torch import nn  # noqa: E402 - torch comes first

from redir.backends.torch.writer import source  # noqa: E402
from tests.source_files import imported  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own
X = torch.arange(8.0).reshape(2, 4)
ONES = torch.ones(2, 3)


class Net(nn.Module):  # type: ignore[misc]
    """A layer, for what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)


class Dict(Net):
    def forward(self, batch: Any) -> Any:
        y = self.layer(batch["a key"])
        return {"y": y, "both": [y * batch["more"][0], None], "count": 3}


class Positional(Net):
    def forward(self, x: Any, /, y: Any) -> Any:
        return self.layer(x) + y


class Many(Net):
    def forward(self, x: Any, *more: Any) -> Any:
        return self.layer(x) + more[0] * more[1]["z"]


class Keywords(Net):
    def forward(self, **given: Any) -> Any:
        return self.layer(given["x"]) + given["bias"]


class KeywordOnly(Net):
    def forward(self, x: Any, *, mask: Any = None, scale: float = 2.0) -> Any:
        y = self.layer(x) * scale
        return y if mask is None else y * mask


class Past(Net):
    def forward(self, x: Any, past: Any = None, use: bool = True) -> Any:  # noqa: FBT001, FBT002
        y = self.layer(x)
        return (y, ((y, y * 2), use)) if past is None else (y + past[0][0], past)


class Unused(Net):
    def forward(self, x: Any, ids: Any, note: Any = None, sizes: Any = (1, 2)) -> Any:
        del ids, note, sizes
        return self.layer(x)


class Shadowing(Net):
    def forward(self, input: Any, F: Any, type: Any = None) -> Any:  # noqa: A002, N803
        del type
        return torch.nn.functional.elu(self.layer(input)) + F


class Pair(NamedTuple):
    """Two tensors."""

    low: Any
    high: Any


class Named(Net):
    def forward(self, pair: Pair, *, parts: Any) -> Any:
        return Pair(self.layer(pair.low), pair.high * parts[1][0])


@dataclass
class Batch:
    """A tensor, and perhaps another."""

    x: Any
    mask: Any = None


class Data(Net):
    def forward(self, batch: Batch) -> Any:
        y = self.layer(batch.x)
        return y if batch.mask is None else y * batch.mask


torch.export.register_dataclass(Batch, serialized_type_name="redir.tests.Batch")


class Closed:
    """An object that does not say what it holds."""

    def __init__(self, first: Any, second: Any) -> None:
        self.held = [first, second]


torch.utils._pytree.register_pytree_node(
    Closed,
    lambda c: (c.held, None),
    lambda parts, _: Closed(*parts),
    serialized_type_name="redir.tests.Closed",
    flatten_with_keys_fn=lambda c: (
        [(torch.utils._pytree.SequenceKey(k), part) for k, part in enumerate(c.held)],
        None,
    ),
)


class Opened(Net):
    def forward(self, closed: Any) -> Any:
        return self.layer(closed.held[0]) * closed.held[1]


CASES: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "dict": (Dict, ({"a key": X, "more": (ONES,)},), {}),
    "positional": (Positional, (X, ONES), {}),
    "many": (Many, (X, ONES, {"z": ONES * 2}), {}),
    "keywords": (Keywords, (), {"x": X, "bias": ONES}),
    "keyword only": (KeywordOnly, (X,), {"mask": ONES}),
    "keyword left out": (KeywordOnly, (X,), {}),
    "None by default": (Past, (X,), {}),
    "nested where None is the default": (Past, (X, ((ONES, ONES * 2), (ONES, None))), {}),
    "unused": (Unused, (X, torch.arange(3)), {}),
    "names that text uses": (Shadowing, (X, ONES), {}),
    "named tuple": (Named, (Pair(X, ONES),), {"parts": [ONES, (ONES * 3,)]}),
    "dataclass": (Data, (Batch(X),), {}),
    "dataclass, whole": (Data, (Batch(X, ONES),), {}),
    "object": (Opened, (Closed(X, ONES),), {}),
}


def read(name: str) -> tuple[Any, tuple[Any, ...], dict[str, Any], Any]:
    kind, args, kwargs = CASES[name]
    module = kind().eval()
    return module, args, kwargs, redir.from_torch(module, args, kwargs)


def assert_alike(wanted: Any, found: Any) -> None:
    """Both hold the same, nested in the same way."""
    flat, spec = torch.utils._pytree.tree_flatten(wanted)
    again, other = torch.utils._pytree.tree_flatten(found)
    assert str(spec).replace(f"{__name__}.", "") == str(other).replace(f"{__name__}.", "")
    torch.testing.assert_close(again, flat)


@pytest.mark.parametrize("name", [n for n in CASES if n != "named tuple"])
def test_a_module_takes_what_it_took(name: str) -> None:
    module, args, kwargs, graph = read(name)
    assert_alike(module(*args, **kwargs), redir.to_torch(graph)(*args, **kwargs))


def test_a_named_tuple_is_taken_by_its_fields() -> None:
    module, args, kwargs, graph = read("named tuple")
    found = redir.to_torch(graph)(*args, **kwargs)
    torch.testing.assert_close(tuple(found), tuple(module(*args, **kwargs)))


@pytest.mark.parametrize("name", ["dict", "many", "keyword only"])
def test_source_takes_what_the_module_took(name: str, tmp_path: Path) -> None:
    module, args, kwargs, graph = read(name)
    redir.save(redir.compress(graph), tmp_path / "net.py")
    found = imported(tmp_path / "net.py").load()(*args, **kwargs)
    assert_alike(module(*args, **kwargs), found)


@pytest.mark.parametrize("name", [n for n in CASES if n != "names that text uses"])
def test_the_signature_is_that_of_the_module(name: str) -> None:
    module, _, _, graph = read(name)
    wanted = inspect.signature(module.forward)
    plain = [p.replace(annotation=p.empty) for p in wanted.parameters.values()]
    found = inspect.signature(redir.to_torch(graph).forward)
    assert list(found.parameters.values()) == plain


def test_names_that_the_text_uses_give_way() -> None:
    graph = read("names that text uses")[3]
    assert "def forward(self, input, F_, type=None):" in source(graph)


@pytest.mark.parametrize("name", ["dict", "many", "keywords", "keyword only", "dataclass, whole"])
def test_a_compressed_module_takes_what_it_took(name: str) -> None:
    module, args, kwargs, _ = read(name)
    smaller = redir.compress(module, args, kwargs).module
    assert_alike(module(*args, **kwargs), smaller(*args, **kwargs))


def test_another_constant_than_the_module_was_read_with_is_refused() -> None:
    again = redir.to_torch(read("keyword only")[3])
    with pytest.raises(ValueError, match=r"scale: the network was read with 2\.0 here"):
        again(X, mask=ONES, scale=3.0)


def test_a_tensor_where_the_module_was_read_with_none_is_refused() -> None:
    again = redir.to_torch(read("keyword left out")[3])
    with pytest.raises(ValueError, match="mask: the network was read with None here"):
        again(X, mask=ONES)


def test_a_saved_program_takes_what_the_module_took(tmp_path: Path) -> None:
    module, args, kwargs, _ = read("nested where None is the default")
    torch.export.save(torch.export.export(module, args, kwargs), tmp_path / "net.pt2")
    again = redir.to_torch(redir.load(tmp_path / "net.pt2"))
    assert_alike(module(*args, **kwargs), again(*args, **kwargs))


def test_text_reads_arguments_where_it_uses_them() -> None:
    assert 'self.layer(batch["a key"])' in source(read("dict")[3])


ODD = (
    "",
    "[",
    "[]",
    "[" * 100000,
    '{"inputs": 3, "outputs": 3, "state": 3}',
    '{"inputs": {"parameters": [{}], "leaves": []}, "outputs": {"dict": 3}, "state": [1]}',
    '{"inputs": {"parameters": [], "leaves": [{"of": 9, "reach": [], "is": "x"}]}}',
    '{"inputs": {"parameters": [{"name": 3}], "leaves": []}, "outputs": {"list": ["?"]}}',
    '{"state": [["a", "b"]], "outputs": {"object": "os.system", "fields": 3}}',
)


@pytest.mark.parametrize("text", ODD)
def test_a_shell_that_says_something_odd_says_nothing(text: str) -> None:
    module, _, _, graph = read("keyword left out")
    again = redir.to_torch(replace(graph, shell=b"torch:" + text.encode()))
    torch.testing.assert_close(again(X), module(X))


@pytest.mark.parametrize("default", ["__import__('os')", "(lambda: 1)()", "1 +", "x", "[" * 500])
def test_a_default_in_a_shell_is_a_constant(default: str) -> None:
    graph = read("keyword left out")[3]
    held = json.loads(graph.shell.removeprefix(b"torch:"))
    held["inputs"]["parameters"][1]["default"] = default
    text = source(replace(graph, shell=b"torch:" + json.dumps(held).encode()))
    assert "def forward(self, x, *, mask=None, scale=2.0):" in text


@pytest.mark.parametrize("name", ["x y", "class", "torch", "self", "fixed", "", "a=print(1)"])
def test_an_argument_in_a_shell_is_a_name(name: str) -> None:
    graph = read("keyword left out")[3]
    held = json.loads(graph.shell.removeprefix(b"torch:"))
    held["inputs"]["parameters"][0]["name"] = name
    module = redir.to_torch(replace(graph, shell=b"torch:" + json.dumps(held).encode()))
    first = next(iter(inspect.signature(module.forward).parameters))
    assert first.isidentifier()
    assert first != name
    assert module(X).shape == (2, 3)


class Inner(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": nn.Linear(4, 4)})

    def forward(self, x: Any) -> Any:
        return self.attention["self"](torch.relu(x))


def test_a_part_that_is_called_self_keeps_its_name() -> None:
    module = Inner().eval()
    again = redir.to_torch(redir.from_torch(module, (X,)))
    assert again.state_dict().keys() == module.state_dict().keys()
    torch.testing.assert_close(again(X), module(X))
