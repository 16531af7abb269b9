"""Local functions of a file: what a call of one computes, and the graph that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import helper

from redir.errors import RedirError, Unsupported
from redir.ir import Graph, Node, Value
from redir.ir.builtin import is_absent
from redir.ir.interpreter import evaluate
from redir.ir.rewriter import transform
from redir.ir.tensor import NO_DTYPE, TensorType, Type
from redir.ops import protos


@dataclass(frozen=True, eq=False)
class Calls:
    """The calls of the local functions of a model; ``read`` makes a graph of one."""

    model: onnx.ModelProto
    read: Callable[[onnx.ModelProto], Graph]
    _bodies: dict[bytes, Graph | None] = field(default_factory=dict)

    @cached_property
    def functions(self) -> dict[protos.Called, onnx.FunctionProto]:
        """The functions by their names."""
        return {(protos.domain(f.domain), f.name, f.overload): f for f in self.model.functions}

    def run(self, node: Node, *arrays: Any) -> Sequence[Any]:
        """What a call gives.

        Raises:
            Unsupported: the call cannot be read.
        """
        given = [array for array in arrays if array is not None]
        body = None
        if all(isinstance(array, np.ndarray) for array in given):
            own = self.functions[_called(node)].opset_import
            types = [TensorType(array.dtype, array.shape) for array in given]
            body = self._read(node, types, self._sets | _sets(own))
        if body is None:
            raise Unsupported(f"{node}: this call of a local function cannot be run")
        return list(evaluate(body, dict(zip(body.inputs, given, strict=True))).values())

    def body(self, node: Node) -> Graph | None:
        """The graph that a call stands for, with an input for each operand that is given.

        None where it cannot be read, or what it calls is of another operator set than the model.
        """
        return self._read(node, [v.type for v in node.inputs if not is_absent(v)], self._sets)

    def _read(self, node: Node, types: Sequence[Type], sets: dict[str, int]) -> Graph | None:
        """The graph that a call on operands of these types stands for, of these operator sets."""
        known = all(isinstance(t, TensorType) and t.dtype != NO_DTYPE for t in types)
        if node.bodies or not known or not self._is_plain(_called(node), sets):
            return None
        call = _call(node, list(map(protos.type_to, types)))
        key = call.SerializeToString(deterministic=True)
        if key not in self._bodies:
            self._bodies[key] = self._inlined(call, sets)
        return self._bodies[key]

    def _inlined(self, call: onnx.GraphProto, sets: dict[str, int]) -> Graph | None:
        """The graph of a call with all functions in it opened."""
        model = onnx.ModelProto(ir_version=self.model.ir_version, graph=call)
        model.opset_import.extend(helper.make_opsetid(*each) for each in sets.items())
        model.functions.extend(self.model.functions)
        self._complete(model.graph.node, ())
        try:
            for function in model.functions:
                self._complete(function.node, [a.name for a in function.attribute_proto])
            return transform(self.read(onnx.inliner.inline_local_functions(model)), _nameless)
        except (RedirError, RuntimeError, ValueError):
            return None

    def _complete(self, nodes: Iterable[onnx.NodeProto], told: Collection[str]) -> None:
        """Give calls the attributes that their functions have by default: the inliner does not.

        Raises:
            ValueError: it may be an attribute of the function around, which is not always
                ``told``.
        """
        for node in protos.walk(nodes):
            function = self.functions.get(protos.called_by(node), onnx.FunctionProto())
            given = {a.name: a.ref_attr_name for a in node.attribute}
            usual = {a.name: a for a in function.attribute_proto}
            if any(given.get(name) and given[name] not in told for name in usual):
                raise ValueError("an attribute may be that of the call, or the usual one")
            node.attribute.extend(a for name, a in usual.items() if name not in given)

    @cached_property
    def _sets(self) -> dict[str, int]:
        return _sets(self.model.opset_import)

    def _is_plain(self, name: protos.Called, sets: dict[str, int]) -> bool:
        """Whether a function and all that it calls are of these operator sets, none in a circle."""
        inner = self._reached[name]
        told = [_sets(self.functions[each].opset_import) for each in {name, *inner}]
        alone = all(each not in self._reached[each] for each in {name, *inner})
        return alone and all(own.items() <= sets.items() for own in told)

    @cached_property
    def _reached(self) -> dict[protos.Called, set[protos.Called]]:
        """The functions that each calls, and those that these call."""
        all_, names = self.functions.items(), self.functions.keys()
        called = {name: names & set(protos.called(f.node)) for name, f in all_}
        while (wider := {n: c.union(*(called[m] for m in c)) for n, c in called.items()}) != called:
            called = wider
        return called


def _call(node: Node, types: Sequence[onnx.TypeProto]) -> onnx.GraphProto:
    """A graph that does nothing but this call."""
    names = ["" if is_absent(v) else f"in:{i}" for i, v in enumerate(node.inputs)]
    results = [f"out:{place}" for place in range(node.arity)]
    proto = onnx.NodeProto(
        op_type=node.op.name,
        domain=node.op.domain,
        overload=node.source.overload if node.source else "",
        input=names,
        output=results,
        attribute=[protos.attr_to(k, a, _no_body) for k, a in sorted(node.attrs.items())],
    )
    return onnx.GraphProto(
        name="call",
        node=[proto],
        input=list(map(helper.make_value_info, filter(None, names), types)),
        output=[onnx.ValueInfoProto(name=name) for name in results],
    )


def _sets(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {protos.domain(each.domain): each.version for each in imports}


def _called(node: Node) -> protos.Called:
    return node.op.domain, node.op.name, node.source.overload if node.source else ""


def _nameless(node: Node, inputs: tuple[Value, ...]) -> Sequence[Value]:
    return replace(node, inputs=inputs, source=None).outputs


def _no_body(_: Graph) -> onnx.GraphProto:
    raise ValueError("a call is given no graph")
