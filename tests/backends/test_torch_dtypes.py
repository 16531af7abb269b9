"""Modules of every element type come back in it: parameters, buffers, constants and results."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import redir

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from torch import nn  # noqa: E402 - torch comes first

from redir.backends.torch.writer import source  # noqa: E402
from tests.helpers import one_of_three  # noqa: E402
from tests.source_files import imported  # noqa: E402

DTYPES = {"float16": 1e-2, "bfloat16": 5e-2, "float64": 1e-12}  # and how far rounding may go
LAYERS = {
    "conv": lambda: nn.Conv2d(3, 8, 3),
    "transposed": lambda: nn.ConvTranspose2d(3, 8, 3),
    "batch norm": lambda: nn.BatchNorm2d(3),
    "group norm": lambda: nn.GroupNorm(3, 3),
    "instance norm": lambda: nn.InstanceNorm2d(3, affine=True),
    "prelu": lambda: nn.PReLU(3),
    "leaky": lambda: nn.LeakyReLU(1 / 3),
    "linear": lambda: nn.Linear(6, 4),
    "layer norm": lambda: nn.LayerNorm(6),
    "rms norm": lambda: nn.RMSNorm(6),
    "rms norm of an eps": lambda: nn.RMSNorm(6, eps=1e-3),
}


class Layer(nn.Module):  # type: ignore[misc]
    """One layer in a network, with a scale and a shift, which are constants."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("scale", torch.tensor([1 / 3]))
        self.gain = nn.Parameter(torch.tensor(1.25))

    def forward(self, x: Any) -> Any:
        return self.layer(x) * self.scale * self.gain + 0.1


class Recurrent(nn.Module):  # type: ignore[misc]
    """A recurrent layer of the class given, and a linear one."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cell = kind(4, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.cell(x)[0])


class Tokens(nn.Module):  # type: ignore[misc]
    """An embedding, attention and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Any) -> Any:
        x = self.table(tokens)
        return self.head(x + self.attention(x, x, x, need_weights=False)[0])


class Mixed(nn.Module):  # type: ignore[misc]
    """Half inside, a norm in single precision, and a table in double."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8).half()
        self.norm = nn.LayerNorm(8)
        self.last = nn.Linear(8, 3).double()
        self.packed = nn.Buffer(torch.randn(3).to(torch.float8_e4m3fn))

    def forward(self, x: Any) -> Any:
        x = self.norm(torch.relu(self.first(x.half())).float())
        return self.last(x.double()) * self.packed.to(torch.float64)


def drawn(*shape: int, dtype: Any = None) -> Any:
    values = torch.from_numpy(np.random.default_rng(0).normal(size=shape))
    return values.to(dtype or torch.float32)


def settled(module: Any, dtype: Any = None) -> Any:
    """The module in evaluation, in an element type, with numbers that all matter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.2)
    return module.eval().to(dtype) if dtype is not None else module.eval()


def assert_returns(module: Any, again: Any, given: Any, error: float) -> None:
    """Both compute the same in the same element types, and hold tensors of the same."""
    with torch.no_grad():
        wanted, found = module(given), again(given)
    assert found.dtype == wanted.dtype
    wide = wanted.double()
    assert (wide - found.double()).abs().max() <= error * wide.abs().max()
    kinds = {n: t.dtype for n, t in module.state_dict().items()}
    assert all(t.dtype == kinds.get(n, t.dtype) for n, t in again.state_dict().items())


def image(dtype: str, name: str) -> Any:
    flat = name in {"linear", "layer norm", "rms norm", "rms norm of an eps"}
    return drawn(*((2, 6) if flat else (2, 3, 6, 6)), dtype=getattr(torch, dtype))


