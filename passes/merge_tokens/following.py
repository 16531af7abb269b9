"""How far tokens that were merged go, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from redir import ops
from redir.channels.sizes import carried
from redir.ir import Node, Port, Value
from redir.ir.tensor import is_floating
from redir.passes.merge_tokens.blocks import Block
from redir.passes.merge_tokens.ends import attend, ended
from redir.passes.merge_tokens.fused import parts_of
from redir.passes.merge_tokens.stages import Kind, Refused, Stages, Tokens
from redir.passes.merge_tokens.ties import Ties


def followed(ties: Ties, merges: Sequence[Block]) -> Stages:
    """Follow the tokens behind each merge to all that reads them."""
    stages = Stages(ties, merges)
    try:
        _follow(stages)
    except Refused as why:
        stages.obstacle = str(why)
    return stages


def _follow(stages: Stages) -> None:
    behind = {block.residual: i for i, block in enumerate(stages.merges)}
    for node in stages.graph.nodes:
        here = [p for p in _ports(node.inputs) if p in stages.along]
        if here:
            _visit(stages, node, here)
        if node in behind:
            _merge(stages, behind[node])
    if any(port in stages.along for port in _ports(stages.graph.outputs.values())):
        raise Refused("the graph gives out its tokens")
    for node in stages.graph.nodes:
        for link in carried(stages.graph, node):
            given, asked = (stages.along.get(port) for port in (link.a, link.b))
            same = given == asked or (given and asked and given.at == asked.at)
            if not same and stages.ties.even(link.a[0]) is None:
                raise Refused(f"{node} says of other tokens how many there are")


def _ports(values: Iterable[Value]) -> list[Port]:
    return [(v, axis) for v in dict.fromkeys(values) for axis in range(v.rank or 0)]


def _merge(stages: Stages, number: int) -> None:
    """Note that the tokens of a block are others from here on."""
    block = stages.merges[number]
    port, keys = (block.stream, 1), (block.keys.value, block.keys.tokens)
    before = Tokens(number - 1) if number else None
    if stages.along.get(port) != before or stages.along.get(keys) != before:
        raise Refused(f"{block.residual} adds up other tokens than those behind it")
    stages.along[port] = Tokens(number)


def _visit(stages: Stages, node: Node, here: Sequence[Port]) -> None:
    """Note what a node makes of tokens along the axes ``here`` of its operands."""
    parts = parts_of(node)
    if parts is not None:
        attend(stages, node, parts)
    for port in here:
        for result in stages.ties.forth(node, port):
            stages.along[result] = _passed(stages, node, result)
        known = port[0].type.size(port[1]) is not None
        if not stages.ties.keeps(node, port) and not (known and ended(stages, node, port)):
            raise Refused(f"{node} reads tokens by their places")


def _passed(stages: Stages, node: Node, result: Port) -> Tokens:
    """What a result holds along an axis that operands have, too."""
    operands = stages.ties.back(result)
    met = {stages.along[p].at for p in operands if p in stages.along}
    if len(met) > 1:
        raise Refused(f"{node} reads tokens that are merged and others that are merged further")
    for value, axis in operands:
        if (value, axis) not in stages.along:
            if stages.ties.even(value) is None or not _is_only_repeated(stages, node, value):
                raise Refused(f"{node} reads something else for each token")
            places = (i for i, v in enumerate(node.inputs) if v is value)
            stages.even.setdefault(node, set()).update(places)
    return Tokens(*met.pop(), kind=_kind(stages, node, operands))


def _is_only_repeated(stages: Stages, node: Node, value: Value) -> bool:
    """Whether an elementwise operator could read an operand of sizes 1 in place of this one."""
    read = [v.type.shape or () for v in node.inputs if any(v is held for held, _ in stages.along)]
    shape = value.type.shape or ()
    places = range(-len(shape), 0)
    others = [{1, *(each[a] for each in read if len(each) >= -a)} for a in places]
    fit = all(shape[a] in sizes for a, sizes in zip(places, others, strict=True))
    return node.has("elementwise") and fit


def _kind(stages: Stages, node: Node, operands: Sequence[Port]) -> Kind:
    """Whether what a node makes of tokens is weighed by their sizes as its operands are."""
    kinds = {v: stages.along[v, axis].kind for v, axis in operands if (v, axis) in stages.along}
    if set(kinds.values()) == {"plain"}:
        return "plain"

    def zero(term: Sequence[Value]) -> bool:
        held = [stages.ties.even(v) for v in term]
        return any(t is not None and not t.array.any() for t in held)

    types = [v.type.dtype for v in (node.inputs[0], node.outputs[0])]
    if node.op == ops.Cast and all(map(is_floating, types)):
        return kinds[node.inputs[0]]
    terms = [[node.inputs[i] for i in term] for term in node.op.terms(node)]
    data = {v for term in terms for v in term}
    others = [kind for v, kind in kinds.items() if v not in data and kind != "plain"]
    if not node.has("linear") or (others and not node.has("moves_data")):
        return "neither"
    counted = [sorted(kinds.get(v, "plain") for v in term) for term in terms if not zero(term)]
    once = all(k.count("weights") == 1 and "neither" not in k for k in counted)
    return "weights" if once else "neither"
