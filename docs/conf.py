"""How Sphinx makes the site of these pages: ``make docs`` calls it in the root of the repository.

The pages are plain markdown, which any code host shows. What a site needs besides is added here:
``docs/index.md`` is the navigation, each module that ``docs/reference.md`` names is followed by its
docstrings, and ``docs/operators.md`` by a table.
"""

import re
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING

import redir
from redir import ops
from redir.backends.torch.ops import TABLE
from redir.ir import Op

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "redir"
release = redir.__version__
html_title = "redir"
root_doc = "README"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "**/.*", "build"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of docstrings need not have a page
myst_heading_anchors = 4
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_mock_imports = ["torch"]
autodoc_typehints = "signature"
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
HIDDEN = {"redir": "   :exclude-members: Graph, Pass, Pipeline\n"}  # they stand where they are made


def contents(text: str) -> str:
    """The navigation: a hidden table for each heading of the index, of the pages below it."""
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)[1:]
    tables = []
    for title, body in zip(parts[::2], parts[1::2], strict=True):
        pages = re.findall(r"^- \[.*?\]\((.*?)\.md\)", body, re.MULTILINE)
        lines = "\n".join(page[3:] if page.startswith("../") else f"docs/{page}" for page in pages)
        tables.append(f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{lines}\n```")
    return "\n\n".join(tables)


def with_docstrings(text: str) -> str:
    """The reference: behind what it says of each module, what that holds."""
    head, *parts = re.split(r"^(?=## `)", text, flags=re.MULTILINE)
    modules = (re.findall(r"`(.*)`", part)[0] for part in parts)
    shown = (
        f"{part}```{{eval-rst}}\n.. automodule:: {module}\n{HIDDEN.get(module, '')}```\n\n"
        for part, module in zip(parts, modules, strict=True)
    )
    return head + "".join(shown)


def with_operators(text: str) -> str:
    """The page on operators: a row for each that redir knows."""
    rows = (
        f"| `{name}` | {'yes' * (op.links is not Op.links)} | {'yes' * (name in TABLE)} |"
        for name, op in sorted(ops.ENTRIES.items())
    )
    head = "| operator | channels are followed | written as PyTorch |\n| --- | --- | --- |"
    return "\n".join((text, head, *rows, ""))


def add(app: "Sphinx", page: str, source: list[str]) -> None:
    """What the site has besides the page as it is."""
    if page == root_doc:
        index = Path(app.srcdir) / "docs/index.md"
        source[0] += f"\n\n{contents(index.read_text(encoding='utf-8'))}\n"
    if page == "docs/reference":
        source[0] = with_docstrings(source[0])
    if page == "docs/operators":
        source[0] = with_operators(source[0])


def front(app: "Sphinx", error: Exception | None) -> None:
    """Servers show ``index.html`` first."""
    if error is None and app.builder.name == "html":
        copyfile(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")


def setup(app: "Sphinx") -> None:
    """Sphinx calls this first."""
    app.connect("source-read", add)
    app.connect("build-finished", front)
