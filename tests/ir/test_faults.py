"""An entry that fails: on a node that its schema allows the fault is redir's, and is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.app import cli
from redir.errors import Fault, IllTyped
from redir.io.models import load, save
from redir.ir import Graph, Node, Op, Value
from redir.ir.tensor import TensorType

X = Value(TensorType(np.dtype(np.float32), (2, 3)))


def fails(*_: Any) -> Any:
    raise KeyError("none")


def broken(name: str, opset: int = 21) -> Op:
    """The operator with an entry that fails."""
    op = ops.lookup(name, opset)
    assert op is not None
    return replace(op, infer=fails, misfit=fails, wants=fails)


def test_an_entry_that_fails_on_a_sound_node_is_a_fault() -> None:
    with pytest.raises(Fault, match="redir's entry for Softmax fails with KeyError: 'none'"):
        Node(broken("Softmax"), (X,), {"axis": 1})


def test_an_entry_that_fails_on_a_node_that_no_schema_allows_is_none() -> None:
    with pytest.raises(IllTyped, match="not well formed"):
        Node(broken("Softmax"), (X,), {"axis": "one"})


@pytest.mark.parametrize("name", ["misfit", "wants"])
def test_the_rules_that_ask_for_inputs_are_no_exception(name: str) -> None:
    node = Node(replace(broken("Softmax"), infer=lambda _: [X.type]), (X,))
    more = ((X,),) if name == "misfit" else ((X,), (None,))
    with pytest.raises(Fault, match="please report it"):
        getattr(node, name)(*more)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of one operator, the entry of which fails from now on."""
    path, op = tmp_path / "model.onnx", broken("Softmax")
    save(Graph({"x": X}, {"y": ops.Softmax(X)}, opset={"": 21}), path)
    monkeypatch.setattr(ops, "lookup", lambda *_: op)
    return path


@pytest.mark.filterwarnings("default")
def test_the_command_line_says_so_and_goes_on(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["opt", str(model), "-p", "cse"]) == 0
    line = "redir: warning: redir's entry for Softmax 'y' fails with KeyError: 'none'; please"
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.filterwarnings("ignore::redir.errors.Fault")
def test_the_node_is_carried_through_as_it_is(model: Path) -> None:
    (node,) = load(model).nodes
    assert (node.op.name, node.op.standard) == ("Softmax", "")
