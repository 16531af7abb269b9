"""Reading PyTorch: what a module computes, its graph computes too, here and in onnxruntime."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[torch]'")

import redir  # noqa: E402 - behind the check that torch is there
from redir import text  # noqa: E402
from redir.app.cli import main  # noqa: E402
from redir.backends.onnx import to_proto  # noqa: E402
from redir.errors import BadInput, Unsupported  # noqa: E402
from redir.frontends.torch.program import from_program, from_torch  # noqa: E402
from redir.ir import Graph  # noqa: E402
from redir.ir.interpreter import evaluate  # noqa: E402
from redir.ir.tensor import Array, TensorType  # noqa: E402
from redir.runtime.onnxruntime import installed, session  # noqa: E402
from tests.helpers import one_of_three  # noqa: E402

nn, F = torch.nn, torch.nn.functional
Dim = torch.export.Dim
torch.set_num_threads(1)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


class Fn(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def module_of(what: Any) -> Any:
    torch.manual_seed(0)
    made = what if isinstance(what, nn.Module) else Fn(what)
    for part in made.modules():  # running statistics that are not 0 and 1
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_floating_point() and name.startswith("running"):
                buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return made.eval()


def floats(*shape: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + 1))


def whole(*shape: int, low: int = -5, high: int = 6) -> Any:
    rng = torch.Generator().manual_seed(sum(shape) + 2)
    return torch.randint(low, high, shape, generator=rng)


def flags(*shape: int) -> Any:
    return whole(*shape) > 0


def feeds_of(graph: Graph, args: Sequence[Any]) -> dict[str, Array]:
    leaves = torch.utils._pytree.tree_leaves(args)
    tensors = [t.numpy() for t in leaves if isinstance(t, torch.Tensor)]
    return dict(zip(graph.inputs, tensors, strict=True))


def results_of(found: Any) -> list[Any]:
    leaves = torch.utils._pytree.tree_leaves(found)
    return [t.detach().numpy() if isinstance(t, torch.Tensor) else t for t in leaves]


def assert_close(found: Mapping[str, Any], wanted: Sequence[Any], rounding: float = 1e-5) -> None:
    assert len(found) == len(wanted)
    for (name, ours), theirs in zip(found.items(), wanted, strict=True):
        array, want = np.asarray(ours), np.asarray(theirs)
        assert (array.shape, array.dtype) == (want.shape, want.dtype), name
        magnitude = max(1.0, float(np.abs(np.nan_to_num(want)).max(initial=0)))
        np.testing.assert_allclose(array, want, rtol=0, atol=rounding * magnitude, err_msg=name)


def assert_computes(
    graph: Graph, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None
) -> None:
    """The interpreter and onnxruntime give what the module gives."""
    feeds = feeds_of(graph, (tuple(args), dict(kwargs or {})))
    wanted = [r for r in results_of(module(*args, **(kwargs or {}))) if r is not None]
    assert_close(evaluate(graph, feeds), wanted)
    if installed():
        assert_close(session(graph)(feeds), wanted)


def assert_plain(graph: Graph) -> None:
    """Every operator is a standard one."""
    assert {n.op.domain for n in graph.nodes} <= {"", "redir"}, str(graph)


def reads(what: Any, *args: Any) -> Graph:
    module = module_of(what)
    graph = from_torch(module, args)
    assert_plain(graph)
    assert_computes(graph, module, args)
    return graph


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes if n.op.domain == ""]


# Operators, each by the name of a torch function or as a function

X, Y, POSITIVE = floats(2, 3, 4), floats(2, 3, 4), floats(2, 3, 4).abs() + 0.1
UNIT = torch.tanh(X) * 0.9
INTS, COUNTS = whole(2, 3, 4), whole(2, 3, 4, low=1)
IMAGE, SIGNAL, VOLUME = floats(2, 6, 9, 8), floats(2, 6, 12), floats(1, 4, 6, 5, 7)

UNARY = """
    abs acos asin atan asinh tan sin cos sinh cosh tanh erf erfc exp exp2 expm1 ceil floor round
    trunc frac neg relu sigmoid sign sgn square isnan isinf isfinite logical_not selu celu
""".split()
ACTIVATIONS = """
    relu relu6 elu selu celu gelu silu mish hardswish hardsigmoid hardtanh leaky_relu softplus
    softsign logsigmoid hardshrink softshrink tanhshrink
""".split()
OF_POSITIVE = "log log2 log10 log1p sqrt rsqrt reciprocal acosh".split()
BINARY = """
    add sub mul div maximum minimum eq ne lt le gt ge remainder fmod floor_divide logical_and
    logical_or logical_xor
