"""Every snippet of the documentation runs, and the README's table is what the demo prints."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redir import ops
from redir.app import demo
from redir.app.cli import main
from redir.cost.models import Latency
from redir.io import models
from redir.ir import Graph, Value
from redir.ir.tensor import TensorType
from redir.runtime import onnxruntime
from redir.statistics.sources import Auto, Drawn
from tests.helpers import const, ints
from tests.pages import DOCS, ROOT, named

DIGITS = ROOT / "redir/demo/digits.onnx"
WHOLE = {"fine-tune"}  # pages that say something about the network of the demo
TORCH = {"fine-tune", "from-torch-pruning", "pytorch", "start-pytorch"}
PAGES = [ROOT / "README.md", *DOCS]
SHARED = ROOT.parent / "shared" / "models"
LENT = {"detector.onnx": "det-yunet-n-320.onnx", "sharper.onnx": "sr-subpixel-x3-op10.onnx"}
LARGE = {"evaluate"}  # pages about models that take their time
MODULES = {"evaluate": ["found.py"]}  # that a page says its Python is in
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, kind: str) -> list[str]:
    return [text for name, text in BLOCK.findall(page.read_text(encoding="utf-8")) if name == kind]


def commands(page: Path) -> list[list[str]]:
    """The commands of a page, but for those on models that are not there."""
    lines = "".join(blocks(page, "console")).splitlines()
    calls = [shlex.split(line.removeprefix("$ ").removeprefix(".venv/bin/")) for line in lines]
    missing = LENT.keys() - lent()
    return [call for call in calls if call[0] == "redir" and not missing.intersection(call)]


def lent() -> list[str]:
    """The models beside the repository that are there, as pages call them."""
    return [name for name, model in LENT.items() if (SHARED / model).exists()]


def zipped(path: Path, count: int) -> None:
    """Write the first images of the demo as files in a zip archive."""
    with np.load(ROOT / "redir/demo/digits.npz") as bank, zipfile.ZipFile(path, "w") as archive:
        for number, image in enumerate(bank["image"][:count, 0]):
            file = io.BytesIO()
            Image.fromarray(np.uint8(255 * image)).save(file, "PNG")
            archive.writestr(f"{number}.png", file.getvalue())


@cache
def begun() -> Graph:
    """The network of the demo with only its first block, which takes a third of the time."""
    whole = models.load(str(DIGITS))
    block = next(node.outputs[0] for node in whole.nodes if node.op == ops.Add)
    weight = const(np.random.default_rng(0).normal(size=(10, 16)))
    pooled = ops.Flatten(ops.GlobalAveragePool(ops.Relu(block)), axis=1)
    return Graph(whole.inputs, {"logits": ops.Gemm(pooled, weight, transB=1)})


def encoder() -> Graph:
    """A small encoder of texts: words, an attention of two heads, and a hidden layer."""
    ids, mask = (Value(TensorType(np.dtype(np.int64), ("batch", "length"))) for _ in range(2))
    x = ops.Gather(held(64, 24), ids)
    q, k, v = (apart(ops.MatMul(x, held(24, 24))) for _ in range(3))
    scores = ops.Softmax(ops.MatMul(q, ops.Transpose(k, perm=(0, 1, 3, 2))))
    mixed = ops.Transpose(ops.MatMul(scores, v), perm=(0, 2, 1, 3))
    x = ops.Add(x, ops.MatMul(ops.Reshape(mixed, ints(0, 0, 24)), held(24, 24)))
    x = ops.Add(x, ops.MatMul(ops.Relu(ops.MatMul(x, held(24, 96))), held(96, 24)))
    kept = ops.Mul(x, ops.Unsqueeze(ops.Cast(mask, to=1), ints(2)))
    y = ops.ReduceMean(kept, ints(1), keepdims=0)
    return Graph({"input_ids": ids, "attention_mask": mask}, {"embedding": y}, opset={"": 18})


def held(*shape: int) -> Value:
    return const(np.random.default_rng(shape).normal(size=shape) / 5)


def apart(x: Value) -> Value:
    return ops.Transpose(ops.Reshape(x, ints(0, 0, 2, 12)), perm=(0, 2, 1, 3))


def write_texts(folder: Path) -> None:
    """An encoder, some texts, and some words."""
    models.save(encoder(), str(folder / "encoder.onnx"))
    ids = np.random.default_rng(0).integers(4, 64, (8, 6))
    np.savez(folder / "texts.npz", input_ids=ids, attention_mask=np.ones_like(ids))
    (folder / "ids.txt").write_text("\n".join(map(str, range(32))), encoding="utf-8")


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the snippets read."""
    page: Path = request.node.callspec.params["page"]
    network = models.load(str(DIGITS)) if page.stem in WHOLE else begun()
    models.save(network, str(tmp_path / "model.onnx"))
    shutil.copy(ROOT / "redir/demo/digits.npz", tmp_path / "images.npz")
    zipped(tmp_path / "photos.zip", 1 if page.stem in LARGE else 8)
    write_texts(tmp_path)
    for name in lent():
        shutil.copy(SHARED / LENT[name], tmp_path / name)
    for name in MODULES.get(page.stem, ()):
        (tmp_path / name).write_text("".join(blocks(page, "python")), encoding="utf-8")
    with np.load(tmp_path / "images.npz") as bank:
        np.savez(tmp_path / "inputs.npz", image=bank["image"])
    few = Drawn().batches
    monkeypatch.setattr(Auto, "choice", lambda *_: "drawn")  # synthetic inputs take their time
    monkeypatch.setattr(Latency, "_measured", lambda *_: 0.4)
    monkeypatch.setattr(Drawn, "batches", lambda _, graph, __, seed: few(graph, 8, seed))
    monkeypatch.chdir(tmp_path)
    if page.stem in TORCH:
        pytest.importorskip("torch", reason="the page is about torch")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=named)
