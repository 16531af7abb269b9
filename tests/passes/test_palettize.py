"""palettize: every bit and every width, where it holds back, real models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redir import ops
from redir.backends.onnx import to_proto
from redir.check.guarantees import SAME_OUTPUTS
from redir.errors import BadPipeline, Broken
from redir.io.models import load, save
from redir.ir import Graph
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array, TensorType
from redir.layers.codebook import reduced
from redir.layers.output_error import relative_error
from redir.layers.palette import opened, packed, split, unpacked
from redir.ops import tensor_of
from redir.passes import palettize
from redir.passes.palettize import Palettize, storing
from redir.pipeline import Pipeline
from redir.runtime.onnxruntime import session
from redir.testing import check_on, check_pass
from tests.extras import ort
from tests.helpers import operators, placeholder
from tests.real.inputs import SHARED, each, feeds_of, loaded
from tests.source_files import imported

RNG = np.random.default_rng(0)
DTYPES = ("float16", "float32", "float64", "bfloat16")
SIZES = {1: 2, 2: 4, 4: 16, 8: 200}  # a number of values that needs so many bits
WIDTHS = sorted(SIZES)


def few(values: int, *shape: int, dtype: str = "float32", seed: int = 0) -> Array:
    """Numbers of just so many different values, zero among them."""
    rng = np.random.default_rng(seed)
    places = rng.permutation(np.resize(np.arange(values), int(np.prod(shape))))
    return (places.reshape(shape) / 8).astype(np.dtype(dtype))


def layer(array: Array, opset: int = 21) -> Graph:
    """A MatMul with ``array``, (inputs, outputs)."""
    x = placeholder(1, array.shape[0], dtype=array.dtype)
    op = ops.lookup("MatMul", opset)
    assert op is not None
    return Graph({"x": x}, {"y": op(x, ops.constant(array))}, opset={"": opset})


def stored(graph: Graph) -> int:
    """The bytes of the file."""
    return int(to_proto(graph).ByteSize())


def weight(graph: Graph) -> Array:
    """The weight of ``layer``, rebuilt."""
    tensor = tensor_of(unpacked(graph).nodes[-1].inputs[1])
    assert tensor is not None
    return tensor.array


# Every bit, every width


@given(st.sampled_from(WIDTHS), st.integers(1, 50), st.integers(0, 99))
def test_packed_places_are_read_from_the_table(bits: int, count: int, seed: int) -> None:
    places = np.random.default_rng(seed).integers(0, 2**bits, count)
    held = packed(places, bits)
    assert held.size == -(-count * bits // 8)
    assert np.array_equal(opened(bits)[held].reshape(-1)[:count], places)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 128), (63, 129)], ids=["even", "padded"])
def test_every_bit_is_kept(bits: int, dtype: str, shape: tuple[int, int]) -> None:
    before = layer(few(SIZES[bits], *shape, dtype=dtype))
    after = check_on(Palettize(), before)
    assert after is not before
    assert weight(after).tobytes() == weight(before).tobytes()
    assert stored(after) < stored(before)


@pytest.mark.parametrize("opset", [6, 7, 9, 10, 12, 13, 18, 21])
@pytest.mark.parametrize("bits", WIDTHS)
def test_in_every_operator_set(opset: int, bits: int) -> None:
    before = layer(few(SIZES[bits], 63, 129), opset)
    after = Palettize()(before)
    feeds = {"x": few(9, 1, 63)}
    assert after is not before
    assert np.array_equal(evaluate(after, feeds)["y"], evaluate(before, feeds)["y"])


@pytest.mark.parametrize("opset", [7, 9, 10, 13, 21])
@pytest.mark.parametrize("bits", WIDTHS)
def test_onnxruntime_rebuilds_the_same(opset: int, bits: int) -> None:
    before = layer(few(SIZES[bits], 63, 129), opset)
    feeds = {"x": few(9, 1, 63)}
    after = Palettize()(before)
    assert np.array_equal(session(after)(feeds)["y"], session(before)(feeds)["y"])


@pytest.mark.parametrize("bits", WIDTHS)
def test_onnxruntime_rebuilds_it_once(bits: int, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4  # it warns that such a file is for this machine
    file = to_proto(Palettize()(layer(few(SIZES[bits], 63, 129)))).SerializeToString()
    ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    assert operators(load(tmp_path / "optimised.onnx")) == ["MatMul"]


@pytest.mark.parametrize(
    "values", [[0.0, -0.0], [np.inf, 1.0], [np.nan, 1.0]], ids=["zeros", "infinite", "nan"]
)
def test_odd_numbers_are_numbers_like_others(values: list[float]) -> None:
    before = layer(np.resize(np.array(values, np.float32), (64, 65)))
    after = Palettize()(before)
    assert after is not before
    assert weight(after).tobytes() == weight(before).tobytes()


@st.composite
def layers(draw: st.DrawFn) -> Graph:
    """Two layers of few or of many values, one weight perhaps for both."""
    size = draw(st.sampled_from([16, 33, 64]))
    dtype = np.dtype(draw(st.sampled_from(["float16", "float32", "float64"])))
    x = placeholder(2, size, dtype=dtype)
    drawn = st.tuples(st.sampled_from([2, 3, 16, 100, 999]), st.integers(0, 99))
    many = draw(st.lists(drawn, min_size=1, max_size=2))
    weights = [ops.constant(few(n, size, size, dtype=dtype.name, seed=seed)) for n, seed in many]
    y = ops.MatMul(ops.MatMul(x, weights[0]), weights[-1])
    return Graph({"x": x}, {"y": y, "z": ops.Gemm(x, weights[0])})


@pytest.mark.parametrize(
    "step",
    [
        Palettize(),
        *(pytest.param(Palettize(bits=bits), marks=pytest.mark.nightly) for bits in (4, 8)),
        Palettize(bits=1),
        Palettize(error=0.1),
    ],
    ids=str,
)
def test_keeps_its_promises(step: Palettize) -> None:
    check_pass(step, layers())


@given(layers())
def test_a_file_never_grows(graph: Graph) -> None:
    after = Palettize()(graph)
    assert after is graph or stored(after) < stored(graph)


def test_a_shared_weight_is_stored_once() -> None:
    shared = ops.constant(few(16, 64, 64))
    x = placeholder(1, 64)
    graph = Graph({"x": x}, {"y": ops.MatMul(ops.MatMul(x, shared), shared)})
    after = check_on(Palettize(), graph)
    last = after.nodes[-1]
    assert last.inputs[1] is last.inputs[0].node.inputs[1]  # type: ignore[union-attr]


def test_a_table_serves_all_tensors_of_its_width() -> None:
    x = placeholder(1, 64)
    first, second = (ops.constant(few(16, 64, 64, seed=seed)) for seed in (0, 1))
    after = Palettize()(Graph({"x": x}, {"y": ops.MatMul(ops.MatMul(x, first), second)}))
    assert operators(after).count("Cast") == 3
    shapes = [t.array.shape for n in after.nodes if (t := tensor_of(n.outputs[0])) is not None]
    assert shapes.count((256, 2)) == 1


def test_a_table_of_tokens_and_a_recurrent_weight() -> None:
    ids = placeholder(5, 1, dtype=np.int64)
    x = ops.Gather(ops.constant(few(4, 100, 16)), ids)
    y = ops.GRU(x, ops.constant(few(4, 1, 96, 16)), ops.constant(few(4, 1, 96, 32)), hidden_size=32)
    after = check_on(Palettize(), Graph({"ids": ids}, {"y": y}))
    assert operators(after).count("Gather") == 1 + 2 * 3


def test_an_unpacked_graph_has_its_names_again() -> None:
    w = Pipeline.parse("cse").run(layer(few(16, 64, 64)))
    assert str(unpacked(Palettize()(w))) == str(w)


def test_nothing_is_unpacked_where_nothing_is_packed() -> None:
    graph = layer(few(16, 64, 64))
    assert unpacked(graph) is graph


# Where it holds back


UNKNOWN = ops.opaque("Unknown", "some.where", 1, [TensorType(np.dtype(np.float32), (64, 64))])
LEFT: dict[str, Graph] = {
    "too many values": layer(RNG.normal(size=(64, 64)).astype(np.float32)),
    "too small to pay": layer(few(2, 8, 8)),
    "whole numbers": layer(np.arange(4096).reshape(64, 64) % 3),
    "an operator set without Cast to a number": layer(few(2, 64, 64), 5),
    "an output": Graph({}, {"y": ops.constant(few(2, 64, 64))}),
    "what an unknown operator reads": Graph({}, {"y": UNKNOWN(ops.constant(few(2, 64, 64)))}),
}


@pytest.mark.parametrize("why", LEFT)
def test_left_as_it_is(why: str) -> None:
    assert Palettize()(LEFT[why]) is LEFT[why]


def test_a_small_tensor_alone_does_not_pay_for_a_table() -> None:
    graph = layer(few(16, 20, 20))
    kinds = {t.array.dtype for n in Palettize()(graph).nodes if (t := tensor_of(n.outputs[0]))}
    assert operators(Palettize()(graph)) == ["Cast", "Gather", "MatMul"]
    assert kinds == {np.dtype(np.float32), np.dtype(np.uint8)}


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("too many values", "4096 distinct values are more than 256"),
        ("an operator set without Cast to a number", "operator set 5"),
    ],
)
def test_says_why(why: str, said: str) -> None:
    (line,) = Palettize().explain(LEFT[why])
    assert said in line


@pytest.mark.parametrize("opset", [13, 21])
def test_fold_constants_leaves_a_large_palette_alone(opset: int) -> None:
    for bits in WIDTHS:
        after = Palettize()(layer(few(SIZES[bits], 128, 128), opset))
        folded = Pipeline.parse("fold-constants")(after)
        assert "Cast" in operators(folded)
        assert stored(folded) < 128 * 128 * 4 / 3


# Fewer values


def test_fewer_values_than_asked_for_stay_as_they_are() -> None:
    weights = few(16, 64, 64)
    assert reduced(weights, 16) is weights


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [2, 4, 16, 256])
def test_values_are_reduced(dtype: str, count: int) -> None:
    weights = RNG.normal(size=(64, 65)).astype(np.dtype(dtype))
    weights[::7] = 0
    found = reduced(weights, count)
    assert (found.dtype, found.shape) == (weights.dtype, weights.shape)
    assert split(found)[0].size <= count
    assert not found[weights == 0].any()


@pytest.mark.parametrize("values", [[1.0, np.inf], [np.nan, 2.0]])
def test_values_that_are_not_finite_stay_as_they_are(values: list[float]) -> None:
    weights = np.append(np.arange(9.0), values)
    assert reduced(weights, 4) is weights


def test_weights_far_apart_are_reduced_too() -> None:
    weights = np.array([1.0, 1.0 + 1e-9, 1.0 + 2e-9, 1e9])
    found = reduced(weights, 2)
    assert np.allclose(found, [1, 1, 1, 1e9])


def test_the_error_is_that_of_the_best_quantizer_of_a_normal_density() -> None:
    """0.009497 of the variance for 16 levels, 0.1175 for 4 (Max, 1960)."""
    weights = RNG.normal(size=200_000)
    for count, share in ((16, 0.009497), (4, 0.1175)):
        assert relative_error(weights, reduced(weights, count)) ** 2 == pytest.approx(
            share, rel=0.02
        )


@given(st.integers(0, 999), st.sampled_from([2, 4, 16]))
def test_each_weight_goes_to_the_nearest_value(seed: int, count: int) -> None:
    weights = np.random.default_rng(seed).normal(size=300)
    found = reduced(weights, count)
    values = np.unique(found)
    assert np.allclose(abs(weights - found), abs(weights[:, None] - values).min(axis=1))


def two_layers() -> Graph:
    """A small and a large weight of the same spread."""
    x = placeholder(1, 32)
    small, large = (RNG.normal(size=s).astype(np.float32) for s in ((32, 32), (32, 512)))
    return Graph(
        {"x": x}, {"y": ops.MatMul(ops.MatMul(x, ops.constant(small)), ops.constant(large))}
    )


def values_of(graph: Graph) -> list[int]:
    weights = [tensor_of(n.inputs[1]) for n in unpacked(graph).nodes if n.op == ops.MatMul]
    return [np.unique(t.array).size for t in weights if t is not None]


def test_an_error_goes_to_the_weights_that_save_most() -> None:
    counts = [values_of(check_on(Palettize(error=e), two_layers())) for e in (0.001, 0.08, 0.11)]
    assert [[c <= 16 for c in pair] for pair in counts] == [
        [False, False],
        [False, True],
        [True, True],
    ]


def test_more_error_takes_no_more_bytes() -> None:
    sizes = [stored(Palettize(error=e)(two_layers())) for e in (0.005, 0.01, 0.05, 0.1, 0.3, 0.6)]
    assert sizes == sorted(sizes, reverse=True)


def test_biases_and_single_rows_are_not_reduced() -> None:
    x = placeholder(1, 8)
    bias = RNG.normal(size=1000).astype(np.float32)
    after = Palettize(bits=1)(
        Graph({"x": x}, {"y": ops.Gemm(x, ops.constant(few(999, 8, 1000)), ops.constant(bias))})
    )
    held = [t.array for n in unpacked(after).nodes if (t := tensor_of(n.outputs[0])) is not None]
    assert any(np.array_equal(a, bias) for a in held)


def test_a_weight_that_is_not_stored_in_a_palette_is_not_reduced() -> None:
    graph = layer(RNG.normal(size=(8, 9)).astype(np.float32))
    assert Palettize(bits=1)(graph) is graph


@pytest.mark.parametrize("step", [Palettize(bits=4), Palettize(error=0.05)], ids=str)
def test_promises_the_same_outputs_only_where_it_keeps_them(step: Palettize) -> None:
    assert SAME_OUTPUTS not in step.guarantees
    assert SAME_OUTPUTS in Palettize().guarantees


@pytest.mark.parametrize("step", [Palettize(), Palettize(bits=2), Palettize(error=0.25)], ids=str)
def test_reads_back_from_its_text(step: Palettize) -> None:
    assert Pipeline.parse(str(step)).passes == (step,)


@pytest.mark.parametrize(
    "options",
    "bits=3 bits=0 bits=16 bits=few error=0 error=1 error=-1 error=nan bits=4,error=0.1".split(),
)
def test_refuses_other_options(options: str) -> None:
    with pytest.raises(BadPipeline, match="palettize"):
        Pipeline.parse(f"palettize{{{options}}}")


# Wrong ones are refuted


def turned(places: Array, bits: int) -> Array:
    return packed(places[::-1], bits)


def shifted(bits: int) -> Array:
    return np.roll(opened(bits), 1, axis=0)


def plain_split(array: Array) -> tuple[Array, Array]:
    values, places = np.unique(array, return_inverse=True)
    return values, places.reshape(-1)


def without_zeros(weights: Array, count: int) -> Array:
    return np.where(weights == 0, weights.max(), reduced(weights, count)).astype(weights.dtype)


SLOWLY = "stores what does not pay"
WRONG: dict[str, tuple[Any, str, Any, Palettize]] = {
    "packs backwards": (storing, "packed", turned, Palettize()),
    "has a wrong table": (storing, "opened", shifted, Palettize()),
    SLOWLY: (storing, "stored_bytes", lambda *_: 0, Palettize()),
    "moves zeros": (palettize, "reduced", without_zeros, Palettize(bits=1)),
    "keeps too many values": (
        palettize,
        "reduced",
        lambda w, n: reduced(w, n * 2),
        Palettize(bits=1),
    ),
    "spends more than the error": (
        palettize,
        "within",
        lambda found, _: {v: reduced(first.what, 2) for v, (first, *_) in found.items()},
        Palettize(error=0.01),
    ),
}


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize(
    "what", [pytest.param(w, marks=[pytest.mark.nightly] * (w == SLOWLY)) for w in WRONG]
)
def test_one_that(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, wrong, step = WRONG[what]
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(Broken, match=r"rebuilt|differs|bytes|zero|values|error|Error"):
        check_pass(step, layers(), 200)


def test_one_that_forgets_the_sign_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(palettize, "split", plain_split)
    with pytest.raises(Broken, match="rebuilt"):
        check_on(Palettize(), layer(np.resize(np.array([0.0, -0.0], np.float32), (64, 64))))


# Real models, files and PyTorch

NAMES = (
    "ad-toycar-autoencoder-mlperftiny",
    "cifar10-resnet20-bn",
    "cls-cifar10-resnet8-mlperftiny",
    "vad-silero-v3-lstm-op13",
)
SLOW = NAMES[1::2]
REAL = each([p for p in SHARED if p.stem in NAMES], SLOW)
SPEC = "fold-constants,fold-batchnorm,hash{error=0.05}"


@REAL
def test_a_real_model_computes_the_same_to_the_bit(path: Path, tmp_path: Path) -> None:
    before = Pipeline.parse(SPEC).run(loaded(path))
    save(Palettize()(before), tmp_path / "packed.onnx")
    save(before, tmp_path / "plain.onnx")
    after, feeds = load(tmp_path / "packed.onnx"), feeds_of(path)
    assert unpacked(after) is not after
    sizes = [(tmp_path / f"{n}.onnx").stat().st_size for n in ("packed", "plain")]
    assert sizes[0] < sizes[1]
    found, wanted = session(after)(feeds), session(before)(feeds)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pytorch_reads_it_back_as_parameters(bits: int, dtype: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    before = layer(few(SIZES[bits], 63, 129, dtype=dtype))
    save(before, tmp_path / "plain.py")
    save(Palettize()(before), tmp_path / "packed.py")
    size = (tmp_path / "packed.safetensors").stat().st_size
    assert size < 63 * 129 * bits / 8 + SIZES[bits] * np.dtype(dtype).itemsize + 300
    found, wanted = (
        dict(imported(tmp_path / f"{n}.py").load().named_parameters()) for n in ("packed", "plain")
    )
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[n], wanted[n]) and found[n].requires_grad for n in wanted)


@REAL
def test_pytorch_computes_what_it_does_without_palettes(path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from redir.backends.torch.writer import to_torch  # noqa: PLC0415 - needs torch

    before = Pipeline.parse(SPEC).run(loaded(path))
    states = [to_torch(g).state_dict() for g in (before, Palettize()(before))]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[1][n], t) for n, t in states[0].items())