""".split()
BITWISE = "bitwise_and bitwise_or bitwise_xor".split()
REDUCTIONS = "mean sum amax amin prod logsumexp".split()


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_operand(name: str) -> None:
    x = UNIT if name in {"acos", "asin"} else X
    reads(getattr(torch, name), x)


@pytest.mark.parametrize("name", OF_POSITIVE)
def test_functions_of_positive_numbers(name: str) -> None:
    reads(getattr(torch, name), POSITIVE + (1 if name == "acosh" else 0))


def test_atanh() -> None:
    reads(torch.atanh, UNIT)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    reads(getattr(F, name), X * 4)


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_operands(name: str) -> None:
    reads(getattr(torch, name), X, POSITIVE)


@pytest.mark.parametrize("name", one_of_three([*BINARY[:-3], *BITWISE]))
def test_functions_of_whole_numbers(name: str) -> None:
    reads(getattr(torch, name), INTS, COUNTS)


@pytest.mark.parametrize("name", "add mul eq ne logical_and bitwise_and bitwise_or".split())
def test_functions_of_truth_values(name: str) -> None:
    reads(getattr(torch, name), flags(2, 3), flags(2, 3).flip(0))


@pytest.mark.parametrize("name", one_of_three(sorted({*BINARY[:-3]} - {"maximum", "minimum"})))
@pytest.mark.parametrize("scalar", [2, 2.5])
def test_functions_with_a_number(name: str, scalar: float) -> None:
    reads(lambda x, i: (getattr(torch, name)(x, scalar), getattr(torch, name)(i, scalar)), X, INTS)


@pytest.mark.parametrize("name", "add sub mul div eq lt maximum".split())
def test_mixed_element_types(name: str) -> None:
    half = X.double()
    reads(lambda x, i, d: (getattr(torch, name)(x, i), getattr(torch, name)(i, d)), X, INTS, half)


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize(("axes", "keep"), [((1,), False), ((0, -1), True), ((0, 1, 2), False)])
def test_reductions(name: str, axes: tuple[int, ...], keep: bool) -> None:  # noqa: FBT001
    def run(x: Any) -> Any:
        given = axes[0] if name == "prod" else axes
        return getattr(torch, name)(x, given, keepdim=keep)

    reads(run, X)


def _assigned(x: Any) -> Any:
    y = x.clone()
    y[:, 1] = 2.0
    y[0, :, 1:3] = x[1, :, 1:3] * 3
    y[..., ::2] = 0
    return y


def _assigned_through(x: Any) -> Any:
    y = torch.zeros(3, 2, 4)
    seen = y.transpose(0, 1)
    seen[:, 0] += x[:, 0]
    first, second = y.chunk(2, -1)
    second.copy_(x[0, :2, :2].repeat(2, 1)[:3, None].expand(3, 2, 2))
    y.view(6, 4)[0].fill_(7)
    return y, seen, first


def _added(x: Any) -> Any:
    y = x * 2
    y += x
    y.mul_(x).clamp_(min=0)
    return y


def _relu_of_a_view(x: Any) -> Any:
    flat = x.flatten(1)
    F.relu(flat, inplace=True)
    return x, flat


def _without_gradients(x: Any) -> Any:
    with torch.no_grad():
        a, b = x * 2, x.shape[0]
    return a + b


CASES: dict[str, tuple[Any, ...]] = {
    # pointwise
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), X),
    "celu alpha": (lambda x: F.celu(x, 2.0), X),
    "elu alpha": (lambda x: F.elu(x, 0.5), X),
    "threshold": (lambda x: F.threshold(x, 0.1, -2.0), X),
    "softplus beta": (lambda x: F.softplus(x * 20, beta=2.0), X),
    "prelu": (nn.PReLU(6), IMAGE),
    "prelu one": (nn.PReLU(), IMAGE),
    "prelu matrix": (nn.PReLU(3), floats(4, 3)),
    "glu": (lambda x: F.glu(x, 1), IMAGE),
    "softmax": (lambda x: F.softmax(x, 1), X),
    "softmax of whole numbers": (lambda i: F.softmax(i, -1, dtype=torch.float32), INTS),
    "log_softmax": (lambda x: F.log_softmax(x, -1), X),
    "softmin": (lambda x: F.softmin(x, -1), X),
    "add alpha": (lambda x, y: torch.add(x, y, alpha=2), X, Y),
    "sub alpha": (lambda x, y: torch.sub(x, y, alpha=0.5), X, Y),
    "rsub": (lambda x: 3 - x, X),
    "true division": (lambda i, j: i / j, INTS, COUNTS),
    "div floor": (lambda x, y: torch.div(x, y, rounding_mode="floor"), X, Y),
    "div trunc": (lambda x, i: torch.div(x, i, rounding_mode="trunc"), X, COUNTS),
    "div floor whole": (lambda i, j: torch.div(i, j, rounding_mode="floor"), INTS, COUNTS),
    "pow": (lambda x, y: (x**2, 2**x, torch.pow(y, x), x**0.5), POSITIVE, POSITIVE),
    "pow whole": (lambda i: i**2, INTS),
    "where": (lambda x, y: torch.where(x > 0, x, y), X, Y),
    "where scalar": (lambda x: torch.where(x > 0, x, 0.0), X),
    "where scalars": (lambda x: torch.where(x > 0, 1.0, x), X),
    "masked_fill": (lambda x, m: x.masked_fill(m, -1e9), X, flags(2, 3, 4)),
    "masked_fill broadcast": (lambda x, m: x.masked_fill(m, float("-inf")), X, flags(3, 1)),
    "clamp": (lambda x: (x.clamp(-1, 1), x.clamp(min=0.0), x.clamp(max=0.5)), X),
    "clamp whole": (lambda i: i.clamp(-2, 2), INTS),
    "clamp tensor": (lambda x, y: torch.clamp(x, min=y), X, Y),
    "clamp_min": (lambda x: torch.clamp_min(x, 0.3), X),
    "lerp": (lambda x, y: torch.lerp(x, y, 0.3), X, Y),
    "addcmul": (lambda x, y: torch.addcmul(x, x, y, value=2), X, Y),
    "addcdiv": (lambda x, y: torch.addcdiv(x, x, y, value=0.5), X, POSITIVE),
    "bitwise_not": (lambda i, m: (~i, ~m), INTS, flags(3)),
    "and": (lambda a, b: (a & b, a | b, a ^ b), flags(2, 3), flags(3)),
    "casts": (lambda x: (x.to(torch.int64), x.double(), x.bool(), x.half().float()), X),
    "type_as": (lambda i, x: i.type_as(x), INTS, X),
    # reductions
    "mean of all": (lambda x: (x.mean(), x.sum(), x.max(), x.min(), x.prod()), X),
    "sum of whole numbers": (lambda i, m: (i.sum(1), m.sum(), m.sum(0)), INTS, flags(2, 3)),
    "mean of whole numbers": (lambda i: i.mean(0, dtype=torch.float32), INTS),
    "max with places": (lambda x: torch.max(x, 1), X),
    "min with places": (lambda x: torch.min(x, -1, keepdim=True), X),
    "argmax": (lambda x: (x.argmax(), x.argmax(1), x.argmin(-1, keepdim=True)), X),
    "any and all": (lambda m: (m.any(), m.all(), m.any(1), m.all(-1, keepdim=True)), flags(2, 3)),
    "norm": (lambda x: (x.norm(), x.norm(dim=1), x.norm(p=1, dim=-1, keepdim=True)), X),
    "vector norm": (
        lambda x: tuple(torch.linalg.vector_norm(x, p, 1) for p in (1, 2, 3, np.inf, -np.inf)),
        X,
    ),
    "normalize": (lambda x: F.normalize(x, dim=1), X),
    "var": (lambda x: (x.var(), x.var(1), x.std(-1, unbiased=False), x.std((0, 2))), X),
    "var_mean": (lambda x: (*torch.var_mean(x, 1, keepdim=True), *torch.var_mean(x)), X),
    "cumsum": (lambda x, i: (x.cumsum(1), i.cumsum(-1), (i > 0).cumsum(0)), X, INTS),
    "topk": (lambda x: torch.topk(x, 2, 1), X),
    "topk smallest": (lambda x: torch.topk(x, 2, -1, largest=False), X),
    "sort": (lambda x: (torch.sort(x, 1), torch.sort(x, -1, descending=True)[0]), X),
    "argsort": (lambda x: x.argsort(1), X),
    "cosine_similarity": (lambda x, y: F.cosine_similarity(x, y, dim=1), X, Y),
    "pairwise products": (lambda x, y: (x.unsqueeze(1) * y.unsqueeze(0)).sum(-1), X[0], Y[1]),
    # creation
    "arange": (lambda x: torch.arange(4) + torch.arange(1, 9, 2) + x, X),
    "arange of floats": (lambda x: x + torch.arange(0.0, 1.0, 0.25), X),
    "zeros and ones": (lambda x: (torch.zeros(2, 3), torch.ones(3, dtype=torch.long), x + 1), X),
    "full": (lambda x: (torch.full((2, 2), 7.5), torch.full((), 3), torch.full_like(x, 2)), X),
    "likes": (
        lambda x: (torch.zeros_like(x), torch.ones_like(x), x.new_zeros(2), x.new_ones(3)),
        X,
    ),
    "new_full": (lambda x: x.new_full((2, 3), 4), X),
    "eye": (lambda x: torch.eye(3, 4) + x, X),
    "linspace": (lambda x: torch.linspace(0, 1, 4) + x, X),
    "a constant": (lambda x: x + torch.tensor([1.0, 2.0, 3.0, 4.0]), X),
    "triangles": (lambda x: (x.tril(), x.triu(1), torch.ones(3, 3).tril(-1)), X),
    "causal mask": (lambda x: torch.ones(4, 4, dtype=torch.bool).tril() & (x[0, :1] > 0), X),
    "one_hot": (lambda i: F.one_hot(i, 11), whole(2, 3, low=0, high=11)),
    # layout
    "view": (lambda x: (x.view(6, 4), x.view(2, -1), x.view(-1), x.reshape(4, 6)), X),
    "flatten": (lambda x: (x.flatten(), x.flatten(1), x.flatten(0, 1)), X),
    "unflatten": (lambda x: x.unflatten(-1, (2, -1)), X),
    "permute": (lambda x: (x.permute(2, 0, 1), x.transpose(0, -1), x[0].t(), x.mT), X),
    "movedim": (lambda x: (x.movedim(0, -1), x.movedim((0, 1), (1, 2)), x.swapaxes(0, 1)), X),
    "squeeze": (lambda x: (x.unsqueeze(-1), x[None].squeeze(), x[:, None].squeeze(1)), X),
    "squeeze nothing": (lambda x: x.squeeze(1), X),
    "expand": (lambda x: (x[:, :1].expand(-1, 5, -1), x[0].expand(7, 3, 4)), X),
    "expand_as": (lambda x, y: x[:, :1].expand_as(y), X, Y),
    "broadcast_to": (lambda x: torch.broadcast_to(x[0], (5, 3, 4)), X),
    "slice": (lambda x: (x[:, 1:], x[..., :-1], x[:, ::2], x[-1:], x[:, -2:-1]), X),
    "narrow": (lambda x: x.narrow(1, 1, 2), X),
    "select": (lambda x: (x[0], x[:, -1], x.select(2, 1)), X),
    "cat": (lambda x, y: (torch.cat([x, y], 1), torch.cat([x, y, x], -1)), X, Y),
    "cat of types": (lambda x, i: torch.cat([x, i]), X, INTS),
    "stack": (lambda x, y: (torch.stack([x, y]), torch.stack([x, y], -1)), X, Y),
    "split": (lambda x: (*x.split(2, 2), *x.split([1, 2], 1), *x.chunk(2, -1)), X),
    "split unevenly": (lambda x: (*x.split(2, 1), *torch.tensor_split(x, [1], 2)), X),
    "unbind": (lambda x: x.unbind(1), X),
    "repeat": (lambda x: (x.repeat(2, 1, 3), x[0, 0].repeat(2, 3), torch.tile(x, (2,))), X),
    "repeat_interleave": (lambda x: x.repeat_interleave(3, 1), X),
    "roll": (lambda x: (x.roll(1, 0), x.roll((1, -2), (1, 2)), x.roll(2)), X),
    "flip": (lambda x: x.flip(0, 2), X),
    "pad": (lambda x: (F.pad(x, (1, 2)), F.pad(x, (0, 1, 2, 0), value=3.0)), X),
    "pad negatively": (lambda x: F.pad(x, (-1, 1)), X),
    "pad otherwise": (lambda x: (F.pad(x, (1, 2), "reflect"), F.pad(x, (2, 1), "replicate")), X),
    "pad around": (lambda x: F.pad(x, (1, 2), "circular"), SIGNAL),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), floats(1, 8, 3, 2)),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), floats(1, 2, 6, 4)),
    "channel_shuffle": (lambda x: F.channel_shuffle(x, 3), IMAGE),
    "unfold": (lambda x: x.unfold(1, 2, 1), X),
    "diagonal": (lambda x: (x[0].diagonal(), x.diagonal(1, 1, 2)), X),
    "meshgrid": (lambda x: torch.meshgrid(x[0, 0], x[0, :, 0], indexing="ij"), X),
    "meshgrid xy": (lambda x: torch.meshgrid(x[0, 0], x[0, :, 0], indexing="xy"), X),
    # indices
    "embedding": (nn.Embedding(10, 4, padding_idx=0), whole(2, 3, low=0, high=10)),
    "index_select": (lambda x: x.index_select(1, torch.tensor([2, 0])), X),
    "gather": (lambda x, i: x.gather(1, i), X, whole(2, 2, 4, low=0, high=3)),
    "index": (lambda x, i: (x[i], x[:, i]), X, whole(5, low=0, high=2)),
    "index by two": (lambda x, i: x[:, i, i], X, whole(5, low=0, high=3)),
    "index by a matrix": (lambda x, i: x[i, :, i[0]], X, whole(2, 3, low=0, high=2)),
    "index broadcast": (lambda x, i: x[i[:, None], i[None]], X, whole(3, low=0, high=2)),
    "index by a mask": (lambda x, m: x[m], X, flags(2, 3)),
    "masked_select": (lambda x, m: x.masked_select(m), X, flags(2, 3, 4)),
    "nonzero": (lambda x: (x > 0).nonzero(), X),
    "scatter": (lambda x, i, y: x.scatter(1, i, y), X, whole(2, 1, 4, low=0, high=3), Y),
    "scatter a number": (lambda x, i: x.scatter(1, i, 2.0), X, whole(2, 1, 4, low=0, high=3)),
    "scatter_add": (lambda x, i, y: x.scatter_add(1, i, y), X, whole(2, 3, 4, low=0, high=3), Y),
    "index_put": (
        lambda x, i, y: x.index_put((i,), y),
        X,
        torch.tensor([1]),
        floats(1, 3, 4),
    ),
    "index_put by a mask": (lambda x, m: x.index_put((m,), torch.tensor(3.0)), X, flags(2, 3)),
    # products
    "matmul": (lambda x, y: (x @ y.mT, x[0] @ y.mT, x @ y[0, 0], x[0, 0] @ y[1, 0]), X, Y),
    "bmm": (lambda x, y: torch.bmm(x, y.mT), X, Y),
    "addmm": (lambda b, x, y: torch.addmm(b, x, y.T, beta=0.5, alpha=2), X[0, 0, :3], X[0], Y[0]),
    "baddbmm": (lambda b, x, y: torch.baddbmm(b, x, y.mT, alpha=0.5), floats(2, 3, 3), X, Y),
    "outer": (lambda x, y: torch.outer(x[0, 0], y[0, 0]), X, Y),
    "einsum": (lambda x, y: torch.einsum("B i D, B j D -> B i j", x, y), X, Y),
    "einsum trace": (lambda x, y: torch.einsum("bij,bij", x, y), X, Y),
    "linear": (nn.Linear(4, 5), X[0]),
    "linear without a bias": (nn.Linear(4, 5, bias=False), X[0]),
    "linear of a volume": (nn.Linear(4, 5), X),
    "linear of a vector": (nn.Linear(4, 5, bias=False), X[0, 0]),
    "bilinear": (nn.Bilinear(4, 4, 3), X[0], Y[0]),
    # convolutions
    "conv1d": (nn.Conv1d(6, 4, 3, padding=1), SIGNAL),
    "conv2d": (nn.Conv2d(6, 4, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2)), IMAGE),
    "conv2d depthwise": (nn.Conv2d(6, 12, 3, groups=6, bias=False), IMAGE),
    "conv2d same": (nn.Conv2d(6, 4, (4, 3), padding="same"), IMAGE),
    "conv2d valid": (nn.Conv2d(6, 4, 3, padding="valid"), IMAGE),
    "conv2d of an example": (nn.Conv2d(6, 4, 3), IMAGE[0]),
    "conv2d reflecting": (nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), IMAGE),
    "conv3d": (nn.Conv3d(4, 6, 3, stride=(1, 2, 1), groups=2), VOLUME),
    "conv_transpose1d": (nn.ConvTranspose1d(6, 4, 3, stride=2), SIGNAL),
    "conv_transpose2d": (
        nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
        IMAGE,
    ),
    "conv_transpose2d dilated": (nn.ConvTranspose2d(6, 4, 3, dilation=2, bias=False), IMAGE),
    "weight_norm": (nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 4, 3), dim=2), SIGNAL),
    # pools
    "max_pool1d": (nn.MaxPool1d(3, 2, 1), SIGNAL),
    "max_pool2d": (nn.MaxPool2d(3, 2, 1), IMAGE),
    "max_pool2d ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), IMAGE),
    "max_pool2d ceil and pad": (nn.MaxPool2d(2, 2, 1, ceil_mode=True), IMAGE),
    "max_pool2d dilated": (nn.MaxPool2d(2, 1, dilation=2), IMAGE),
    "max_pool2d of an example": (nn.MaxPool2d(2), IMAGE[0]),
    "max_pool3d": (nn.MaxPool3d(2, 1), VOLUME),
    "avg_pool1d": (nn.AvgPool1d(3, 2, 1), SIGNAL),
    "avg_pool2d": (nn.AvgPool2d(3, 2, 1), IMAGE),
    "avg_pool2d without the border": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    "avg_pool2d ceil": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), IMAGE),
    "avg_pool2d divisor": (nn.AvgPool2d(3, 2, 1, divisor_override=5), IMAGE),
    "avg_pool3d": (nn.AvgPool3d(2, 1), VOLUME),
    "adaptive_avg_pool1d": (nn.AdaptiveAvgPool1d(4), SIGNAL),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d(1), IMAGE),
    "adaptive_avg_pool2d even": (nn.AdaptiveAvgPool2d((3, 4)), IMAGE),
    "adaptive_avg_pool2d uneven": (nn.AdaptiveAvgPool2d((4, 5)), IMAGE),
    "adaptive_avg_pool2d open": (nn.AdaptiveAvgPool2d((None, 1)), IMAGE),
    "adaptive_avg_pool2d of an example": (nn.AdaptiveAvgPool2d(1), IMAGE[0]),
    "adaptive_avg_pool3d": (nn.AdaptiveAvgPool3d((1, 1, 1)), VOLUME),
    "adaptive_max_pool2d": (nn.AdaptiveMaxPool2d((3, 2)), IMAGE),
    # norms
    "batch_norm1d": (nn.BatchNorm1d(6), floats(5, 6)),
    "batch_norm1d of signals": (nn.BatchNorm1d(6), SIGNAL),
    "batch_norm2d": (nn.BatchNorm2d(6), IMAGE),
    "batch_norm2d plain": (nn.BatchNorm2d(6, affine=False), IMAGE),
    "batch_norm3d": (nn.BatchNorm3d(4), VOLUME),
    "instance_norm": (nn.InstanceNorm2d(6, affine=True), IMAGE),
    "instance_norm plain": (nn.InstanceNorm1d(6), SIGNAL),
    "instance_norm with statistics": (nn.InstanceNorm2d(6, track_running_stats=True), IMAGE),
    "layer_norm": (nn.LayerNorm(4), X),
    "layer_norm of two axes": (nn.LayerNorm((3, 4), bias=False), X),
    "layer_norm plain": (nn.LayerNorm(4, elementwise_affine=False), X),
    "group_norm": (nn.GroupNorm(3, 6), IMAGE),
    "group_norm plain": (nn.GroupNorm(2, 6, affine=False), SIGNAL),
    "rms_norm": (nn.RMSNorm(4), X),
    "rms_norm plain": (nn.RMSNorm((3, 4), eps=1e-6, elementwise_affine=False), X),
    "local_response_norm": (nn.LocalResponseNorm(3), IMAGE),
    "batch_norm by the statistics of the batch": (
        nn.BatchNorm2d(6, track_running_stats=False),
        IMAGE,
    ),
    "standardised weights": (
        lambda x, w: F.conv2d(
            x, F.batch_norm(w.view(1, 4, -1), None, None, training=True, momentum=0.0).view_as(w)
        ),
        IMAGE,
        floats(4, 6, 3, 3),
    ),
    "dropout": (nn.Sequential(nn.Dropout(0.3), nn.Dropout2d(0.5), nn.AlphaDropout(0.1)), IMAGE),
    # resizing
    "nearest": (nn.Upsample(scale_factor=2), IMAGE),
    "nearest to a size": (nn.Upsample(size=(12, 17)), IMAGE),
    "nearest by a broken scale": (nn.Upsample(scale_factor=1.5), IMAGE),
    "nearest-exact": (nn.Upsample(size=(12, 5), mode="nearest-exact"), IMAGE),
    "nearest of signals": (nn.Upsample(scale_factor=3), SIGNAL),
    "bilinear resizing": (nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    "bilinear to a size": (nn.Upsample(size=(13, 5), mode="bilinear"), IMAGE),
    "bilinear to one": (nn.Upsample(size=(1, 1), mode="bilinear"), IMAGE),
    "bilinear by corners": (nn.Upsample(size=(18, 16), mode="bilinear", align_corners=True), IMAGE),
    "bicubic": (nn.Upsample(size=(13, 11), mode="bicubic"), IMAGE),
    "linear resizing": (nn.Upsample(scale_factor=2, mode="linear"), SIGNAL),
    "trilinear": (nn.Upsample(scale_factor=2, mode="trilinear"), VOLUME),
    # views of which a part is written
    "assignment": (_assigned, X),
    "assignment through views": (_assigned_through, X),
    "adding in place": (_added, X),
    "relu in place of a view": (lambda x: _relu_of_a_view(x * 1), X),
    "a context without gradients": (_without_gradients, X),
}


@pytest.mark.parametrize("name", CASES)
def test_operators(name: str) -> None:
    what, *args = CASES[name]
    graph = reads(what, *args)
    assert text.parse(str(graph)).outputs.keys() == graph.outputs.keys()


# Programs without rules for all of it


def test_scaled_dot_product_attention() -> None:
    q, k, v = floats(2, 4, 5, 8), floats(2, 4, 7, 8), floats(2, 4, 7, 6)
    attend = F.scaled_dot_product_attention
    for mask in (None, flags(5, 7), floats(2, 1, 5, 7), flags(2, 1, 1, 7), floats(4, 5, 7)):
        graph = reads(lambda q, k, v, m=mask: attend(q, k, v, m), q, k, v)
        assert "Attention" in names(graph)
    reads(lambda q, k, v: attend(q, k, v, is_causal=True, scale=0.3), q, k, v)
    reads(lambda q, k, v: attend(q, k, v, enable_gqa=True), floats(2, 8, 5, 8), k, v)
    reads(attend, q[0], k[0], v[0])


def test_attention_of_a_query_that_sees_nothing() -> None:
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[0, 0, 2] = False
    x = floats(2, 4, 5, 8)
    reads(lambda q: F.scaled_dot_product_attention(q, q, q, mask), x)


@pytest.mark.parametrize(
    "layer",
    [
        nn.MultiheadAttention(8, 2, batch_first=True),
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True),
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    ],
    ids=["attention", "a layer", "norms last"],
)
def test_attention_layers(layer: Any) -> None:
    x = floats(2, 5, 8)
    args = (x, x, x) if isinstance(layer, nn.MultiheadAttention) else (x,)
    reads(layer, *args)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(4, 6),
        nn.LSTM(4, 6, 2, bidirectional=True, batch_first=True),
        nn.LSTM(4, 6, bias=False),
        nn.GRU(4, 6, 2, dropout=0.5),
        nn.GRU(4, 6, bidirectional=True, batch_first=True),
        nn.RNN(4, 6),
        nn.RNN(4, 6, nonlinearity="relu", bidirectional=True),
    ],
    ids=str,
)
def test_recurrent_layers(layer: Any) -> None:
    reads(layer, floats(2, 5, 4))


def test_a_recurrent_layer_from_given_states() -> None:
    reads(nn.LSTM(4, 6, 2), floats(2, 5, 4), (floats(2, 5, 6), floats(2, 5, 6) * 2))


def test_layers_keep_their_level() -> None:
    layers = nn.Sequential(
        nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4),
        nn.Hardswish(),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.Dropout(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(4),
        nn.Linear(4, 2),
    )
    wanted = """Conv BatchNormalization HardSwish GroupNormalization Gelu Dropout GlobalAveragePool
        Reshape LayerNormalization Gemm"""
    assert names(reads(layers, IMAGE)) == wanted.split()


def test_a_linear_layer_on_a_volume_multiplies_by_the_transpose() -> None:
    layer = module_of(nn.Linear(4, 5))
    graph = from_torch(layer, (X,))
    (weight,) = (n for n in graph.nodes if n.source and n.source.outputs == ("weight",))
    assert dict(weight.source.metadata) == {"transposed": "1,0"} if weight.source else False
    np.testing.assert_array_equal(weight.attrs["value"].array, layer.weight.detach().numpy().T)


# Names


class Block(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Any) -> Any:
        y = self.relu(self.conv(x))
        return self.relu(y + x)


def test_nodes_keep_the_path_and_the_classes_of_their_modules() -> None:
    graph = reads(nn.Sequential(Block(), Block()), floats(1, 3, 5, 5))
    found = {n.name: dict(n.source.metadata) for n in graph.nodes if n.source and n.op.domain == ""}
    assert found["0.conv"] == {"module": "0.conv", "classes": "Sequential/Block/Conv2d"}
    assert found["1/add_1"] == {"module": "1", "classes": "Sequential/Block"}
    assert {"0.relu", "0.relu@1", "1.relu", "1.relu@1"} <= found.keys()
    assert found["0.relu@1"]["module"] == "0.relu"


def test_parameters_keep_their_names() -> None:
    proto = to_proto(reads(nn.Sequential(Block(), nn.BatchNorm2d(3)), floats(1, 3, 5, 5)))
    wanted = {"0.conv.weight", "0.conv.bias", "1.weight", "1.bias"}
    assert {t.name for t in proto.graph.initializer} == wanted | {
        "1.running_mean",
        "1.running_var",
    }


class Tied(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Any) -> Any:
        return self.head(self.embed(ids))


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_tied_weights_are_one_constant(shape: tuple[int, ...]) -> None:
    graph = reads(Tied(), whole(*shape, low=0, high=10))
    big = [n for n in graph.nodes if n.op.name == "Const" and n.attrs["value"].array.size == 40]
    assert [n.name for n in big] == ["embed.weight"]


def test_later_training_leaves_the_graph_alone() -> None:
    layer = module_of(nn.Linear(4, 5))
    graph = from_torch(layer, (X[0],))
    before = evaluate(graph, feeds_of(graph, [X[0]]))["output"].copy()
    layer.weight.data.zero_()
    np.testing.assert_array_equal(evaluate(graph, feeds_of(graph, [X[0]]))["output"], before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_parameters_of_other_element_types(dtype: str) -> None:
    layer = module_of(nn.Linear(4, 5)).to(getattr(torch, dtype))
    graph = from_torch(layer, (X[0].to(getattr(torch, dtype)),))
    (weight,) = (n for n in graph.nodes if n.name == "weight")
    assert str(weight.outputs[0].type) == f"{dtype}[5, 4]"
    held = weight.attrs["value"].array.astype(np.float64)
    np.testing.assert_array_equal(held, layer.weight.detach().double().numpy())


# Inputs and outputs


class Nested(torch.nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: Any, pair: Any, scale: float = 2.0, *, named: Any) -> Any:
        first, second = pair
        total = x * scale + first + named["bias"]
        return {"sum": total, "parts": [first - second, (total, None)], "count": 3}


def test_nested_inputs_and_outputs() -> None:
    module, kwargs = Nested().eval(), {"named": {"bias": floats(4)}}
    args = (X, (Y, X), 3.0)
    graph = from_torch(module, args, kwargs)
    assert list(graph.inputs) == ["x", "pair_0", "pair_1", "named_bias"]
    assert list(graph.outputs) == ["sum", "parts_0", "parts_1_0", "count"]
    wanted = results_of(module(*args, **kwargs))
    found = session(graph)(feeds_of(graph, (args, kwargs)))
    assert_close(found, [np.asarray(w) for w in wanted if w is not None])


def test_the_shell_says_how_inputs_and_outputs_are_nested() -> None:
    graph = from_torch(Nested().eval(), (X, (Y, X), 3.0), {"named": {"bias": floats(4)}})
    held = json.loads(graph.shell.removeprefix(b"torch:"))
    assert [p["name"] for p in held["inputs"]["parameters"]] == ["x", "pair", "scale", "named"]
    assert held["inputs"]["parameters"][2] == {
        "name": "scale",
        "kind": "POSITIONAL_OR_KEYWORD",
        "default": "2.0",
    }
    assert held["inputs"]["leaves"] == [
        {"of": 0, "reach": [], "is": "x"},
        {"of": 1, "reach": [{"item": 0}], "is": "pair_0"},
        {"of": 1, "reach": [{"item": 1}], "is": "pair_1"},
        {"of": 2, "reach": [], "is": {"constant": "3.0"}},
        {"of": 3, "reach": [{"item": "bias"}], "is": "named_bias"},
    ]
    parts = {"list": ["parts_0", {"tuple": ["parts_1_0", {"constant": None}]}]}
    whole_ = [["sum", "sum"], ["parts", parts], ["count", {"constant": 3}]]
    assert held["outputs"] == {"dict": whole_}


def test_an_input_that_comes_out_again() -> None:
    graph = from_torch(module_of(lambda x: {"args_0": x + 1, "same": x}), (X,))
    assert list(graph.outputs) == ["args_0_out", "same"]
    assert_computes(graph, Fn(lambda x: (x + 1, x)), (X,))


def test_one_output_has_a_plain_name() -> None:
    assert list(from_torch(module_of(torch.relu), (X,)).outputs) == ["output"]
    pair = from_torch(module_of(lambda x: (x + 1, x - 1)), (X,))
    assert list(pair.outputs) == ["output_0", "output_1"]


# Open sizes


def dynamic(what: Any, *args: Any, bigger: Sequence[Any], axes: Any) -> Graph:
    """The graph with open sizes, which computes the same on two sizes."""
    module = module_of(what)
    graph = from_torch(module, args, dynamic_shapes=axes)
    assert_plain(graph)
    assert_computes(graph, module, args)
    assert_computes(graph, module, bigger)
    return graph


BATCH, SOME, LONG = Dim("batch"), Dim("batch", min=4, max=64), Dim("long", min=2, max=100)
ANY_ARGS = [
    ("flatten", lambda x: x.flatten(1)),
    ("view", lambda x: x.view(x.shape[0], -1)),
    ("view a product", lambda x: x.view(x.shape[0] * 3, 4)),
    ("view heads", lambda x: x.view(x.shape[0], x.shape[1], 2, 2).transpose(1, 2)),
    ("merge", lambda x: x.reshape(-1, x.shape[-1])),
    ("expand", lambda x: x[:1].expand(x.shape[0], -1, -1)),
    ("zeros", lambda x: (torch.zeros(x.shape[0], 2) + x[:, 0, :2], x.new_ones(x.shape[0] // 2))),
    ("full", lambda x: torch.full((x.shape[0], 4), 2.5)),
    ("new_zeros", lambda x: x.new_zeros(x.shape) + x),
    ("arange", lambda x: torch.arange(x.shape[0])[:, None, None] * x),
    ("mask", lambda x: x.sum(-1) * torch.ones(x.shape[0], 3).tril()),
    ("slices", lambda x: (x[1:], x[:-1], x[: x.shape[0] - 2])),
    ("cat", lambda x: torch.cat([x, x[:1]])),
    ("repeat", lambda x: x[:1].repeat(x.shape[0], 2, 1)),
    ("scaled by a size", lambda x: x / x.shape[0] ** 0.5 + x.shape[0]),
    ("mean", lambda x: (x - x.mean((1, 2), keepdim=True)).sum(0)),
    ("pad", lambda x: F.pad(x, (0, 0, 0, 0, 0, x.shape[0]))),
    ("like", lambda x: torch.zeros_like(x) + torch.full_like(x, 2)),
    ("split", lambda x: x.chunk(2, -1)),
    ("roll", lambda x: x.roll(1, 0)),
    ("stack", lambda x: torch.stack([x, x], 1)),
    ("index", lambda x: x[torch.arange(x.shape[0]), 0]),
    ("topk", lambda x: x.topk(2, 0)),
    ("assignment", lambda x: _assigned(x)[:, 0]),
    ("attention", lambda x: F.scaled_dot_product_attention(x, x, x)),
]


@pytest.mark.parametrize("what", [w for _, w in ANY_ARGS], ids=[n for n, _ in ANY_ARGS])
def test_a_size_that_is_open(what: Any) -> None:
    graph = dynamic(what, floats(4, 3, 4), bigger=[floats(7, 3, 4)], axes=(({0: SOME},),))
    assert str(graph.inputs["args_0"].type) == "float32[batch, 3, 4]"


def test_two_sizes_that_are_open() -> None:
    layer = nn.Sequential(
        nn.Embedding(20, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    )
    axes = {"input": {0: BATCH, 1: LONG}}
    ids, more = whole(3, 5, low=0, high=20), whole(2, 9, low=0, high=20)
    graph = dynamic(layer, ids, bigger=[more], axes=axes)
    assert str(graph.inputs["input"].type) == "int64[batch, long]"
    (written,) = to_proto(graph).graph.output
    dims = [d.dim_param or d.dim_value for d in written.type.tensor_type.shape.dim]
    assert dims == ["batch", "long", 8]


def test_a_size_without_a_name_has_that_of_torch() -> None:
    graph = from_torch(nn.ReLU(), (X,), dynamic_shapes=({0: Dim.DYNAMIC},))
    (shape,) = (v.type.shape for v in graph.inputs.values() if isinstance(v.type, TensorType))
    assert shape is not None
    assert isinstance(shape[0], str)
    assert shape[1:] == (3, 4)


def test_no_literal_freezes_a_batch() -> None:
    layers = nn.Sequential(nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(4 * 7 * 6, 3))
    graph = dynamic(layers, IMAGE, bigger=[floats(5, 6, 9, 8)], axes=({0: BATCH},))
    assert [str(v.type) for v in graph.outputs.values()] == ["float32[batch, 3]"]
    assert "Shape" not in names(graph)


# What is refused or carried


def test_an_operator_without_a_rule_is_carried() -> None:
    module = module_of(lambda x: torch.atan2(x, x * 2) + 1)
    graph = from_torch(module, (X,))
    (node,) = (n for n in graph.nodes if n.op.domain == "aten")
    assert str(node.op) == "aten.atan2.default"
    assert node.attrs == {"operands": ("self", "other")}
    assert str(node.outputs[0].type) == "float32[2, 3, 4]"
    assert_close(evaluate(graph, feeds_of(graph, [X])), results_of(module(X)))


@pytest.mark.parametrize("what", [
    (nn.EmbeddingBag(6, 4), whole(2, 3, low=0)),
    (nn.Upsample(size=(3, 4), mode="bilinear", align_corners=True), IMAGE),
    (lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True), IMAGE),
    (lambda x: torch.ops.aten.bincount(x[0, 0], None, 6), whole(2, 3, 4, low=0)),
])  # fmt: skip
def test_arguments_that_are_none_are_carried(what: tuple[Any, ...]) -> None:
    module, *args = what
    module = module_of(module)
    graph = from_torch(module, args)
    assert_close(evaluate(graph, feeds_of(graph, args)), results_of(module(*args)))
    assert_close({"y": redir.to_torch(graph)(*args).detach()}, results_of(module(*args)))


def test_a_complex_number_is_refused_in_a_line() -> None:
    with pytest.raises(Unsupported, match="complex"):
        from_torch(module_of(lambda x: (x * 2j).real), (X,))


@pytest.mark.parametrize("layer", [nn.RMSNorm(4), nn.InstanceNorm1d(3), nn.Conv1d(3, 2, 1)])
def test_bfloat16(layer: Any) -> None:
    graph = from_torch(module_of(layer).bfloat16(), (X.bfloat16(),))
    assert_plain(graph)
    assert str(graph.outputs["output"].type.dtype) == "bfloat16"


def test_an_operator_that_is_carried_keeps_its_arguments_in_the_text() -> None:
    graph = from_torch(module_of(lambda x: torch.cummax(x.double(), 1)), (X,))
    again = text.parse(str(graph))
    assert str(again) == str(graph)
    (node,) = (n for n in again.nodes if n.op.domain == "aten")
    assert (node.op.name, node.attrs["dim"], node.arity) == ("cummax.default", 1, 2)


def test_onnx_has_no_form_of_an_operator_that_is_carried() -> None:
    graph = from_torch(module_of(nn.Sequential(Fn(torch.erfinv))), (UNIT,))
    with pytest.raises(Unsupported, match=r"aten.erfinv.default '0'.*PyTorch"):
        to_proto(graph)


def test_an_operator_is_carried_if_a_result_that_onnx_lacks_is_read() -> None:
    module = nn.AdaptiveMaxPool2d(4, return_indices=True)
    graph = from_torch(module, (IMAGE,))
    assert {str(n.op) for n in graph.nodes} == {"aten.adaptive_max_pool2d.default"}
    assert_close(evaluate(graph, feeds_of(graph, [IMAGE])), results_of(module(IMAGE)))


def test_an_operator_of_a_library_is_carried() -> None:
    @torch.library.custom_op("redir_test::twice", mutates_args=())  # type: ignore[untyped-decorator, unused-ignore]
    def twice(x: torch.Tensor, by: float) -> torch.Tensor:  # type: ignore[name-defined, unused-ignore]
        return x * 2 * by

    twice.register_fake(lambda x, _: torch.empty_like(x))
    module = module_of(lambda x: twice(x, 1.5))
    graph = from_torch(module, (X,))
    assert graph.opset["torch.redir_test"] == 1
    assert_close(evaluate(graph, feeds_of(graph, [X])), results_of(module(X)))
    with pytest.raises(Unsupported, match="twice"):
        to_proto(graph)


def test_sizes_reach_an_operator_that_is_carried() -> None:
    module = module_of(lambda x: x.as_strided((x.shape[0], 4), (4, 1)))
    graph = from_torch(module, (X[0],), dynamic_shapes=(({0: BATCH},),))
    (node,) = (n for n in graph.nodes if n.op.domain == "aten")
    assert node.attrs["operands"] == ("self", "size[]", "size[]")
    more = floats(7, 4)
    assert_close(evaluate(graph, feeds_of(graph, [more])), results_of(module(more)))


def test_writing_through_an_odd_view_is_refused() -> None:
    def run(x: Any) -> Any:
        y = x.clone()
        y.as_strided((2, 2), (1, 1)).fill_(3)
        return y

    with pytest.raises(Unsupported, match="as_strided"):
        from_torch(module_of(run), (X,))


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(6), nn.InstanceNorm2d(6, track_running_stats=True), nn.Dropout(0.5)]
)
def test_training_mode_is_refused(layer: Any) -> None:
    with pytest.raises(Unsupported, match=r"eval\(\)"):
        from_torch(nn.Sequential(layer).train(), (IMAGE,))


def test_a_module_that_torch_cannot_export_is_refused_in_a_line() -> None:
    with pytest.raises(BadInput, match=r"^torch.export cannot follow Fn: [^\n]+$"):
        from_torch(module_of(lambda x: x + "a"), (X,))


def test_parameters_without_numbers_are_refused() -> None:
    with torch.device("meta"):
        layer, x = nn.Linear(4, 3), torch.zeros(2, 4)
    with pytest.raises(Unsupported, match=r"^weight: .* meta"):
        from_torch(layer, (x,))


def test_a_module_without_tensors_is_refused() -> None:
    with pytest.raises(BadInput, match="no tensor"):
        from_torch(module_of(lambda _: 3), (X,))


# Files and factories

FACTORY = """
import torch

