"""Text that a model file brought, made safe to show: it cannot steer what displays it."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""``text`` in one line, with an escape for every character that does not print.

    Line ends, terminal codes, marks that turn the direction of writing, spaces without a width and
    halves of surrogate pairs become what Python writes for them, such as ``\x1b`` or ``\u202e``.
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def visible_lines(text: str) -> str:
    """``text`` as ``visible`` has it, but with its line ends."""
    return "\n".join(map(visible, text.split("\n")))


def in_docstring(text: str) -> str:
    """``text`` as it stands in a docstring of Python source: in one line, and unable to end it."""
    return visible(text).replace("\\", "\\\\").replace('"', '\\"')


def _visible(sign: str) -> str:
    return sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode()
