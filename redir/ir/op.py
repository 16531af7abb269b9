"""What an operator is, and how it ties the axes of its operands to those of its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from redir.ir.tensor import Array, Dim, SparseTensor, Tensor, Type

if TYPE_CHECKING:
    from redir.ir.graph import Graph, Node, Value

Attr: TypeAlias = (
    "bool | int | float | str | bytes | Tensor | SparseTensor | Graph | Type | tuple[Attr, ...]"
)
Port: TypeAlias = "tuple[Value, int]"
Kept: TypeAlias = Mapping[Port, Array]
Trait: TypeAlias = Literal[
    "elementwise",
    "exact_on_whole_numbers",
    "foldable",
    "grows",
    "identity_if_same_type",
    "keeps_constants",
    "keeps_zero",
    "layer",
    "linear",
    "moves_data",
    "positively_homogeneous",
    "takes_sizes",
]


@dataclass(frozen=True)
class Size:
    """A number that may be a size: how large, and of which axis it is the size, if one knows."""

    dim: Dim = None
    port: Port | None = None


@dataclass(frozen=True)
class Link:
    """Channel ``i`` of axis ``a`` is channel ``index[i]`` of axis ``b``.

    It says that the operator treats the channels alike: exchange two of them in every linked
    operand and they are exchanged in the result. Channels of an output that no link reaches all
    hold one same constant (a Pad's border). An axis that no link of a node mentions is pinned.

    A ``summed`` link says that the operator adds up products of ``a`` and ``b``: two equal channels
    of ``a`` become one if their slices of ``b`` are added, and a channel that is zero in one of
    them may go. An axis that is added up on its own is both ``a`` and ``b``.
    ``either`` is the kind of axes that are flattened into one, or that one is broken into: of the
    links from one ``a`` only one can be followed, one that is not pinned.
    ``together`` links an axis with itself: the channels it ties are kept or removed together, as
    those at one place of each group of a convolution, whose groups must stay of one size.
    """

    a: Port
    b: Port
    index: Array
    kind: Literal["same", "summed", "either", "together"] = "same"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Op:
    """Everything redir knows of an operator: the one place to add a new one.

    ``infer(node)`` gives the output types; ``evaluate(node, *arrays)`` the output arrays;
    ``links(node)`` how axes are tied; ``narrow(node, inputs, kept)`` the node on operands of which
    only the channels ``kept`` are left; ``repeatable(node)`` whether two evaluations agree and have
    no effect; ``implied(node)`` the attributes that shapes say and that only a file writes down;
    ``form(node)`` the operator itself, or an ``opaque`` one where the node has what it does not
    understand; ``odd(node)`` the attribute that its schema does not allow, None if there is none;
    ``agreed(node, arrays, results)`` whether every runtime gives these results: see
    ``ops.agreement``; ``step(node)`` what it may turn into where a last bit tips it, None where it
    does not jump: see ``ops.steps``; ``needs(node, *arrays)`` the bytes that its outputs will take;
    ``misfit(node, inputs)`` why the node cannot run on operands of other sizes, empty if it can;
    ``wants(node, inputs, wanted)`` the numbers that it wants of each operand, by those that are
    wanted of its results: see ``ops.wants``; ``sizes(node)`` a ``Size`` for each number of its
    result, where it moves such: see ``ops.told``; ``bounded`` whether the results are finite unless
    all that it reads is infinite; ``multiply_adds(node)`` how many it makes, None of one that does
    not multiply; ``terms(node)`` the places of the operands that it adds up, each with those that
    it multiplies it by, and ``has(node, trait)`` what holds of these: see ``ops.traits``;
    ``power(node, place)`` how the result grows with an operand: see ``ops.powers``; ``body(node)``
    the graph that a node stands for, if it is a call of a local function.

    ``attributes`` are those that it understands, in any version up to ``newest``: a node that has
    another one, not at its default, or that is of a newer version, is opaque.

    ``stated`` are the types of the results, if their file's word is all that is known of them;
    ``table(name, version, domain)`` finds the operator again where it is unpickled.

    Two versions of an operator are equal: patterns match the operator, not its version. An opaque
    one is carried through as it is, and equals none of its name that is not.
    """

    name: str = field(kw_only=False)
    domain: str = field(default="", kw_only=False)
    version: int = field(default=0, kw_only=False)
    opaque: bool = False
    infer: Callable[[Node], Sequence[Type]]
    evaluate: Callable[..., Sequence[Any]]
    links: Callable[[Node], Iterable[Link]] = lambda _: ()
    narrow: Callable[[Node, tuple[Value, ...], Kept], Node] = lambda node, xs, _: node.on(xs)
    repeatable: Callable[[Node], bool] = lambda _: True
    implied: Callable[[Node], Mapping[str, Attr]] = lambda _: {}
    form: Callable[[Node], Op] = lambda node: node.op
    odd: Callable[[Node], str | None] = lambda _: ""
    agreed: Callable[[Node, Sequence[Any], Sequence[Any]], bool] = lambda *_: True
    step: Callable[[Node], Callable[..., bool] | None] = lambda _: None
    needs: Callable[..., int] = lambda *_: 0
    misfit: Callable[[Node, tuple[Value, ...]], str] = lambda *_: ""
    wants: Callable[[Node, Sequence[Value], Sequence[Any]], Sequence[Any]] = lambda *_: ()
    sizes: Callable[[Node], Array | None] = lambda _: None
    bounded: bool = False
    multiply_adds: Callable[[Node], int] | None = None
    terms: Callable[[Node], Sequence[tuple[int, ...]]] = lambda _: ((0,),)
    has: Callable[[Node, Trait], bool] = lambda *_: False
    power: Callable[[Node, int], float | None] = lambda *_: None
    body: Callable[[Node], Graph | None] = lambda _: None
    attributes: frozenset[str] = frozenset()
    newest: int = 0
    stated: tuple[Type, ...] | None = None
    table: Callable[[str, int, str], Op | None] | None = None

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Op) and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
    def _key(self) -> tuple[str, str, bool]:
        return self.name, self.domain, self.opaque

    @property
    def standard(self) -> str:
        """The name of a standard operator that redir understands; empty for any other."""
        return "" if self.domain or self.opaque else self.name

    def __call__(self, *inputs: Value, **attrs: Attr) -> Value:
        """Apply the operator; make a ``Node`` where it has several outputs."""
        from redir.ir.graph import Node  # noqa: PLC0415 - which imports this module

        return Node(self, inputs, attrs).outputs[0]

    def __reduce__(self) -> Any:
        if self.table is not None:
            return self.table, (self.name, self.version, self.domain)
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        return _op, ({f.name: held[f.name] for f in fields(self) if held[f.name] is not f.default},)

    def __str__(self) -> str:
        """The name, with the domain before it unless it is a standard one."""
        return f"{self.domain}.{self.name}" if self.domain not in {"", "redir"} else self.name

    def __repr__(self) -> str:
        return f"Op({self.name!r}, {self.domain!r}, {self.version})"


def _op(held: dict[str, Any]) -> Op:
    return Op(**held)
