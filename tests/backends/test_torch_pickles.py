"""The module that ``to_torch`` gives is copied, saved and sent like any other."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import redir

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import nn  # noqa: E402 - torch comes first


class Pair(NamedTuple):
    """Two tensors."""

    low: Any
    high: Any


class Net(nn.Module):  # type: ignore[misc]
    """Layers in a module, in a module, that give a pair."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, width), nn.ReLU())
        self.head = nn.Linear(width, 3)

    def forward(self, x: Any) -> Pair:
        y = self.head(self.stem(x))
        return Pair(y, y * 2)


X = torch.ones(2, 4)


def written(width: int = 5) -> Any:
    return redir.to_torch(redir.from_torch(Net(width).eval(), (X,)))


def assert_alike(module: Any, again: Any) -> None:
    assert torch.equal(module(X).high, again(X).high)
    assert module.state_dict().keys() == again.state_dict().keys()


def unpickled(held: Any) -> Any:
    return pickle.loads(pickle.dumps(held))  # noqa: S301 - our own


def saved(module: Any, path: Path) -> Path:
    torch.save(module, path)
    return path


def test_a_saved_module_is_loaded_in_a_new_process(tmp_path: Path) -> None:
    module = written()
    path = saved(module, tmp_path / "net.pt")
    code = (
        "import sys, torch; m = torch.load(sys.argv[1], weights_only=False);"
        "print(float(m(torch.ones(2, 4)).high.detach().sum()), m.training)"
    )
    call = [sys.executable, "-c", code, str(path)]
    found = subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()
    assert found == [str(float(module(X).high.detach().sum())), "False"]


def test_a_saved_module_is_loaded_here(tmp_path: Path) -> None:
    module = written()
    path = saved(module, tmp_path / "net.pt")
    assert_alike(module, torch.load(path, weights_only=False))


def test_a_part_is_saved_alone(tmp_path: Path) -> None:
    module = written()
    again = torch.load(saved(module.stem, tmp_path / "stem.pt"), weights_only=False)
    assert torch.equal(module.stem(X), again(X))


def test_two_modules_of_one_name_are_both_saved() -> None:
    modules = written(5), written(6)
    for module in modules:
        assert_alike(module, unpickled(module))


def test_a_copy_has_weights_of_its_own() -> None:
    module = written()
    again = copy.deepcopy(module)
    assert_alike(module, again)
    with torch.no_grad():
        again.head.weight.zero_()
    assert module.head.weight.any()


def test_a_state_dict_goes_out_and_in() -> None:
    module, again = written(), written()
    torch.save(module.state_dict(), held := io.BytesIO())
    held.seek(0)
    again.load_state_dict(torch.load(held))
    assert_alike(module, again)


def test_what_a_module_gives_is_pickled() -> None:
    given = written()(X)
    again = unpickled(given)
    assert type(again) is type(given)
    assert torch.equal(again.high, given.high)


def test_a_class_made_from_a_written_one_is_copied() -> None:
    module = written()
    again = copy.deepcopy(type("Own", (type(module),), {})())
    again.load_state_dict(module.state_dict())
    assert_alike(module, again)