def small():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    return layers.eval(), (torch.zeros(2, 4),)

def single():
    return small()[0], (torch.zeros(1, 4),)

def fixed():
    return *small(), {}, ((None, None),)

def opaque():
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.erfinv(x)
    return Odd(), (torch.zeros(2),)

not_callable = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "made.py").write_text(FACTORY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    return tmp_path


def test_a_factory_on_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the current folder, where a script that is installed does not look."""
    monkeypatch.delitem(sys.modules, "made", raising=False)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert main(["opt", "made:small", "out.onnx", "-p", "fold-constants"]) == 0
    assert list(redir.load(folder / "out.onnx").inputs) == ["input"]


@pytest.mark.parametrize(("factory", "size"), [("small", None), ("single", 1), ("fixed", 2)])
@pytest.mark.usefixtures("folder")
def test_a_factory_leaves_the_batch_open(factory: str, size: int | None) -> None:
    first, *_ = redir.load(f"made:{factory}").inputs["input"].type.shape or ()
    assert (first if isinstance(first, int) else None) == size


def test_a_program_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_program(module_of(nn.Linear(4, 3)), (X[0],), folder / "small.pt2")
    assert main(["opt", "small.pt2", "-p", "fold-constants"]) == 0
    assert "Gemm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("made:missing", "has no missing"),
        ("missing:small", "cannot be imported"),
        ("made:not_callable", "expected a function"),
        ("weights.pth", "pickle"),
        ("weights.bin", "torch.export.save"),
        ("missing.pt2", "No such file"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_models_that_cannot_be_read(
    model: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", model]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err
    assert err.count("\n") == 1


def test_an_operator_that_onnx_lacks_ends_with_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", "made:opaque", "out.onnx", "--quiet"]) == 2
    err = capsys.readouterr().err
    assert "aten.erfinv.default" in err
    assert err.count("\n") == 1
    assert not (folder / "out.onnx").exists()


def save_program(module: Any, args: Any, path: Path, **options: Any) -> None:
    torch.export.save(torch.export.export(module, args, **options), path)


def test_a_saved_program_is_read_like_the_module(tmp_path: Path) -> None:
    module = module_of(nn.Sequential(Block(), nn.BatchNorm2d(3)))
    x, path = floats(2, 3, 5, 5), tmp_path / "model.pt2"
    save_program(module, (x,), path, dynamic_shapes=({0: Dim("batch")},))
    graph = redir.load(path)
    assert_computes(graph, module, (x,))
    assert "0.conv" in {n.name for n in graph.nodes}


def test_a_functional_program_is_read_too() -> None:
    module = module_of(nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2)))
    program = torch.export.export(module, (IMAGE,)).run_decompositions()
    graph = from_program(program)
    assert_plain(graph)
    assert_computes(graph, module, (IMAGE,))


def rewritten(path: Path, change: Callable[[str, bytes], bytes], **more: bytes) -> None:
    """The archive with members changed, and ``more`` put in."""
    with zipfile.ZipFile(path) as archive:
        held = {n: archive.read(n) for n in archive.namelist()}
    root = next(iter(held)).partition("/")[0]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in held.items():
            archive.writestr(name, change(name, data))
        for name, data in more.items():
            archive.writestr(f"{root}/{name}", data)


def unpickling(name: str, data: bytes) -> bytes:
    return data.replace(b'"use_pickle": false', b'"use_pickle": true') if "config" in name else data


def evaluating(name: str, data: bytes) -> bytes:
    wanted, code = b'"expr_str": "Symbol', b'"expr_str": "__import__(\'os\').getpid() + Symbol'
    assert wanted in data or "/models/" not in name
    return data.replace(wanted, code) if "/models/" in name else data


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (unpickling, "pickled objects"),
        (evaluating, "no arithmetic"),
        (lambda name, data: data[:-9] if name.endswith("model.json") else data, "damaged"),
    ],
    ids=["weights", "sizes", "half of it"],
)
def test_a_program_that_would_run_code_is_refused(
    change: Callable[[str, bytes], bytes], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt2"
    save_program(module_of(nn.Linear(4, 3)), (X[0],), path, dynamic_shapes=({0: Dim("n")},))
    rewritten(path, change)
    with pytest.raises(BadInput, match=why):
        redir.load(path)
    assert not Path("touched").exists()


def test_compiled_code_in_a_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    save_program(module_of(nn.Linear(4, 3)), (X[0],), path)
    rewritten(path, lambda _, data: data, **{"data/aotinductor/model/code.so": b""})
    with pytest.raises(BadInput, match=r"code\.so"):
        redir.load(path)


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(BadInput, match="not a program"):
        redir.load(path)


# Whole models


@pytest.fixture(scope="session")
def torchvision(shared: Path) -> Any:
    sys.path.insert(0, str(shared / "tools"))
    pytest.importorskip("torchvision_cpu")
    return pytest.importorskip("torchvision", reason="needs torchvision")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param("resnet18", 64, marks=pytest.mark.nightly),
        pytest.param("mobilenet_v3_small", 64, marks=pytest.mark.nightly),
        pytest.param("shufflenet_v2_x0_5", 64, marks=pytest.mark.nightly),
        ("squeezenet1_1", 64),
        pytest.param("efficientnet_b0", 64, marks=pytest.mark.nightly),
        pytest.param("swin_v2_t", 64, marks=pytest.mark.nightly),
        pytest.param("lraspp_mobilenet_v3_large", 64, marks=pytest.mark.nightly),
    ],
)
def test_models_of_torchvision(name: str, size: int, torchvision: Any) -> None:
    torch.manual_seed(0)
    backbone = {"weights_backbone": None} if name.startswith("lraspp") else {}
    module = torchvision.models.get_model(name, weights=None, **backbone).eval()
    x = floats(2, 3, size, size)
    graph = from_torch(module, (x,), dynamic_shapes=({0: BATCH},))
    assert_plain(graph)
    with torch.no_grad():
        wanted = results_of(module(x))
    assert_close(session(graph)(feeds_of(graph, [x])), wanted)
    parameters = sum(p.numel() for p in module.parameters())
    held = sum(
        n.attrs["value"].array.size
        for n in graph.nodes
        if n.op.name == "Const" and n.name in dict(module.named_parameters())
    )
    assert held == parameters


def test_a_compressed_module_computes_the_same() -> None:
    module = module_of(nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), Block()))
    x = floats(2, 3, 5, 5)
    small = redir.compress(redir.from_torch(module, (x,)))
    assert "BatchNormalization" not in names(small)
    assert_computes(small, module, (x,))
