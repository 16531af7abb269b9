"""The pages of the documentation lead to places that there are, and the contents to all of them."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.pages import DOCS, ROOT, TOP, named

PAGES = [*TOP, *DOCS]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


@cache
def prose(page: Path) -> str:
    """What a page says outside its blocks of code."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def targets(page: Path) -> list[str]:
    return LINK.findall(re.sub(r"`[^`]*`", "", prose(page)))


@cache
def anchors(page: Path) -> set[str]:
    """The headings of a page, as code hosts and the site name them."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(next(s for n in count() if (s := f"{slug}-{n}" if n else slug) not in found))
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    inner = [t.partition("#") for t in targets(page) if not urlsplit(t).scheme]
    places = [((page.parent / file).resolve() if file else page, at) for file, _, at in inner]
    assert [named(file) for file, _ in places if not file.exists()] == []
    assert [(named(file), at) for file, at in places if at and at not in anchors(file)] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_to_other_sites_are_addresses(page: Path) -> None:
    outer = [urlsplit(t) for t in targets(page) if urlsplit(t).scheme]
    assert [u.geturl() for u in outer if u.scheme != "https" or "." not in u.netloc] == []


def test_the_contents_lead_to_each_page() -> None:
    listed = {(ROOT / "docs" / target).resolve() for target in targets(ROOT / "docs/index.md")}
    assert [named(page) for page in PAGES if page not in listed] == ["README.md"]


def test_the_reference_names_modules() -> None:
    heads = re.findall(r"^## `(.*)`$", prose(ROOT / "docs/reference.md"), re.MULTILINE)
    assert [head for head in heads if find_spec(head) is None] == []