@pytest.mark.usefixtures("folder")
def test_python_snippets_run(page: Path) -> None:
    names: dict[str, object] = {"__name__": "snippet"}
    for text in blocks(page, "python"):
        code = compile(text, str(page), "exec", dont_inherit=True)
        exec(code, names)  # noqa: S102 - our own documentation


@pytest.mark.parametrize("page", PAGES, ids=named)
@pytest.mark.usefixtures("folder")
def test_commands_run(page: Path) -> None:
    for call in commands(page):
        assert (call, main(call[1:])) == (call, 0)


def test_the_readme_shows_what_the_demo_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for times, and for ``best``, whose weights follow the processor's rounding."""
    monkeypatch.setattr(onnxruntime, "pair_ratio", lambda *_: 0.5)  # which takes its time
    assert main(["demo"]) == 0
    shown = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    printed = capsys.readouterr().out.splitlines()
    steady = [line.rpartition(" ")[0].rstrip() for line in printed if not line.startswith("best ")]
    assert [line for line in steady if not any(text.startswith(line) for text in shown)] == []
    assert any(line.startswith("best ") for line in shown)
    head, *rows = (line.split() for line in printed)
    table = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    assert tuple(table) == demo.MODELS
    assert table["exact"]["accuracy"] == table["original"]["accuracy"]
    assert table[demo.SMALLEST]["accuracy"] == table["original"]["accuracy"]
    assert float(table["best"]["accuracy"][:-1]) > 97
    assert int(table["best"]["macs"].replace(",", "")) <= 0.3 * 763_520


def test_the_demo_images_are_images_that_the_model_takes() -> None:
    with np.load(ROOT / "redir/demo/digits.npz") as bank:
        assert {name: array.shape for name, array in bank.items()} == {
            "image": (300, 1, 8, 8),
            "label": (300,),
        }


OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
COMMANDS = tuple(
    "compress plan sweep report opt stats verify groups passes demo completion".split()
)


def sections() -> dict[str, str]:
    """What the page on the command line says of each command."""
    page = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    return {text.split()[0]: text for text in re.split(r"^## redir ", page, flags=re.MULTILINE)[1:]}


def options(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return set(OPTION.findall(capsys.readouterr().out)) - {"--help"}


def test_each_command_has_its_section(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = re.findall(r"^    (\w+)\b", capsys.readouterr().out, re.MULTILINE)
    assert listed == list(sections()) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_is_documented(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert options(command, capsys) - set(OPTION.findall(sections()[command])) == set()


def test_each_documented_option_exists(capsys: pytest.CaptureFixture[str]) -> None:
    known = set().union(*(options(command, capsys) for command in COMMANDS))
    assert set(OPTION.findall("".join(sections().values()))) - known == set()
