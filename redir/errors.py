"""Every error that redir raises on purpose: one clear line each."""

from __future__ import annotations

from redir.escapes import visible_lines


class RedirError(Exception):
    """Something the user can mend; its message says what, where and what to do.

    Names in it that came from a file are safe to show: see ``redir.escapes``.
    """

    def __str__(self) -> str:
        """The message."""
        return visible_lines(super().__str__())


class BadInput(RedirError):
    """A file, option or array that redir was given cannot be used."""


class BadPipeline(RedirError):
    """A pipeline names an unknown pass or option, or does not parse."""


class IllTyped(RedirError):
    """A node does not fit its operands."""


class Unsupported(RedirError):
    """Something well-formed that redir cannot do, such as run an unknown operator."""


class TooLarge(Unsupported):
    """A file asks for more memory than one of its size may; the message says for what."""


class OutOfSteps(TooLarge):
    """What a file asks for does not end in a reasonable time, with inputs of any size."""


class Broken(RedirError):
    """A pass broke one of its promises; the message carries the counterexample."""


class MissingExtra(RedirError):
    """A package of an extra is missing; the message names the extra."""

    def __init__(self, what: str, extra: str) -> None:
        """Say that ``what`` needs the packages of ``extra``."""
        how = f"in a checkout, pip install '.[{extra}]'"
        super().__init__(f"{what} needs redir's extra {extra!r} ({how})")
