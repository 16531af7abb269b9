"""The generated examples of the documentation are what redir writes, and compute the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from redir.app.cli import main
from tests.source_files import imported

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
NAMES = sorted(path.stem for path in (EXAMPLES / "generated").glob("*.py"))
ROUNDING = 1e-5  # of the magnitude of an output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, with the networks of the documentation, but other random weights."""
    made = tmp_path_factory.mktemp("generated")
    text = (EXAMPLES / "networks.py").read_text(encoding="utf-8")
    assert text.count("manual_seed(0)") == len(NAMES)
    name = "networks_of_another_seed.py"
    (made / name).write_text(text.replace("manual_seed(0)", "manual_seed(1)"), encoding="utf-8")
    return made


NIGHT = {"gpt2"}  # a transformer, as vit is


@pytest.fixture(params=[pytest.param(n, marks=[pytest.mark.nightly] * (n in NIGHT)) for n in NAMES])
def written(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``redir compress`` writes of a network."""
    monkeypatch.syspath_prepend(folder)
    out = folder / f"{request.param}.py"
    network = f"networks_of_another_seed:{request.param}"
    assert main(["compress", network, str(out), "--quiet"]) == 0
    return out


def test_examples_are_what_redir_writes_whatever_the_weights(written: Path) -> None:
    assert written.read_text() == (EXAMPLES / "generated" / written.name).read_text()


@pytest.mark.nightly
def test_an_example_computes_what_the_network_does(written: Path, folder: Path) -> None:
    factory = getattr(imported(folder / "networks_of_another_seed.py"), written.stem)
    module, args, *_ = factory()
    example = folder / "example" / written.name
    example.parent.mkdir(exist_ok=True)
    shutil.copy(EXAMPLES / "generated" / written.name, example)
    shutil.copy(written.with_suffix(".safetensors"), example.parent)
    with torch.no_grad():
        wanted, found = module(*args), imported(example).load()(*args)
    assert float((found - wanted).abs().max() / wanted.abs().max()) < ROUNDING
