"""An If of which one knows which branch it takes."""

from __future__ import annotations

from redir.ir import Node, Value
from redir.ops import control, tensor_of
from redir.passes.simplify.rules import Around, Found, rule


@rule("If that always takes one branch", "If")
def known_branch(node: Node, _: Around) -> Found:
    """What is in that branch."""
    condition = tensor_of(node.inputs[0])
    if condition is None or condition.array.size != 1:
        return None
    body = node.attrs["then_branch" if condition.array.item() else "else_branch"]
    held = control.captures(node)
    captured = dict(zip(held, node.inputs[len(node.inputs) - len(held) :], strict=True))
    env: dict[Value, Value] = {value: captured[name] for name, value in body.inputs.items()}
    for inner in body.nodes:
        made = inner.on(env.get(v, v) for v in inner.inputs)
        env.update(zip(inner.outputs, made.outputs, strict=True))
    return [env.get(value, value) for value in body.outputs.values()]


RULES = (known_branch,)
