"""What operators do to numbers, as far as passes build on it: one trait, one law.

The data of a node are the operands that its ``terms`` name: the result is a sum of terms, each a
product of operands, in some sense of sum and product. All other operands stay as they are:

- ``elementwise``: each number of the result is made of the numbers of the operands at its place
- ``moves_data``: each number of a result is one of the data, at a place that is fixed: what
  changes every number of the data in the same way changes the result in that way
- ``linear``: with one factor of each term replaced by a sum, the result is the sum of the results
- ``positively_homogeneous``: with one factor of each term made k times as large, for a positive k,
  so is the result
- ``keeps_zero``: it is all zero where a factor of each term is
- ``keeps_constants``: where all data hold one same number, so does the result
- ``layer``: the first operand is multiplied by the second and summed over; the third is added
- ``identity_if_same_type``: a result of the type of the first operand is the first operand
- ``exact_on_whole_numbers``: whole numbers give whole numbers, and exactly so in any order
- ``grows``: the result may be larger than the sum of the largest numbers of the data
- ``takes_sizes``: numbers of operands behind the first say the sizes of the result
- ``foldable``: every runtime computes the same, in every version, up to a last bit; whether it does
  on given numbers is a rule of ``agreement``

What moves data is linear, and what is linear is positively homogeneous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from redir.ir.builtin import is_absent, tensor_of
from redir.ops import schema
from redir.ops.bounds import least

if TYPE_CHECKING:
    from redir.ir import Node
    from redir.ir.op import Trait

_IMPLIED: dict[Trait, tuple[Trait, ...]] = {
    "moves_data": ("linear", "keeps_zero", "keeps_constants", "exact_on_whole_numbers"),
    "linear": ("positively_homogeneous",),
}
_CLAIMS: dict[Trait, str] = {
    "elementwise": """Abs Acos Acosh Add And Asin Asinh Atan Atanh BatchNormalization BitShift
        BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu Clip Cos Cosh Div Dropout Elu
        Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN
        LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or Pow PRelu Reciprocal
        Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh
        ThresholdedRelu Where Xor""",
    "moves_data": """Compress Concat DepthToSpace Dropout Expand Flatten Gather GatherElements
        GatherND Identity Pad Reshape Resize ReverseSequence ScatterND Slice SpaceToDepth Split
        Squeeze Tile Transpose Unsqueeze Upsample Where""",
    "linear": """Add Attention AveragePool BatchNormalization CenterCropPad Conv ConvTranspose
        CumSum DeformConv Div Gemm GlobalAveragePool GridSample GroupNormalization
        InstanceNormalization MatMul Mean Mul Neg Pad ReduceMean ReduceSum Resize RoiAlign
        RotaryEmbedding ScatterND Sub Sum Trilu Upsample""",
    "positively_homogeneous": """Abs GlobalLpPool GlobalMaxPool LeakyRelu LpPool Max MaxPool Min
        PRelu ReduceL1 ReduceL2 ReduceMax ReduceMin Relu RoiAlign""",
    "keeps_zero": """Abs Add And Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift
        BitwiseAnd Cast CastLike Ceil Celu CenterCropPad Conv ConvTranspose CumSum DeformConv
        DequantizeLinear Div Einsum Elu Erf Floor Gelu Gemm GlobalAveragePool GlobalLpPool
        GlobalMaxPool GridSample GroupNormalization HardSwish InstanceNormalization IsInf IsNaN
        LeakyRelu LpPool LRN MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mul Neg Pad
        PRelu ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
        Relu Resize RMSNormalization RoiAlign RotaryEmbedding Round ScatterND Selu Shrink Sign Sin
        Sinh Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Trilu Upsample""",
    "keeps_constants": """AveragePool BatchNormalization GlobalAveragePool GlobalMaxPool Max MaxPool
        Mean Min ReduceMax ReduceMean ReduceMin Resize Upsample""",
    "layer": "Conv ConvTranspose Gemm MatMul",
    "identity_if_same_type": """CenterCropPad Compress Concat DepthToSpace Expand Flatten Identity
        Reshape SpaceToDepth Split Squeeze Tile Unsqueeze Upsample""",
    "exact_on_whole_numbers": """Abs Add And ArgMax ArgMin Cast CastLike Ceil CenterCropPad Clip
        ConstantOfShape Conv ConvTranspose CumProd CumSum DeformConv DequantizeLinear Einsum Equal
        Floor Gemm GlobalMaxPool Greater GreaterOrEqual Hardmax IsInf IsNaN Less LessOrEqual MatMul
        Max MaxPool Min Mod Mul Neg Not OneHot Or Pad PRelu ReduceL1 ReduceMax ReduceMin ReduceProd
        ReduceSum ReduceSumSquare Relu RotaryEmbedding Round ScatterElements ScatterND Shape Sign
        Size Sub Sum ThresholdedRelu TopK Trilu Xor""",
    "takes_sizes": """CenterCropPad Expand OneHot Pad ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
        ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Reshape Resize Slice
        Split Squeeze Tile TopK Unsqueeze Upsample""",
    "grows": """Conv ConvTranspose CumProd CumSum DeformConv DequantizeLinear Einsum Gemm MatMul Mul
        PRelu ReduceL1 ReduceProd ReduceSum ReduceSumSquare RotaryEmbedding ScatterElements
        ScatterND""",
    "foldable": """Abs Acos Acosh Add And Asin Asinh Atan Atanh BatchNormalization BitShift
        BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Clip Concat ConstantOfShape Cos Cosh
        CumSum Div Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND
        Gemm Greater GreaterOrEqual Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log MatMul Max
        Mean Min Mod Mul Neg Not OneHot Or Pad Pow PRelu Range Reciprocal ReduceL1 ReduceL2
        ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round
        ScatterElements ScatterND Shape Sigmoid Sign Sin Sinh Size Slice Softplus Softsign Split
        Sqrt Squeeze Sub Sum Tan Tanh Tile Transpose Trilu Unsqueeze Where Xor""",
}


def _copies(node: Node) -> bool:
    """Whether a Pad has a border that it copies from within."""
    return bool(node.attrs.get("mode", "constant") != "constant")


def _pads_zeros(node: Node) -> bool:
    """Whether a Pad has a border of zeros, or one that it copies."""
    return _copies(node) or _border(node) == 0


def _border(pad: Node) -> float:
    """The number of the border of a Pad; NaN if it is not constant."""
    if len(pad.inputs) < 3 or is_absent(pad.inputs[2]):  # noqa: PLR2004 - the border is given
        return float(pad.attrs.get("value", 0.0))
    border = tensor_of(pad.inputs[2])
    return float("nan") if border is None else float(border.array.reshape(-1)[0])


def _is_inside(node: Node) -> bool:
    """Whether a Resize or Upsample reads nothing but its operand."""
    return node.attrs.get("coordinate_transformation_mode") != "tf_crop_and_resize"


def _picks(node: Node) -> bool:
    return _is_inside(node) and node.attrs.get("mode", "nearest") == "nearest"


def _interpolates(node: Node) -> bool:
    return _is_inside(node) and node.attrs.get("mode", "nearest") in {"nearest", "linear"}


def _averages(node: Node) -> bool:
    """Whether no window of an AveragePool counts a border, or may meet nothing else."""
    counted = _is_padded(node) and counts_border(node)
    return _meets_data(node) and not (counted or node.attrs.get("ceil_mode", 0))


def counts_border(pool: Node) -> bool:
    """Whether an AveragePool counts what it pads."""
    return bool(pool.attrs.get("count_include_pad", pool.op.version == 1))


def _is_padded(pool: Node) -> bool:
    how = pool.attrs.get("auto_pad", "NOTSET")
    return any(pool.attrs.get("pads", ())) or how in {"SAME_UPPER", "SAME_LOWER"}


def _meets_data(pool: Node) -> bool:
    """Whether no window of a pooling may meet its border only."""
    kernel, pads = pool.attrs["kernel_shape"], pool.attrs.get("pads", ())
    odd = pool.attrs.get("ceil_mode", 0) or any(d != 1 for d in pool.attrs.get("dilations", ()))
    outside = any(p >= k for p, k in zip(pads, (*kernel, *kernel), strict=False))
    return not (_is_padded(pool) and (odd or outside))


def _plain_max(node: Node) -> bool:
    """Whether a MaxPool gives no places."""
    return node.arity == 1


def _scatters(*reductions: str) -> Callable[[Node], bool]:
    return lambda node: node.attrs.get("reduction", "none") in reductions


def _has_whole(*names: str) -> Callable[[Node], bool]:
    """Whether the attributes ``names``, where given, are whole numbers."""
    return lambda node: all(float(node.attrs.get(name, 0)).is_integer() for name in names)


def _mode(name: str, value: str) -> Callable[[Node], bool]:
    return lambda node: bool(node.attrs.get(name, value) == value)


_WHERE: dict[tuple[Trait, str], Callable[[Node], bool]] = {
    ("moves_data", "Dropout"): lambda node: not schema.trains(node) and node.arity == 1,
    ("elementwise", "Dropout"): lambda node: not schema.trains(node) and node.arity == 1,
    ("keeps_zero", "Div"): lambda node: least(node.inputs[1]) > 0,
    ("moves_data", "Pad"): _copies,
    ("linear", "Pad"): _pads_zeros,
    ("keeps_zero", "Pad"): _pads_zeros,
    ("exact_on_whole_numbers", "Pad"): lambda node: _border(node).is_integer(),
    ("moves_data", "ScatterND"): _scatters("none"),
    ("linear", "ScatterND"): _scatters("none", "add"),
    ("keeps_zero", "Shrink"): lambda node: bool(node.attrs.get("lambd", 0.5) >= 0),
    ("linear", "Attention"): lambda node: node.arity == 1,
    ("linear", "RoiAlign"): _mode("mode", "avg"),
    ("exact_on_whole_numbers", "Gemm"): _has_whole("alpha", "beta"),
    ("keeps_constants", "AveragePool"): _averages,
    ("keeps_constants", "MaxPool"): lambda node: _plain_max(node) and _meets_data(node),
    ("positively_homogeneous", "MaxPool"): _plain_max,
    ("keeps_zero", "MaxPool"): _plain_max,
    **{("moves_data", name): _picks for name in ("Resize", "Upsample")},
    **{("keeps_constants", name): _interpolates for name in ("Resize", "Upsample")},
    **{(t, n): _is_inside for t in ("linear", "keeps_zero") for n in ("Resize", "Upsample")},
}


def _always(_: Node) -> bool:
    return True


def _never(_: Node) -> bool:
    return False


def having(claims: dict[Trait, Callable[[Node], bool]]) -> Callable[[Node, Trait], bool]:
    """Whether a node has a trait, by the conditions under which it has those of ``claims``.

    What these imply it has too.
    """
    sources: dict[Trait, list[Callable[[Node], bool]]] = {}
    for trait, holds in claims.items():
        reached = [trait]
        for one in reached:
            sources.setdefault(one, []).append(holds)
            reached += _IMPLIED.get(one, ())
    return lambda node, trait: any(holds(node) for holds in sources.get(trait, ()))


def always(*traits: Trait) -> Callable[[Node, Trait], bool]:
    """The traits that every node of an operator has."""
    return having(dict.fromkeys(traits, _always))


def claims_of(name: str) -> dict[Trait, Callable[[Node], bool]]:
    """The traits that the operator ``name`` claims, each with the condition."""
    traits = [trait for trait, names in _CLAIMS.items() if name in names.split()]
    return {trait: _WHERE.get((trait, name), _always) for trait in traits}


_NAMES = dict.fromkeys(name for names in _CLAIMS.values() for name in names.split())
RULES: dict[str, Any] = {name: having(claims_of(name)) for name in _NAMES}


def every(node: Node) -> Sequence[tuple[int, ...]]:
    """Each operand is a term."""
    return [(i,) for i in range(len(node.inputs))]


def product(node: Node) -> Sequence[tuple[int, ...]]:
    """The one term is the product of all operands."""
    return [tuple(range(len(node.inputs)))]


def terms(*places: tuple[int, ...]) -> Callable[[Node], Sequence[tuple[int, ...]]]:
    """The terms of the operands at ``places``, of each sum."""

    def given(node: Node) -> Sequence[tuple[int, ...]]:
        there = {i for i, v in enumerate(node.inputs) if not is_absent(v)}
        return [term for term in places if there.issuperset(term)]

    return given


TERMS: dict[str, Callable[[Node], Sequence[tuple[int, ...]]]] = {
    **dict.fromkeys("Add Concat Max Mean Min Sub Sum".split(), every),
    **dict.fromkeys("And BitwiseAnd Einsum Mul".split(), product),
    **dict.fromkeys("Conv ConvTranspose Gemm MatMul".split(), terms((0, 1), (2,))),
    "Attention": terms((2,), (5,)),
    "DeformConv": terms((0, 1), (3,)),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), terms((1,), (2,))),
    **dict.fromkeys(("DequantizeLinear", "ScatterND"), terms((0,), (2,))),
    "BatchNormalization": terms((0, 1), (3, 1), (2,)),
    "Where": terms((1,), (2,)),
}
