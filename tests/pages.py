"""The pages of the documentation."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def named(page: Path) -> str:
    """The path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


TOP = sorted(ROOT.glob("*.md"))
DOCS = sorted(page for page in ROOT.glob("docs/**/*.md") if "/." not in named(page))
