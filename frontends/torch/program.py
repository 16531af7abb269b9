"""Reading PyTorch: what ``torch.export`` says a module computes, in redir's operators.

Layers keep their level: a batch norm is one operator, and so is attention. Nothing is decomposed,
and no ONNX file is made on the way.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redir.errors import BadInput, MissingExtra, TooLarge, Unsupported
from redir.frontends.torch import (
    arguments,
    pt2,
    pytree,
)
from redir.frontends.torch.reader import Reader
from redir.ir import Graph
from redir.ops import torch_library

try:
    import torch
    from torch.export.pt2_archive import _package as pt2_archive
except ImportError:  # the extra is optional
    torch = None

_ASSIGNED = re.compile(r"The tensor attributes? (.*) w(?:as|ere) assigned during export")
_ATTRIBUTE = re.compile(r"self\.([\w.]+)")


def from_torch(
    module: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> Graph:
    """The graph of what ``module`` computes, as ``redir.from_torch`` has it."""
    _require()
    args, kwargs = tuple(args), dict(kwargs or {})
    with warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("always", _ASSIGNED.pattern, UserWarning)
        try:
            program = torch.export.export(
                module, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False
            )
        except Exception as error:  # whatever the module raises
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            name = type(module).__name__
            raise BadInput(f"torch.export cannot follow {name}: {reason}") from error
    _pass_on(said, program)
    named = pytree.dim_names(module, args, kwargs, dynamic_shapes)
    return _read(program, _symbols(program, named), arguments.of_module(module))


def _pass_on(said: Sequence[warnings.WarningMessage], program: Any) -> None:
    """Repeat what torch warned of while it exported a program, but for what is settled here.

    Raises:
        Unsupported: forward reads an attribute that it assigns, which torch keeps as it was.
    """
    read = {s.target for s in program.graph_signature.input_specs if s.target}
    for each in said:
        text = str(each.message)
        names = _ASSIGNED.match(text)
        odd = [n for n in _ATTRIBUTE.findall(names[1]) if n in read] if names else []
        if odd:
            raise Unsupported(
                f"forward reads {odd[0]}, which it assigns and which is no buffer: "
                f"call register_buffer({odd[0]!r}, ...) in the module"
            )
        if "._flat_weights[" not in text:  # which recurrent layers assign to themselves
            warnings.warn_explicit(text, each.category, each.filename, each.lineno)


def from_program(program: Any, symbols: Mapping[str, str] | None = None) -> Graph:
    """The graph of an exported program; ``symbols`` names the sizes that torch calls s77 and such.

    Raises:
        MissingExtra: torch is not installed.
        Unsupported: the program does what no graph can hold.
    """
    _require()
    return _read(program, dict(symbols or {}), arguments.of_program(program))


def _read(program: Any, symbols: dict[str, str], parameters: list[dict[str, Any]]) -> Graph:
    """The graph of a program; once more if it changes buffers, which are constants at first."""
    reader = Reader(program, symbols, parameters)
    graph, changed = reader.graph(), reader.changed()
    return Reader(program, symbols, parameters, changed).graph() if changed else graph


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a ``.pt2`` file, which ``torch.export.save`` wrote, without running code from it.

    Raises:
        MissingExtra: torch is not installed.
        BadInput: the file is damaged, or holds pickled objects or compiled code.
    """
    _require()
    try:
        with Path(path).open("rb") as file, _quiet():
            copy = pt2.checked(file, _find)
            # not torch.export.load, which reads older formats too, and pickles in them
            program = pt2_archive.load_pt2(copy).exported_programs["model"]
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    except (BadInput, TooLarge) as error:
        raise type(error)(f"{path}: {error}") from None
    except Exception as error:  # whatever torch raises on a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(f"{path}: torch cannot read it: {reason}") from error
    try:
        return from_program(program)
    except Unsupported as error:
        raise Unsupported(f"{path}: {error}") from None


def _find(space: str, name: str) -> object:
    """An operator that a program may hold: a function, or one that writes to its operands."""
    return torch_library.function(torch, space, name, mutable=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to what is raised: torch logs and warns of the same, with the stack."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _require() -> None:
    if torch is None:
        raise MissingExtra("reading a PyTorch model", "torch")


def _symbols(program: Any, named: Mapping[int, Mapping[int, str]]) -> dict[str, str]:
    """The name given to each symbol; ``named`` says that of each axis of an input."""
    leaves = torch.utils._pytree.tree_leaves(program.example_inputs)
    given = [s for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    nodes = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    found: dict[str, str] = {}
    for spec, leaf in zip(given, leaves, strict=False):
        for axis, name in named.get(id(leaf), {}).items():
            text = str(nodes[spec.arg.name].meta["val"].shape[axis])
            if text.isidentifier():
                found.setdefault(text, name)
    return found
