"""Lowering the nodes of a program: each by its rule, by simpler operators, or carried as it is."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redir import ops
from redir.errors import FAULTS, Fault, IllTyped, Unsupported
from redir.frontends.torch import decomposed, mutation, opaque, symbolic_sizes
from redir.frontends.torch.aten import rule_of
from redir.frontends.torch.call import Call, NotLowered, Sym
from redir.frontends.torch.scopes import Scopes, where
from redir.frontends.torch.stated import (
    agree,
    array_of,
    declared,
    dtype_of,
    is_value,
    size_of,
    type_of,
)
from redir.ir import Graph, Node, Value
from redir.ir.tensor import UNKNOWN, Shape, Tensor, TensorType
from redir.ops import torch_library

try:
    import torch
except ImportError:  # the extra is optional
    torch = None


@dataclass(eq=False)
class Lowering:
    """A program being lowered: what its nodes have become so far.

    ``symbols`` are the names that were given to open sizes; ``domains`` are those of operators
    that are carried as they are.
    """

    scopes: Scopes
    symbols: Mapping[str, str]
    env: dict[Any, Any] = field(default_factory=dict)
    numbers: dict[Any, Value] = field(default_factory=dict)
    shapes: dict[Value, Shape] = field(default_factory=dict)
    transposed: set[Value] = field(default_factory=set)
    domains: set[str] = field(default_factory=set)
    named: Counter[str] = field(default_factory=Counter)

    def run(self, owner: Any) -> Any:
        """Lower every node of a graph, and give what it returns."""
        for node in owner.graph.nodes:
            if node.op == "output":
                return node.args[0]
            if node.op == "call_function":
                self._visit(node, owner)
            elif node.op == "get_attr":
                held = getattr(owner, node.target, None)
                if isinstance(held, torch.Tensor):
                    self.env[node] = ops.Const(value=Tensor(array_of(held)))
        return ()

    def _visit(self, node: Any, owner: Any) -> None:
        target = node.target
        if isinstance(target, torch._ops.HigherOrderOperator):
            self.env[node] = self._inlined(node, owner)
        elif mutation.is_write(node):
            self._write_in_place(node)
        elif node.users and is_value(node):
            self.env[node] = self._lowered(node)

    def _inlined(self, node: Any, owner: Any) -> tuple[Any, ...]:
        """What a context such as ``no_grad`` gives: that of the graph inside it."""
        if str(node.target) == "cond":
            return self._branching(node, owner)
        before = mutation.INLINED.get(str(node.target))
        if before is None:
            raise Unsupported(f"{where(node)}: redir does not read torch's {node.target}")
        inner = getattr(owner, node.args[before].target)
        places = [n for n in inner.graph.nodes if n.op == "placeholder"]
        pairs = list(zip(places, node.args[before + 1 :], strict=True))
        around = {place: self.argument(arg) for place, arg in pairs}
        self.env.update(around)
        given = tuple(self.argument(g) for g in self.run(inner))
        for place, arg in pairs:
            if self.env[place] is not around[place]:
                self._write(node, arg, self.env[place])
        return given

    def _branching(self, node: Any, owner: Any) -> tuple[Any, ...]:
        """What ``torch.cond`` gives: an If, whose branches read what is given to both."""
        condition, *inner, operands = node.args
        given = [self.argument(a) for a in operands]
        read = {f"given_{i}": v for i, v in enumerate(given) if ops.tensor_of(v) is None}
        sized = all(isinstance(d, int) for v in read.values() for d in self.shapes.get(v, ("",)))
        condition = self.argument(condition)
        if not isinstance(condition, Value) or not sized:
            raise Unsupported(f"{where(node)}: redir reads cond on a tensor and known sizes")
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
        found = [self.argument(g) for g in self.run(inner)]
        return Graph(inputs, {f"result_{i}": v for i, v in enumerate(found)})

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

    def argument(self, arg: Any) -> Any:
        """An argument as rules take it."""
        if isinstance(arg, torch.fx.Node):
            val = arg.meta.get("val")
            if arg in self.env or isinstance(val, torch.Tensor | tuple | list):
                return self.read(arg)
            if isinstance(val, torch.SymInt | torch.SymFloat | torch.SymBool):
                return Sym(str(size_of(val, self.symbols)), lambda: self._number(arg))
            return val
        if isinstance(arg, tuple | list):
            return [self.argument(a) for a in arg]
        if isinstance(arg, torch.dtype):
            return dtype_of(arg)
        if isinstance(arg, complex):
            raise Unsupported("redir has no complex numbers")
        return arg if isinstance(arg, bool | int | float | str | None) else None

    def _call(self, node: Any, val: Any = None) -> Call:
        val = node.meta["val"] if val is None else val
        many = val if isinstance(val, tuple | list) else [val]
        results = [UNKNOWN if v is None else type_of(v, self.symbols) for v in many]
        return self._calling(node, results)

    def _calling(self, node: Any, results: Sequence[TensorType]) -> Call:
        source = self.scopes.source(node)
        return Call(where(node), source, results, self.shapes, self.transposed, self.named)

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
        except (NotLowered, IllTyped):
            found = None
        except FAULTS as error:
            if decomposed.runs(torch, node):
                Fault.tell(f"rule for {call.place}", error)
            found = None
        if found is None and not functional:
            raise call.refusal("what it changes in place is not followed")
        if found is None:
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
        return [self.argument(given.get(a.name, a.default_value)) for a in schema]

    def _checked(self, call: Call, value: Value | None, stated: TensorType) -> Value | None:
        """Hold what was inferred against what torch says, and note what only torch says."""
        if value is None or stated.shape is None:
            return value
        if not agree(value.type, stated):
            raise Unsupported(f"{call.place}: it became {value.type}, and torch says {stated}")
        if value not in self.shapes and value.type != stated:
            value = declared(value, stated)
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
        args = [self.argument(a) for a in node.args]
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
            raise Unsupported(f"{where(node)}: {why}") from None
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
        given = self.run(made)
        many = isinstance(given, tuple | list)
        return tuple(map(self.argument, given)) if many else self.argument(given)

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
