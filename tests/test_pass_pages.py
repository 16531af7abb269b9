"""What the pages say of each pass is what its class has: promises and options."""

from __future__ import annotations

import re
from functools import cache

import pytest

from redir.pipeline import available, fields_of, promised
from tests.pages import ROOT


@cache
def sections() -> dict[str, str]:
    """The section on each pass, on one line; some passes share one."""
    found: dict[str, str] = {}
    for page in sorted((ROOT / "docs/passes").glob("*.md")):
        parts = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
        for head, _, text in (part.partition("\n") for part in parts):
            found |= dict.fromkeys(head.split(", "), " ".join(text.split()))
    return found


def test_each_pass_has_a_section() -> None:
    assert sorted(sections()) == sorted(available())


@pytest.mark.parametrize("name", sorted(available()))
def test_the_promises_are_those_of_the_pass(name: str) -> None:
    names = ", ".join(promise.name for promise in promised(available()[name]))
    assert f"*Promises:* {names}." in sections()[name]


@pytest.mark.parametrize("name", sorted(available()))
def test_each_option_is_explained(name: str) -> None:
    missing = [
        option for option in fields_of(available()[name]) if f"`{option}`" not in sections()[name]
    ]
    assert missing == []
