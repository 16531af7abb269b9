"""Reading PyTorch: what ``torch.export`` says a module computes, in redir's operators.

Layers keep their level: a batch norm is one operator, and so is attention. Nothing is decomposed,
and no ONNX file is made on the way.
"""

from __future__ import annotations

import json
import logging
import operator
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from redir import ops
from redir.errors import BadInput, IllTyped, MissingExtra, TooLarge, Unsupported
from redir.frontends.torch import (
    arguments,
    decomposed,
    mutation,
    opaque,
    pt2,
    pytree,
    symbolic_sizes,
)
from redir.frontends.torch.aten import (
    bags,
    creation,
    layers,
    layout,
    pointwise,
    recurrent,
    reductions,
    sampling,
)
from redir.frontends.torch.call import INT64, Call, NotLowered, Sym, rule_of
from redir.ir import Graph, Node, Source, Value
from redir.ir.tensor import UNKNOWN, Array, Dim, DType, Shape, Tensor, TensorType, Type, dtype_named
from redir.ops import torch_library
from redir.ops.torch_tensors import to_array

try:
    import torch
    from torch.export.pt2_archive import _package as pt2_archive
except ImportError:  # the extra is optional
    torch = None

TABLES = (
    bags,
    layers,
    layout,
    creation,
    pointwise,
    recurrent,
    sampling,
    reductions,
)  # importing them filled the table of rules
_ASSIGNED = re.compile(r"The tensor attributes? (.*) w(?:as|ere) assigned during export")
_ATTRIBUTE = re.compile(r"self\.([\w.]+)")
SHELL = b"torch:"  # what a graph's shell starts with that came from here


