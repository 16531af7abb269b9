"""PyTorch's operators by name: those that a model file may ask for, and how one is run.

A file names operators as text, and PyTorch has some that open files, print or change the process.
So a name is looked up in PyTorch's own table of schemas, never by attributes of ``torch``, and what
it finds must be a function: tensors and numbers in, tensors out, nothing written on the way.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redir.errors import Unsupported
from redir.ir import Node
from redir.ops.torch_tensors import to_array, to_tensor

DOMAIN = "aten"  # of PyTorch's own operators; a library's are in torch.LIBRARY
LIBRARIES = frozenset({"aten", "prims", "quantized_decomposed", "torchvision"})
"""The libraries whose operators a file may ask for."""
_TEXTS = frozenset(
    """activation algorithm approximate driver equation indexing interpolation mode norm ord p
    pad_mode padding padding_side reduce rounding_mode side UPLO""".split()
)  # arguments that are words of PyTorch's own, and no names of files or of code
_TRUSTING = ("_cslt", "_nested", "_sparse", "_test")  # they take sizes and indices on trust
_PLAIN = frozenset("Tensor int bool float number str".split())
_OTHER = frozenset("Device Generator Layout MemoryFormat ScalarType SymInt".split())


def domain(space: str) -> str:
    """The domain of the operators of one of PyTorch's namespaces."""
    return DOMAIN if space == DOMAIN else f"torch.{space}"


def function(torch: Any, space: str, name: str, *, mutable: bool = False) -> Any:
    """The schema of an operator that a file names, ``name`` with its overload behind a dot.

    With ``mutable`` it may also write to its operands and give plain numbers, as some do in a
    program that is not functional.

    Raises:
        Unsupported: there is no such operator, or it is no function of its operands.
    """
    where = f"PyTorch's operator {space}.{name}"
    if space not in LIBRARIES:
        raise Unsupported(f"{where}: a file may name operators of {', '.join(sorted(LIBRARIES))}")
    plain, _, overload = name.partition(".")
    schema = _schema(torch, f"{space}::{plain}", "" if overload == "default" else overload)
    if schema is None:
        raise Unsupported(f"{where}: PyTorch has none of this name and overload")
    pure = not schema.is_mutable and any("Tensor" in kinds_of(r.type) for r in schema.returns)
    if not (pure or mutable) or not _is_function(schema):
        raise Unsupported(f"{where}: it does more than compute tensors from its operands")
    return schema


def _schema(torch: Any, name: str, overload: str) -> Any:
    found = torch._C._jit_get_schemas_for_operator(name)  # noqa: SLF001 - the one table of them
    return next((s for s in found if s.overload_name == overload), None)


def _is_function(schema: Any) -> bool:
    """Whether operands and results are tensors, numbers and words of PyTorch's own."""
    texts = {a.name for a in schema.arguments if "str" in kinds_of(a.type)}
    kinds = {kind for a in schema.arguments for kind in kinds_of(a.type)}
    results = [kinds_of(r.type) for r in schema.returns]
    name = schema.name.partition("::")[2]
    plain = texts <= _TEXTS and kinds <= _PLAIN | _OTHER and not name.startswith(_TRUSTING)
    return plain and bool(results) and all(r <= _PLAIN - {"str"} | {"SymInt"} for r in results)


def kinds_of(type_: Any) -> set[str]:
    """The types that a type of a schema is made of: ``Optional[List[Tensor]]`` is of Tensor."""
    text = str(type_)
    for sign in "[],":
        text = text.replace(sign, " ")
    return set(text.split()) - {"List", "Optional", "NoneType", "Union"}


@dataclass(frozen=True)
class Runner:
    """What runs the operator ``target`` by PyTorch itself, on arrays.

    A node that has one came from a program in this process, or from a file that was checked.
    """

    torch: Any
    target: Any

    def __call__(self, node: Node, *arrays: Any) -> Sequence[Any]:
        """The results of ``node`` on arrays, None for operands that are absent."""
        tensors = [None if a is None else to_tensor(a) for a in arrays]
        given: dict[str, Any] = {k: a for k, a in node.attrs.items() if k != "operands"}
        for name, tensor in zip(node.attrs["operands"], tensors, strict=True):
            if name.endswith("[]"):
                given.setdefault(name[:-2], []).append(tensor)
            else:
                given[name] = tensor
        found = self.target(**{k: self._restored(k, a) for k, a in given.items()})
        many = found if isinstance(found, tuple | list) else [found]
        return [to_array(t) if hasattr(t, "dtype") else np.asarray(t) for t in many]

    def __reduce__(self) -> Any:
        """Pickle the operator's name: neither of the two fields can be."""
        schema = self.target._schema  # noqa: SLF001 - where torch says what it is called
        return _runner, (schema.name, schema.overload_name or "default")

    def _restored(self, name: str, held: Any) -> Any:
        """An argument as the operator takes it."""
        (kind,) = (kinds_of(a.type) for a in self.target._schema.arguments if a.name == name)  # noqa: SLF001
        if isinstance(held, str) and held.startswith("torch."):
            return getattr(self.torch, held.removeprefix("torch."))
        if "Tensor" in kind:
            return held
        many = held if isinstance(held, list) else [held]
        plain = [a.item() if hasattr(a, "item") else a for a in many]
        return plain if isinstance(held, list) else plain[0]


def _runner(name: str, overload: str) -> Runner:
    torch = importlib.import_module("torch")
    space, _, plain = name.partition("::")
    return Runner(torch, getattr(getattr(getattr(torch.ops, space), plain), overload))
