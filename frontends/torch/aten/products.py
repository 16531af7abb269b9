"""Rules for products of matrices: linear layers and einsum."""

from __future__ import annotations

from collections.abc import Sequence

from redir.frontends.torch.aten.windows import MATRIX
from redir.frontends.torch.call import RULES, Call, Number, aten, given_or_absent
from redir.ir import Value


@aten("linear")
def _linear(c: Call, x: Value, weight: Value, bias: Value | None = None) -> Value:
    if weight not in c.transposed and c.rank(x) == c.rank(weight) == MATRIX:
        return c.main("Gemm", x, weight, given_or_absent(bias), transB=1)
    if weight not in c.transposed and c.rank(weight) == MATRIX:
        weight = c.transpose(weight, (1, 0))
    y = c.main("MatMul", x, weight)
    return y if bias is None else c.op("Add", y, bias)


@aten("addmm")
def _addmm(c: Call, bias: Value, x: Value, y: Value, beta: Number = 1, alpha: Number = 1) -> Value:
    factors = {"alpha": alpha, "beta": beta}
    return c.main("Gemm", x, y, bias, **{k: float(f) for k, f in factors.items() if f != 1})


@aten("baddbmm", "addmv")
def _baddbmm(
    c: Call, bias: Value, x: Value, y: Value, beta: Number = 1, alpha: Number = 1
) -> Value:
    product = c.main("MatMul", x, y)
    scaled = [
        v if f == 1 else c.op("Mul", v, c.const(f, c.dtype))
        for v, f in ((product, alpha), (bias, beta))
    ]
    return c.op("Add", *scaled) if beta else scaled[0]


@aten("einsum")
def _einsum(c: Call, equation: str, operands: Sequence[Value], *_: object) -> Value:
    written = equation.replace(" ", "")
    letters = sorted({letter for letter in written if letter.isalpha()})
    small = {letter: chr(ord("a") + i) for i, letter in enumerate(letters)}
    renamed = "".join(small.get(letter, letter) for letter in written)
    return c.main("Einsum", *operands, equation=renamed)


@aten("bilinear")
def _bilinear(c: Call, x: Value, y: Value, weight: Value, bias: Value | None = None) -> Value:
    found = c.main("Einsum", x, weight, y, equation="...i,oij,...j->...o")
    return found if bias is None else c.op("Add", found, bias)


_MATMUL = "matmul mm bmm mv dot vdot linalg_matmul".split()

RULES.update(dict.fromkeys(_MATMUL, lambda c, x, y: c.main("MatMul", *c.same(x, y))))
RULES["outer"] = RULES["ger"] = lambda c, x, y: c.main("Mul", c.unsqueeze(x, 1), y)
