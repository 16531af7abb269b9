"""What all tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, settings

from redir.errors import MissingExtra

EXTRAS = (
    "onnxruntime",
    "torch",
    "safetensors",
    "rich",
    "matplotlib",
    "PIL",
    "jinja2",
    "distributed",
)

settings.register_profile(
    "default", deadline=None, max_examples=10, derandomize=True, print_blob=True
)
settings.register_profile("nightly", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


_STATES: dict[int, Any] = {}  # of the generators of modules, when all tests were collected

gc.disable()  # what collection makes stays


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest tests come first, so that no worker waits for another in the end."""
    items.sort(key=lambda item: item.path.name != "test_docs.py")
    for item in items:
        rng = _rng_of(item)
        if rng is not None:
            _STATES.setdefault(id(rng), rng.bit_generator.state)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test draws the same from the generator of its module, whichever ran before it."""
    rng = _rng_of(item)
    if rng is not None:
        rng.bit_generator.state = _STATES[id(rng)]


def _rng_of(item: pytest.Item) -> np.random.Generator | None:
    rng = getattr(item.module, "RNG", None) if isinstance(item, pytest.Function) else None
    return rng if isinstance(rng, np.random.Generator) else None


def pytest_collection_finish() -> None:
    """Search for garbage only among what tests make: torch alone is a million objects."""
    gc.freeze()
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--bless`` takes what passes make of the golden graphs for right."""
    parser.addoption("--bless", action="store_true", help="write the golden files anew")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Skip a test that needs an extra which is not installed."""
    try:
        yield
    except MissingExtra as missing:
        if all(map(find_spec, EXTRAS)):
            raise
        pytest.skip(str(missing))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests measure is not kept for anybody else."""
    os.environ["REDIR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def unshrunk() -> Iterator[None]:
    """That there is a counterexample is enough; to look for the smallest takes longer."""
    before = settings.get_current_profile_name()
    settings.register_profile("unshrunk", settings(), phases=[Phase.generate])
    settings.load_profile("unshrunk")
    yield
    settings.load_profile(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the repository with real models and data."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the folder {folder}")
    return folder