def from_torch(
    module: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> Graph:
    """The graph of what ``module`` computes on inputs like ``args`` and ``kwargs``.

    ``dynamic_shapes`` says which sizes are open, as ``torch.export.export`` has it; the names of
    its ``Dim`` become those of the dimensions. What a module does in evaluation is read: call
    ``eval()`` on it first. A buffer that ``forward`` changes is an input with a default, and an
    output.

    Raises:
        MissingExtra: torch is not installed.
        BadInput: torch cannot export the module.
        Unsupported: it is in training mode, or does what no graph can hold.
    """
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
    reader = _Program(program, symbols, parameters)
    graph, changed = reader.graph(), reader.changed()
    return _Program(program, symbols, parameters, changed).graph() if changed else graph


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


# Types and arrays


def _dtype(dtype: Any) -> DType:
    name = str(dtype).removeprefix("torch.")
    try:
        return dtype_named(name)
    except TypeError:
        raise Unsupported(f"redir has no element type like torch's {name}") from None


def _array(tensor: Any) -> Array:
    """The numbers of a tensor, as a view where that is possible."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise Unsupported("a parameter is sparse or quantised by torch: redir reads dense ones")
    if tensor.is_meta:
        raise Unsupported("a parameter has no numbers, for it is on torch's meta device")
    _dtype(tensor.dtype)
    return to_array(tensor)


# What a rule raises on arguments that it does not know.
_NO_FIT = (NotLowered, IllTyped, AttributeError, IndexError, KeyError, AssertionError, TypeError)
_SYMBOL = re.compile(r"\b[a-z]+\d+\b")


# Programs


@dataclass(eq=False)
class _Program:
    """A program being read: what its nodes have become so far."""

    program: Any
    symbols: dict[str, str]
    parameters: list[dict[str, Any]]
    state: frozenset[str] = frozenset()
    env: dict[Any, Any] = field(default_factory=dict)
    numbers: dict[Any, Value] = field(default_factory=dict)
    shapes: dict[Value, Shape] = field(default_factory=dict)
    transposed: set[Value] = field(default_factory=set)
    domains: set[str] = field(default_factory=set)
    named: Counter[str] = field(default_factory=Counter)
    held: dict[str, tuple[Any, Value]] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    fixed: list[str] = field(default_factory=list)

    def graph(self) -> Graph:
        inputs = self._interface()
        self._run(self.program.graph_module)
        outputs, layout = self._outputs(inputs)
        shell = {"inputs": self._taken(inputs), "outputs": layout, "fixed": self.fixed, "state": []}
        if len(outputs) == len(self.fixed) and not self.changed():
            raise BadInput("the module gives no tensor")
        defaults = {}
        for name in sorted(self.state):
            before = _free(name, {**inputs, **outputs})
            after = _free(f"{name}_next", {**inputs, **outputs})
            node, inputs[before] = self.held[name]
            outputs[after] = self.read(self._mutated.get(name, node))
            defaults[before] = Tensor(_array(self._tensor(name)))
            shell["state"].append([name, before, after])
        graph = Graph(inputs, outputs)
        newest = max((n.op.version for n in graph.walk() if n.op.domain == ""), default=0)
        opset = {"": max(newest, ops.OPSET), **dict.fromkeys(sorted(self.domains), 1)}
        held = SHELL + json.dumps(shell).encode()
        return Graph(inputs, outputs, graph.name, opset, defaults, held)

    def changed(self) -> frozenset[str]:
        """The names of the tensors that the program, now read, has written to."""
        written = {n for n, (node, value) in self.held.items() if self.env[node] is not value}
        names = written | self._mutated.keys()
        parameter = next(iter(sorted(names & self._parameters)), None)
        if parameter is not None:
            raise Unsupported(
                f"{parameter}: forward writes to this parameter, and redir follows only buffers"
            )
        return frozenset(names)

    # Inputs and constants

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
            if node is not None and not self._is_plain(node.meta["val"]):
                type_ = self._type(node.meta["val"])
                inputs[node.name] = self.env[node] = Value(type_)
                self.shapes[self.env[node]] = type_.shape or ()
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
                self.env.update(dict.fromkeys(nodes, value))
                self.held[first] = nodes[-1], value

    def _before(self, name: str, nodes: Sequence[Any]) -> Value:
        """What a tensor of the module is when forward begins: a constant unless it is state."""
        if name not in self.state:
            return self._constant(name, transposed=all(map(_only_multiplies, nodes)))
        value = Value(Tensor(_array(self._tensor(name))).type)
        self.shapes[value] = value.type.shape or ()
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
            array = _array(self._tensor(name))
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
            self.transposed.add(value)
        return value

    # Outputs

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
        read = self._argument(node)
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

    # What torch says

    def _text(self, size: Any) -> Dim:
        """A size as a number, or as text with the names of the symbols that were given."""
        if isinstance(size, int):
            return size
        return _SYMBOL.sub(lambda m: self.symbols.get(m[0], m[0]), str(size))

    def _type(self, val: Any) -> TensorType:
        """The type of a value, or of a number that is an input."""
        if not isinstance(val, torch.Tensor):
            return TensorType(INT64, ()) if isinstance(val, torch.SymInt) else UNKNOWN
        return TensorType(_dtype(val.dtype), tuple(self._text(d) for d in val.shape))

    @staticmethod
    def _is_plain(val: Any) -> bool:
        return not isinstance(val, torch.Tensor | torch.SymInt)

    # Nodes

    def _run(self, owner: Any) -> Any:
        """Lower every node of a graph, and give what it returns."""
        for node in owner.graph.nodes:
            if node.op == "output":
                return node.args[0]
            if node.op == "call_function":
                self._visit(node, owner)
            elif node.op == "get_attr":
                held = getattr(owner, node.target, None)
                if isinstance(held, torch.Tensor):
                    self.env[node] = ops.Const(value=Tensor(_array(held)))
        return ()

    def _visit(self, node: Any, owner: Any) -> None:
        target = node.target
        if isinstance(target, torch._ops.HigherOrderOperator):
            self.env[node] = self._inlined(node, owner)
        elif mutation.is_write(node):
            self._write_in_place(node)
        elif node.users and self._is_value(node):
            self.env[node] = self._lowered(node)

    @staticmethod
    def _is_value(node: Any) -> bool:
        """Whether a node gives tensors, and no size that is computed when it is needed."""
        val = node.meta.get("val")
        return isinstance(val, torch.Tensor | tuple | list)

    def _inlined(self, node: Any, owner: Any) -> tuple[Any, ...]:
        """What a context such as ``no_grad`` gives: that of the graph inside it."""
        if str(node.target) == "cond":
            return self._branching(node, owner)
        before = mutation.INLINED.get(str(node.target))
        if before is None:
            raise Unsupported(f"{self._place(node)}: redir does not read torch's {node.target}")
        inner = getattr(owner, node.args[before].target)
        places = [n for n in inner.graph.nodes if n.op == "placeholder"]
        pairs = list(zip(places, node.args[before + 1 :], strict=True))
        around = {place: self._argument(arg) for place, arg in pairs}
        self.env.update(around)
        given = tuple(self._argument(g) for g in self._run(inner))
        for place, arg in pairs:
            if self.env[place] is not around[place]:
                self._write(node, arg, self.env[place])
        return given

    def _branching(self, node: Any, owner: Any) -> tuple[Any, ...]:
        """What ``torch.cond`` gives: an If, whose branches read what is given to both."""
        condition, *inner, operands = node.args
        given = [self._argument(a) for a in operands]
        read = {f"given_{i}": v for i, v in enumerate(given) if ops.tensor_of(v) is None}
        sized = all(isinstance(d, int) for v in read.values() for d in self.shapes.get(v, ("",)))
        condition = self._argument(condition)
        if not isinstance(condition, Value) or not sized:
            raise Unsupported(f"{self._place(node)}: redir reads cond on a tensor and known sizes")
        then, other = (self._branch(getattr(owner, s.target), given, read) for s in inner)
        call = self._call(node)
        sides = {"then_branch": then, "else_branch": other}
        operands = (condition, *read.values())
        made = call.several("If", len(call.results), *operands, captures=tuple(read), **sides)
        stated = zip(made, call.results, strict=True)
        self.shapes.update({v: t.shape for v, t in stated if t.shape is not None})
        return made

    def _branch(self, inner: Any, given: Sequence[Any], read: Mapping[str, Value]) -> Graph:
        """One side of a ``cond``: constants are its own, all else is an input."""
        inputs = {name: Value(value.type) for name, value in read.items()}
        inside = {value: inputs[name] for name, value in read.items()}
        self.shapes.update({inside[v]: self.shapes[v] for v in inside})
        places = (n for n in inner.graph.nodes if n.op == "placeholder")
        for place, value in zip(places, given, strict=True):
            self.env[place] = inside.get(value, value)
        found = [self._argument(g) for g in self._run(inner)]
        return Graph(inputs, {f"result_{i}": v for i, v in enumerate(found)})

    def _place(self, node: Any) -> str:
        path = _path(node)
        return f"{node.target} at {path}" if path else f"{node.target} {node.name!r}"

    def read(self, node: Any) -> Any:
        """What a node gives; a view of what was written to since is made again."""
        if node not in self.env:
            same = self._another_name_of(node)
            self.env[node] = self._lowered(node) if same is None else self.read(same)
        return self.env[node]

    @staticmethod
    def _another_name_of(node: Any) -> Any:
        """The node that a result is the same tensor as, as what is written to in place."""
        if node.target is operator.getitem:
            return mutation.written_inside(node)
        return node.args[0] if mutation.is_write(node) else None

    def _argument(self, arg: Any) -> Any:
        """An argument as rules take it."""
        if isinstance(arg, torch.fx.Node):
            val = arg.meta.get("val")
            if arg in self.env or isinstance(val, torch.Tensor | tuple | list):
                return self.read(arg)
            if isinstance(val, torch.SymInt | torch.SymFloat | torch.SymBool):
                return Sym(str(self._text(val)), lambda: self._number(arg))
            return val
        if isinstance(arg, tuple | list):
            return [self._argument(a) for a in arg]
        if isinstance(arg, torch.dtype):
            return _dtype(arg)
        if isinstance(arg, complex):
            raise Unsupported("redir has no complex numbers")
        return arg if isinstance(arg, bool | int | float | str | None) else None

    def _call(self, node: Any, val: Any = None) -> Call:
        val = node.meta["val"] if val is None else val
        many = val if isinstance(val, tuple | list) else [val]
        results = [UNKNOWN if v is None else self._type(v) for v in many]
        return self._calling(node, results)

    def _calling(self, node: Any, results: Sequence[TensorType]) -> Call:
        place, source = self._place(node), self._source(node)
        return Call(place, source, results, self.shapes, self.transposed, self.named)

    def _lowered(self, node: Any) -> Any:
        """The values of a node, by the rule for its operator or else carried as it is."""
        if node.target is operator.getitem:
            return self.read(node.args[0])[node.args[1]]
        rule = rule_of(*decomposed.name_of(node.target))
        return self._ruled(node, rule) if rule else self._opaque(node)

    def _ruled(self, node: Any, rule: Any, *, functional: bool = True) -> Any:
        call = self._call(node)
        try:
            found = rule(call, *self._arguments(node))
        except _NO_FIT:
            if not functional:
                raise call.refusal("what it changes in place is not followed") from None
            return self._opaque(node)
        if isinstance(node.meta["val"], torch.Tensor):
            found = found[0] if isinstance(found, tuple) else found
            return self._checked(call, found, call.results[0])
        if any(u.users and found[u.args[1]] is None for u in node.users):
            return self._opaque(node)
        pairs = zip(found, call.results, strict=True)
        return tuple(self._checked(call, value, stated) for value, stated in pairs)

    def _arguments(self, node: Any) -> list[Any]:
        """All arguments in the order of the operator's schema, those that are left out too."""
        schema = node.target._schema.arguments
        given = dict(zip((a.name for a in schema), node.args, strict=False)) | dict(node.kwargs)
        return [self._argument(given.get(a.name, a.default_value)) for a in schema]

    def _checked(self, call: Call, value: Value | None, stated: TensorType) -> Value | None:
        """Hold what was inferred against what torch says, and note what only torch says."""
        if value is None or stated.shape is None:
            return value
        if not _agree(value.type, stated):
            raise Unsupported(f"{call.place}: it became {value.type}, and torch says {stated}")
        if value not in self.shapes and value.type != stated:
            value = _declared(value, stated)
        self.shapes[value] = stated.shape
        return value

    # Sizes

    def _number(self, node: Any) -> Value:
        """A number that depends on the inputs' shapes, as a vector of one."""
        if node not in self.numbers:
            self.numbers[node] = self._computed(node)
        return self.numbers[node]

    def _computed(self, node: Any) -> Value:
        held = self.env.get(node)
        if isinstance(held, Sym):
            return held.compute()
        call = self._calling(node, [])
        if isinstance(held, Value):
            return call.unsqueeze(held, 0)
        args = [self._argument(a) for a in node.args]
        name = getattr(node.target, "_opname", getattr(node.target, "__name__", ""))
        return symbolic_sizes.computed(call, name.split(".")[0], args)

    # What is written in place

    def _write_in_place(self, node: Any) -> None:
        """Give the operator's result to the tensor that it changes, and to what that is part of."""
        changed, target = node.args[0], decomposed.functional(torch, node.target)
        rule = None if target is None else rule_of(*decomposed.name_of(target))
        try:
            value = (
                self._ruled(node, rule, functional=False)
                if rule
                else self._simplified(node, target)
            )
        except NotLowered:
            why = "what it changes in place is not followed"
            raise Unsupported(f"{self._place(node)}: {why}") from None
        if value is not self.read(changed):
            self._write(node, changed, value)
        self.env[node] = value

    def _write(self, at: Any, node: Any, value: Value) -> None:
        base = mutation.viewed(node)
        for user in node.users:
            if mutation.viewed(user) is node:
                self._forget(user)
        self.env[node] = value
        if base is not None:
            call = self._call(at, base.meta["val"])
            self._write(at, base, mutation.put(call, node, self.read(base), value))
            self.env[node] = value

    def _forget(self, node: Any) -> None:
        if self.env.pop(node, None) is not None:
            for user in node.users:
                if user.target is operator.getitem or mutation.viewed(user) is node:
                    self._forget(user)

    # Operators without a rule

    def _opaque(self, node: Any) -> Any:
        """The operator by simpler ones where these all have rules, else carried as it is."""
        with suppress(NotLowered, Unsupported):
            return self._simplified(node, node.target)
        if node.meta.get("simpler"):
            raise NotLowered  # it is the whole operator that is carried
        return self._carried(node)

    def _simplified(self, node: Any, target: Any) -> Any:
        """What ``target`` gives, by the graph that torch computes it by.

        Raises:
            NotLowered: there is none, or it holds an operator without a rule.
        """
        made = decomposed.graph_of(torch, target, node)
        if made is None:
            raise NotLowered
        places = (n for n in made.graph.nodes if n.op == "placeholder")
        for place, tensor in zip(places, decomposed.tensors_of(node), strict=True):
            self.env[place] = self.read(tensor)
        for inner in made.graph.nodes:
            inner.name = f"{node.name}_{inner.name}"
            inner.meta["nn_module_stack"] = node.meta.get("nn_module_stack")
            inner.meta["simpler"] = True
        given = self._run(made)
        many = isinstance(given, tuple | list)
        return tuple(map(self._argument, given)) if many else self._argument(given)

    def _carried(self, node: Any) -> Any:
        """The operator carried as it is: attributes for what is no tensor, types as torch says."""
        call = self._call(node)
        schema = node.target._schema
        space, _, name = schema.name.rpartition("::")
        domain = torch_library.domain(space)
        self.domains.add(domain)
        given = {
            a.name: held
            for a, held in zip(schema.arguments, self._arguments(node), strict=True)
            if held is not None or not (a.has_default_value() and a.default_value is None)
        }
        operands, attrs = opaque.arguments(call, given)
        op = ops.opaque(
            f"{name}.{schema.overload_name or 'default'}",
            domain,
            1,
            call.results,
            torch_library.Runner(torch, node.target),
        )
        source = call.source
        made = Node(op, tuple(operands), attrs, arity=len(call.results), source=source).outputs
        for value, stated in zip(made, call.results, strict=True):
            if stated.shape is not None:
                self.shapes[value] = stated.shape
        return made[0] if isinstance(node.meta["val"], torch.Tensor) else made

    # Names

    @cached_property
    def _leaves(self) -> set[str]:
        """The calls of modules that hold no other and that are one operator."""
        stacks = [s for n in self._all_nodes() if (s := _stack(n))]
        holding = {key for stack in stacks for key, _, _ in stack[:-1]}
        count = Counter(stack[-1][0] for stack in stacks)
        return {key for key, times in count.items() if times == 1 and key not in holding}

    def _all_nodes(self) -> Iterator[Any]:
        """The nodes that operators come from."""
        for owner in self.program.graph_module.modules():
            for node in owner.graph.nodes if hasattr(owner, "graph") else ():
                computes = node.op == "call_function" and node.target is not operator.getitem
                if computes and self._is_value(node) and (node.users or mutation.is_write(node)):
                    yield node

    def _source(self, node: Any) -> Source:
        stack = _stack(node)
        if not stack:
            return Source(node.name, (node.name,))
        key, path, _ = stack[-1]
        name = path if key in self._leaves and path else "/".join(filter(None, (path, node.name)))
        again = key.rpartition("@")[2] if "@" in key else ""
        classes = "/".join(kind for _, _, kind in stack)
        notes = (("module", path), ("classes", classes))
        return Source(f"{name}@{again}" if again else name, (node.name,), metadata=notes)


def _agree(found: Type, stated: TensorType) -> bool:
    """Whether an inferred type is what torch says, as far as it is known."""
    if found.dtype != stated.dtype or found.shape is None or stated.shape is None:
        return found.dtype == stated.dtype
    sizes = zip(found.shape, stated.shape, strict=False)
    return len(found.shape) == len(stated.shape) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in sizes
    )


def _declared(value: Value, stated: TensorType) -> Value:
    """The same result of a node that notes the symbols, of which not all can be inferred.

    Numbers are left out: passes may change them.
    """
    node, shape = value.node, stated.shape
    if node is None or node.source is None or node.arity > 1 or shape is None:
        return value
    symbols = TensorType(stated.dtype, tuple(d if isinstance(d, str) else None for d in shape))
    return replace(node, source=replace(node.source, declared=(symbols,))).outputs[0]


def _stack(node: Any) -> list[tuple[str, str, str]]:
    """The modules around a node, outermost first: the key of the call, the path, the class."""
    held = node.meta.get("nn_module_stack") or {}
    return [
        (str(key), path.partition("@")[0], _class_name(kind))
        for key, (path, kind) in held.items()
        if not str(key).startswith("_empty")
    ]


def _class_name(kind: Any) -> str:
    return (kind if isinstance(kind, str) else kind.__qualname__).rpartition(".")[2]


def _path(node: Any) -> str:
    stack = _stack(node)
    return stack[-1][1] if stack else ""


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
