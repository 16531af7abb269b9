"""The operators: one table, in which every standard ONNX operator has its entry.

``ops.Conv(x, w, pads=(1, 1, 1, 1))`` applies one; ``ops.lookup("Conv", 11)`` is the form that it
has in an older operator set. To teach redir more of an operator, add to its entry in ``table``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from onnx import defs

from redir.errors import IllTyped, Unsupported
from redir.ir import Node, Op
from redir.ir.builtin import Absent, Const, constant, is_absent, is_operator, opaque, tensor_of
from redir.ops import contrib, schema
from redir.ops.contrib_schemas import is_added, schema_of
from redir.ops.table import ENTRIES, READ, entry

__all__ = [
    "ENTRIES",
    "OPSET",
    "READ",
    "Absent",
    "Const",
    "beyond",
    "constant",
    "entry",
    "is_absent",
    "is_operator",
    "lookup",
    "opaque",
    "tensor_of",
]

OPSET = 21  # of a graph that does not say: what runtimes have understood for a while


@cache
def lookup(name: str, opset: int, domain: str = "") -> Op | None:
    """The operator ``name`` as it is in version ``opset`` of its domain, if it is known.

    These are those of the standard, and some of onnxruntime's own. Of a standard operator set that
    is newer than the installed onnx nothing is known.
    """
    if domain == "" and opset > defs.onnx_opset_version():
        return None
    try:
        version = schema_of(name, opset, domain).since_version
    except defs.SchemaError:
        return None
    return _op(name, domain, version)


@cache
def _op(name: str, domain: str, version: int) -> Op:
    known, own = _known(name, version, domain) or entry(), is_added(name, version, domain)
    return replace(
        known,
        name=name,
        domain=domain,
        version=version,
        evaluate=schema.checked(partial(_evaluated, known.evaluate) if own else known.evaluate),
        form=_form,
        odd=schema.odd_attribute,
        table=lookup,
    )


def _known(name: str, version: int, domain: str) -> Op | None:
    """The entry of an operator, if it has one."""
    if is_added(name, version, domain):
        return contrib.ENTRIES[domain, name]
    return None if domain else ENTRIES.get(name)


def _evaluated(kernel: Callable[..., Sequence[Any]], node: Node, *arrays: Any) -> Sequence[Any]:
    """The results of a kernel of our own, which knows as much as its entry.

    Raises:
        Unsupported: the node goes beyond that.
    """
    odd = beyond(node)
    if odd is not None:
        raise Unsupported(f"{node}: redir does not know {odd} of it")
    return kernel(node, *arrays)


def _form(node: Node) -> Op:
    """The operator of ``node``, or by its schema alone where the node goes beyond its entry.

    Raises:
        IllTyped: onnx has no schema that types could be inferred by.
    """
    odd = beyond(node)
    if odd is None:
        return node.op
    if is_added(node.op.name, node.op.version, node.op.domain):
        raise IllTyped(f"{node}: redir does not know {odd} of it")
    op = opaque(node.op.name, node.op.domain, node.op.version, (), schema.checked(schema.evaluate))
    counted = node.op.multiply_adds
    return replace(op, infer=schema.infer, stated=None, table=lookup, multiply_adds=counted)


def beyond(node: Node) -> str | None:
    """What of a node redir does not know of its operator, if there is such a thing."""
    odd, known = schema.foreign(node), _known(node.op.name, node.op.version, node.op.domain)
    if odd or known is None:
        return odd
    if node.op.version > known.newest:
        return f"version {node.op.version}"
    others = sorted(node.attrs.keys() - known.attributes)
    return next((f"attribute {a!r}" for a in others if not schema.is_default(node, a)), None)


def __getattr__(name: str) -> Op:
    """Any standard operator, as ``ops.Relu``: as in operator set 21, or newer if it is."""
    op = None if name.startswith("_") else _newest(name)
    if op is None:
        raise AttributeError(f"no standard operator is called {name!r}")
    return op


@cache
def _newest(name: str) -> Op | None:
    return lookup(name, OPSET) or lookup(name, defs.onnx_opset_version())
