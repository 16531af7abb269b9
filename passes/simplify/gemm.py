"""A product of matrices, and what is added to it."""

from __future__ import annotations

from redir.ir import Node, Value
from redir.ops import tensor_of
from redir.passes.simplify.rules import Around, Found, rule

_AXES = 2
_BROADCASTING = 7  # the operator set from which a Gemm broadcasts untold, as an Add does


@rule("MatMul and Add", "Add")
def matmul_and_add(node: Node, around: Around) -> Found:
    """A Gemm, which runtimes make of them anyway."""
    place = next((i for i, v in enumerate(node.inputs) if _is_product(v)), None)
    if place is None:
        return None
    product, added = node.inputs[place], node.inputs[1 - place]
    if not around.alone(product):
        return "the product is read by others too"
    op, held = around.op("Gemm"), tensor_of(added)
    if op is None or around.opset < _BROADCASTING or product.type.dtype.kind != "f":
        return "a Gemm of this operator set, or of these numbers, broadcasts nothing"
    outputs = product.type.size(-1)
    if held is None or held.array.shape not in {(outputs,), (1, outputs)}:
        return "what is added is not one constant number for each output"
    assert product.node is not None
    return op(*product.node.inputs, added)


def _is_product(value: Value) -> bool:
    """Whether it is the product of a matrix that flows and a constant one."""
    node = value.node
    if node is None or node.op.standard != "MatMul":
        return False
    return all(v.rank == _AXES for v in node.inputs) and tensor_of(node.inputs[1]) is not None


RULES = (matmul_and_add,)