@pytest.mark.parametrize("what", one_of_three(product(DTYPES, LAYERS)), ids=" ".join)
def test_a_layer_comes_back_in_its_element_type(what: tuple[str, str]) -> None:
    dtype, name = what
    x = image(dtype, name)
    module = settled(Layer(LAYERS[name]()), x.dtype)
    again = redir.to_torch(redir.from_torch(module, (x,)))
    assert_returns(module, again, x, DTYPES[dtype])


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [pytest.param(nn.LSTM, marks=pytest.mark.nightly), nn.GRU])
def test_a_recurrent_layer_comes_back_in_its_element_type(kind: Any, dtype: str) -> None:
    x = drawn(2, 3, 4, dtype=getattr(torch, dtype))
    module = settled(Recurrent(kind), x.dtype)
    again = redir.to_torch(redir.from_torch(module, (x,)))
    assert_returns(module, again, x, DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_table_and_attention_come_back_in_their_element_type(dtype: str) -> None:
    tokens = torch.tensor([[0, 6, 2], [1, 1, 5]])
    module = settled(Tokens(), getattr(torch, dtype))
    again = redir.to_torch(redir.from_torch(module, (tokens,)))
    assert_returns(module, again, tokens, DTYPES[dtype])


def network(dtype: Any) -> Any:
    """Layers in a row, of which ``exact`` folds the norm."""
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)
    return settled(nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 3)), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_source_loads_its_weights_in_their_element_type(dtype: str, tmp_path: Path) -> None:
    x = drawn(2, 3, 6, 6, dtype=getattr(torch, dtype))
    module = network(x.dtype)
    redir.save(redir.from_torch(module, (x,)), tmp_path / "net.py")
    assert_returns(module, imported(tmp_path / "net.py").load(), x, DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_compressed_stays_in_its_element_type(dtype: str) -> None:
    x = drawn(2, 3, 6, 6, dtype=getattr(torch, dtype))
    module = network(x.dtype)
    assert_returns(module, redir.compress(module, (x,)).module, x, 4 * DTYPES[dtype])


def test_mixed_precision_comes_back() -> None:
    x, module = drawn(2, 6), settled(Mixed())
    again = redir.to_torch(redir.from_torch(module, (x,)))
    assert_returns(module, again, x, 1e-3)


def test_a_parameter_of_complex_numbers_is_trained() -> None:
    module = nn.Linear(4, 3, dtype=torch.complex64).eval()
    again = redir.to_torch(redir.from_torch(module, (drawn(2, 4, dtype=torch.complex64),)))
    assert {p.dtype for p in again.parameters()} == {torch.complex64}


ONNX: dict[int, Any] = {TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}


def onnx_graph(kind: int, *nodes: Any, **arrays: Any) -> Any:
    """The graph of a model of one element type from x[n, 3, 6, 6] to y."""
    weights = [numpy_helper.from_array(a.astype(ONNX[kind]), n) for n, a in arrays.items()]
    x = helper.make_tensor_value_info("x", kind, ["n", 3, 6, 6])
    y = helper.make_tensor_value_info("y", kind, None)
    made = helper.make_graph(list(nodes), "g", [x], [y], weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    return redir.frontends.onnx.from_proto(onnx.shape_inference.infer_shapes(model))


@pytest.mark.parametrize("kind", ONNX)
def test_an_onnx_model_of_any_precision_becomes_a_module(kind: int) -> None:
    rng = np.random.default_rng(0)
    graph = onnx_graph(
        kind,
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("LeakyRelu", ["c"], ["r"], alpha=0.3),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "d"], ["y"]),
        w=rng.normal(size=(8, 3, 3, 3)),
        b=rng.normal(size=8),
        v=rng.normal(size=(8, 4)),
        d=rng.normal(size=4),
    )
    x = rng.normal(size=(2, 3, 6, 6)).astype(ONNX[kind])
    with torch.no_grad():
        found = redir.to_torch(graph)(torch.from_numpy(x)).numpy()
    (wanted,) = redir.ir.evaluate(graph, {"x": x}).values()
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-2 if found.dtype.itemsize == 2 else 1e-12)


def test_a_number_in_half_is_not_shortened() -> None:
    graph = onnx_graph(
        TensorProto.FLOAT16, helper.make_node("Mul", ["x", "k"], ["y"]), k=np.array(1.1)
    )
    assert "1.099609375" in source(graph)
