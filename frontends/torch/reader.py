"""Reading an exported program: its inputs, its constants, its state and its outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from redir import ops
from redir.errors import BadInput, Unsupported
from redir.frontends.torch import arguments, pytree
from redir.frontends.torch.call import Sym
from redir.frontends.torch.lowering import Lowering
from redir.frontends.torch.scopes import Scopes
from redir.frontends.torch.stated import array_of, type_of
from redir.ir import Graph, Node, Source, Value
from redir.ir.tensor import Tensor

try:
    import torch
except ImportError:  # the extra is optional
    torch = None

SHELL = b"torch:"  # what a graph's shell starts with that came from here


@dataclass(eq=False)
class Reader:
    """A program being read.

    ``parameters`` are the arguments of forward; ``state`` names the tensors that it changes, which
    are not constants then.
    """

    program: Any
    symbols: dict[str, str]
    parameters: list[dict[str, Any]]
    state: frozenset[str] = frozenset()
    held: dict[str, tuple[Any, Value]] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    fixed: list[str] = field(default_factory=list)

    @cached_property
    def lowering(self) -> Lowering:
        """What the nodes of the program have become."""
        return Lowering(Scopes(self.program), self.symbols)

    def graph(self) -> Graph:
        """The graph of the program.

        Raises:
            BadInput: it gives no tensor.
            Unsupported: it does what no graph can hold.
        """
        inputs = self._interface()
        self.lowering.run(self.program.graph_module)
        outputs, layout = self._outputs(inputs)
        shell = {"inputs": self._taken(inputs), "outputs": layout, "fixed": self.fixed, "state": []}
        if len(outputs) == len(self.fixed) and not self.changed():
            raise BadInput("the module gives no tensor")
        defaults = {}
        for name in sorted(self.state):
            before = _free(name, {**inputs, **outputs})
            after = _free(f"{name}_next", {**inputs, **outputs})
            node, inputs[before] = self.held[name]
            outputs[after] = self.lowering.read(self._mutated.get(name, node))
            defaults[before] = Tensor(array_of(self._tensor(name)))
            shell["state"].append([name, before, after])
        graph = Graph(inputs, outputs)
        newest = max((n.op.version for n in graph.walk() if n.op.domain == ""), default=0)
        opset = {"": max(newest, ops.OPSET), **dict.fromkeys(sorted(self.lowering.domains), 1)}
        held = SHELL + json.dumps(shell).encode()
        return Graph(inputs, outputs, graph.name, opset, defaults, held)

    def changed(self) -> frozenset[str]:
        """The names of the tensors that the program, now read, has written to."""
        written = {
            n for n, (node, value) in self.held.items() if self.lowering.env[node] is not value
        }
        names = written | self._mutated.keys()
        parameter = next(iter(sorted(names & self._parameters)), None)
        if parameter is not None:
            raise Unsupported(
                f"{parameter}: forward writes to this parameter, and redir follows only buffers"
            )
        return frozenset(names)

    def _specs(self, *kinds: str) -> list[Any]:
        signature = self.program.graph_signature
        return [
            s for s in (*signature.input_specs, *signature.output_specs) if s.kind.name in kinds
        ]

    @cached_property
    def _placeholders(self) -> dict[str, Any]:
        return {n.name: n for n in self.program.graph.nodes if n.op == "placeholder"}

    def _interface(self) -> dict[str, Value]:
        inputs = {}
        for spec in self._specs("USER_INPUT"):
            node = self._placeholders.get(spec.arg.name)
            if node is not None and not _is_plain(node.meta["val"]):
                type_ = type_of(node.meta["val"], self.symbols)
                inputs[node.name] = self.lowering.env[node] = Value(type_)
                self.lowering.shapes[self.lowering.env[node]] = type_.shape or ()
        self._constants()
        return inputs

    def _constants(self) -> None:
        """One constant for each tensor, which parameters that are tied share."""
        held: dict[object, list[Any]] = {}
        for spec in self._specs("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
            node = self._placeholders[spec.arg.name]
            held.setdefault(_identity(self._tensor(spec.target)), []).append((spec.target, node))
        for tied in held.values():
            first = tied[0][0]
            self.first.update((name, first) for name, _ in tied)
            nodes = [node for _, node in tied if node.users or first in self.state]
            if nodes:
                value = self._before(first, nodes)
                self.lowering.env.update(dict.fromkeys(nodes, value))
                self.held[first] = nodes[-1], value

    def _before(self, name: str, nodes: Sequence[Any]) -> Value:
        """What a tensor of the module is when forward begins: a constant unless it is state."""
        if name not in self.state:
            return self._constant(name, transposed=all(map(_only_multiplies, nodes)))
        value = Value(Tensor(array_of(self._tensor(name))).type)
        self.lowering.shapes[value] = value.type.shape or ()
        return value

    @cached_property
    def _parameters(self) -> set[str]:
        """The names of the tensors that are trained."""
        return {spec.target for spec in self._specs("PARAMETER")}

    def _tensor(self, name: str) -> Any:
        held = self.program.state_dict
        return held[name] if name in held else self.program.constants[name]

    def _constant(self, name: str, *, transposed: bool) -> Value:
        try:
            array = array_of(self._tensor(name))
        except Unsupported as error:
            raise Unsupported(f"{name}: {error}") from None
        notes = [("transposed", "1,0")] if transposed else []
        notes += [] if name in self._parameters else [("buffer", name)]
        if name in self._parameters and not self._tensor(name).requires_grad:
            notes.append(("frozen", name))
        source = Source(outputs=(name,), metadata=tuple(notes))
        held = Tensor(array.T if transposed else array)
        value = Node(ops.Const, (), {"value": held}, source=source).outputs[0]
        if transposed:
            self.lowering.transposed.add(value)
        return value

    @cached_property
    def _mutated(self) -> dict[str, Any]:
        """The new values of buffers where a functional program gives them as outputs."""
        (node,) = (n for n in self.program.graph.nodes if n.op == "output")
        specs = self.program.graph_signature.output_specs
        pairs = zip(specs, node.args[0], strict=True)
        return {self.first[s.target]: n for s, n in pairs if s.kind.name == "BUFFER_MUTATION"}

    def _outputs(self, inputs: Mapping[str, Value]) -> tuple[dict[str, Value], Any]:
        (node,) = (n for n in self.program.graph.nodes if n.op == "output")
        kinds = [s.kind.name for s in self.program.graph_signature.output_specs]
        leaves = [x for x, kind in zip(node.args[0], kinds, strict=True) if kind == "USER_OUTPUT"]
        spec = self.program.call_spec.out_spec
        outputs: dict[str, Value] = {}
        described: list[Any] = []
        for path, leaf in zip(pytree.paths(spec), leaves, strict=True):
            name = pytree.output_name(path)
            while name in outputs or name in inputs:
                name += "_out"
            if isinstance(leaf, torch.fx.Node):
                outputs[name] = self._result(leaf)
                described.append(name)
                continue
            described.append({"constant": pytree.plain(leaf)})
            if isinstance(leaf, bool | int | float):  # a file has it as a tensor
                outputs[name] = ops.constant(np.asarray(leaf))
                self.fixed.append(name)
        return outputs, pytree.layout(spec, iter(described))

    def _result(self, node: Any) -> Any:
        read = self.lowering.argument(node)
        if not isinstance(read, Sym):
            return read
        return ops.Squeeze(read.compute(), ops.constant(np.array([0])))

    def _taken(self, inputs: Mapping[str, Value]) -> dict[str, Any]:
        """The parameters of forward, and what each part of them is."""
        spec, given = self.program.call_spec.in_spec, self._specs("USER_INPUT")
        leaves = [
            {**leaf, "is": self._leaf(s.arg, inputs)}
            for leaf, s in zip(arguments.leaves(spec, self.parameters), given, strict=True)
        ]
        leaves += arguments.left_out(spec, self.parameters)
        return {"parameters": self.parameters, "leaves": leaves}

    @staticmethod
    def _leaf(arg: Any, inputs: Mapping[str, Value]) -> Any:
        if arg.name in inputs:
            return arg.name
        return {"constant": arguments.literal(getattr(arg, "value", None))}


def _is_plain(val: Any) -> bool:
    return not isinstance(val, torch.Tensor | torch.SymInt)


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """The name, or one like it that nothing has."""
    while name in taken:
        name += "_"
    return name


def _identity(tensor: Any) -> object:
    """What two tensors have in common that are the same memory seen in the same way."""
    if not tensor.numel():
        return id(tensor)
    place = tensor.data_ptr()
    return place, tuple(tensor.shape), tensor.stride(), tensor.dtype


def _only_multiplies(node: Any) -> bool:
    """Whether a weight is only read by linear layers on inputs that are no matrices."""
    return node.meta["val"].dim() == 2 and all(  # noqa: PLR2004 - a matrix
        str(user.target) == "aten.linear.default"
        and user.args[1] is node
        and user.args[0].meta["val"].dim() != 2  # noqa: PLR2004 - which a Gemm takes
        for user in node.users
    )
