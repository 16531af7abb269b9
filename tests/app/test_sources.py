"""What is said of the source of statistics that is taken."""

from __future__ import annotations

import argparse

import pytest

from redir.app import console
from redir.pipeline import Pipeline
from tests.statistics.test_written import decoder


@pytest.mark.parametrize("installed", [False, True])
def test_pytorch_is_recommended_for_a_language_model_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, installed: bool
) -> None:
    monkeypatch.setattr(console, "find_spec", lambda _: object() if installed else None)
    (pipeline,) = console.with_source(
        argparse.Namespace(), decoder(), [Pipeline.parse("factorize{macs=0.5}")]
    )
    assert "statistics=self" in str(pipeline)
    said = capsys.readouterr().err
    assert "texts that the model writes itself" in said
    assert ("with PyTorch" in said) != installed
