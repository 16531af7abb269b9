"""Every error that redir raises on purpose: one clear line each, safe to show."""

from __future__ import annotations

import warnings
from typing import Any

__all__ = [
    "BadInput",
    "BadPipeline",
    "Broken",
    "Fault",
    "IllTyped",
    "Lost",
    "MissingExtra",
    "OutOfSteps",
    "RedirError",
    "Skipped",
    "TooLarge",
    "Unchanged",
    "Unsupported",
]

FAULTS = (AttributeError, LookupError, AssertionError, ValueError, TypeError, ArithmeticError)
"""What Python raises where a rule is wrong, or where what it is given is not well formed."""


class RedirError(Exception):
    """Something the user can mend; its message says what, where and what to do.

    Names in it that came from a file are safe to show: see ``visible``.
    """

    def __str__(self) -> str:
        """The message."""
        return visible_lines(super().__str__())

    def __reduce__(self) -> Any:
        """Pickle the message, whatever an error is made of."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[RedirError], args: tuple[object, ...], held: dict[str, object]) -> RedirError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(held)
    return error


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


class Fault(UserWarning):
    """redir's own knowledge of an operator is wrong: the node is carried through as it is."""

    @classmethod
    def tell(cls, rule: str, error: Exception) -> None:
        """Warn that a ``rule`` of redir's own fails."""
        what = f"{type(error).__name__}: {error}"
        warnings.warn(f"redir's {rule} fails with {what}; please report it", cls, stacklevel=3)


class Skipped(UserWarning):
    """Some of what was given cannot be used, and is left out; the message says how much."""


class Unchanged(UserWarning):
    """A model that was to become faster stays as it is; the message says why."""


class Broken(RedirError):
    """A pass broke one of its promises; the message carries the counterexample."""


class Lost(RedirError):
    """Work that was given to other processes did not come back."""


class MissingExtra(RedirError):
    """A package of an extra is missing; the message names the extra."""

    def __init__(self, what: str, extra: str) -> None:
        """Say that ``what`` needs the packages of ``extra``."""
        how = f"in a checkout, pip install '.[{extra}]'"
        super().__init__(f"{what} needs redir's extra {extra!r} ({how})")


def visible(text: str) -> str:
    r"""``text`` in one line, with an escape for every character that does not print.

    It is for text that a model file brought, which must not steer what displays it. Line ends,
    terminal codes, marks that turn the direction of writing, spaces without a width and halves of
    surrogate pairs become what Python writes for them, such as ``\x1b`` or ``\u202e``.
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
