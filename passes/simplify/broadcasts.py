"""What is made as large as another operand, which broadcasting does anyway."""

from __future__ import annotations

from redir import ops
from redir.ir import Node, Value
from redir.passes.simplify.rules import Around, Found, rule

_BROADCASTING = 7  # the operator set from which operators of two operands broadcast untold


@rule("Expand to the other operand", "Add", "Sub", "Mul", "Div")
def expand_to_other(node: Node, _: Around) -> Found:
    """The operator broadcasts what is expanded."""
    why: str | None = None
    for place, other in ((0, node.inputs[1]), (1, node.inputs[0])):
        made = node.inputs[place].node
        if made is None or made.op.standard != "Expand":
            continue
        if node.op.version < _BROADCASTING or not _is_as_large(made, other):
            why = "it is not sure that the other operand is as large"
            continue
        inputs = (made.inputs[0], other) if place == 0 else (other, made.inputs[0])
        return node.on(inputs).outputs[0]
    return why


@rule("as many 0 or 1 as the other operand has", "Add", "Sub", "Mul", "Div")
def nothing_filled(node: Node, _: Around) -> Found:
    """The other operand, to which 0 is added, or which is multiplied by 1."""
    neutral = 0 if node.op.standard in {"Add", "Sub"} else 1
    commutes = node.op.standard in {"Add", "Mul"}
    for place, other in ((1, node.inputs[0]), (0, node.inputs[1])):
        made = node.inputs[place].node
        fits = made is not None and made.op.standard == "ConstantOfShape" and (place or commutes)
        if made is not None and fits and _is_as_large(made, other):
            value = made.attrs.get("value")
            number = 0 if value is None else value.array.item()
            return other if number == neutral else None
    return None


def _is_as_large(made: Node, other: Value) -> bool:
    """Whether what a node makes surely has the shape of the other operand."""
    target, y = made.inputs[-1].node, made.outputs[0]
    if y.type.static is not None:
        return y.type == other.type
    told = target is not None and target.op == ops.Shape and target.inputs[0] is other
    whole = target is not None and not {"start", "end"} & target.attrs.keys()
    return told and whole and (made.op.standard != "Expand" or _fits(made, other))


def _fits(expand: Node, other: Value) -> bool:
    """Whether each size of what is expanded is 1 or surely that of the other operand.

    Where it is larger than what is asked for, an Expand leaves it.
    """
    small, large = expand.inputs[0].type.shape, other.type.shape
    if small is None or large is None or len(small) > len(large):
        return False
    pairs = zip(reversed(small), reversed(large), strict=False)
    return all(a == 1 or (a is not None and a == b) for a, b in pairs)


RULES = (expand_to_other, nothing_filled)
