"""What the operators that have weights or windows become in PyTorch: layers where they can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redir import ops
from redir.backends.torch.emit.emitter import Emit, Result, Site
from redir.backends.torch.emit.literals import literal
from redir.backends.torch.emit.text import STRIDE, number_mark
from redir.backends.torch.ops.functions import kept
from redir.backends.torch.ops.quantised import exact, requantized, vector
from redir.ir import Node, Value
from redir.ir.tensor import Array
from redir.ops import schema

Tensors = dict[str, tuple[Array, Value | None]]
_IMAGE = 3  # axes at most that a window slides along


def _numbers(numbers: Sequence[int]) -> str:
    """Numbers as an argument: one where they are the same."""
    same = len(set(numbers)) == 1
    return str(numbers[0]) if same else f"({', '.join(map(str, numbers))})"


def _array(site: Site, place: int) -> Array:
    array = site.array(place)
    assert array is not None
    return array


def _held(site: Site, places: Mapping[str, int]) -> Tensors:
    """Constant operands as the tensors of a layer."""
    return {n: (_array(site, p), site.value(p)) for n, p in places.items() if site.has(p)}


def _lined(count: int) -> str:
    """The index that puts ``count`` axes behind a vector."""
    return f"[{', '.join([':', *['None'] * count])}]" if count else ""


# Windows


@dataclass(frozen=True)
class Window:
    """How a kernel slides along the last axes of operand 0.

    ``automatic`` is SAME_UPPER or SAME_LOWER where the pads depend on sizes that are open;
    ``before`` says that the operand is padded in a statement of its own.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    automatic: str = ""
    before: bool = False

    @property
    def rank(self) -> int:
        """How many axes it slides along."""
        return len(self.kernel)

    @property
    def even(self) -> bool:
        """Whether the layer itself can pad."""
        return self.begin == self.end and not (self.automatic or self.before)

    @property
    def pads(self) -> str:
        """The pads as F.pad takes them."""
        pairs = zip(reversed(self.begin), reversed(self.end), strict=True)
        return f"({', '.join(str(n) for pair in pairs for n in pair)})"


def _window(site: Site, kernel: Sequence[int]) -> Window:
    """The window that the attributes of a node describe."""
    rank = len(kernel)
    if not 0 < rank <= _IMAGE or any(not isinstance(k, int) for k in kernel):
        raise site.refused("its window is of no known size, or slides along more than 3 axes")
    ones = (1,) * rank
    strides, dilations = site.attr("strides", ones), site.attr("dilations", ones)
    pads = tuple(site.attr("pads", (0,) * 2 * rank))
    if (len(strides), len(dilations), len(pads)) != (rank, rank, 2 * rank):
        raise site.refused(f"its strides, dilations or pads are not those of {rank} axes")
    window = Window(tuple(kernel), tuple(strides), tuple(dilations), pads[:rank], pads[rank:])
    how = site.attr("auto_pad", "NOTSET")
    if how == "VALID":
        return replace(window, begin=(0,) * rank, end=(0,) * rank)
    return window if how == "NOTSET" else _same(site, window, how)


def _same(site: Site, window: Window, how: str) -> Window:
    """The window with the pads that auto_pad stands for, if they depend on no open size."""
    begin, end = [], []
    steps = zip(window.kernel, window.strides, window.dilations, strict=True)
    for axis, (k, s, d) in enumerate(steps):
        size = 1 if s == 1 else site.size(0, axis + 2)
        if size is None:
            return replace(window, automatic=how)
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begin.append(large if how == "SAME_LOWER" else small)
        end.append(small if how == "SAME_LOWER" else large)
    return replace(window, begin=tuple(begin), end=tuple(end))


def _padded(site: Site, window: Window, fill: str = "") -> str:
    """Operand 0, padded first where the layer cannot."""
    x = site.ref(0)
    if window.even:
        return x
    if window.automatic:
        lower = window.automatic == "SAME_LOWER"
        sizes = f"{window.kernel}, {window.strides}, {window.dilations}, {lower}"
        return site.let(f"{site.helper('same_pad')}({x}, {sizes}{fill})")
    return site.let(f"F.pad({x}, {window.pads}{fill})")


def _conv(site: Site) -> Result:
    window, groups = _window(site, (site.shape(1) or ())[2:]), site.attr("group", 1)
    x, weight, bias = _padded(site, window), site.array(1), site.has(2)
    if weight is None or not site.owned(1, 2):
        tail = f", {site.ref(2, weight=True)}" if bias else ""
        options = _options(window, groups)
        return f"F.conv{window.rank}d({x}, {site.ref(1, weight=True)}{tail}{options})"
    sizes = weight.shape[1] * groups, weight.shape[0]
    text = _conv_text(f"Conv{window.rank}d", sizes, window, groups, "" if bias else ", bias=False")
    return f"{site.layer(text, 'conv', _held(site, {'weight': 1, 'bias': 2}))}({x})"


def _options(window: Window, groups: int) -> str:
    """The arguments of a functional convolution that are not usual."""
    padding = window.begin if window.even else (0,)
    text = ""
    for name, numbers, usual in (
        ("stride", window.strides, 1),
        ("padding", padding, 0),
        ("dilation", window.dilations, 1),
    ):
        text += "" if set(numbers) == {usual} else f", {name}={_numbers(numbers)}"
    return text + (f", groups={groups}" if groups != 1 else "")


def _conv_text(
    kind: str, sizes: tuple[int, int], window: Window, groups: int, more: str = ""
) -> str:
    """The call that makes a convolution; numbers that instances may differ in are marked."""
    parts = [
        number_mark("in_channels", sizes[0]),
        number_mark("out_channels", sizes[1]),
        number_mark("kernel_size", _numbers(window.kernel)),
        f"stride={number_mark(STRIDE, _numbers(window.strides))}",
    ]
    padding = _numbers(window.begin) if window.even else "0"
    if padding != "0":
        parts.append(f"padding={number_mark('padding', padding)}")
    if set(window.dilations) != {1}:
        parts.append(f"dilation={number_mark('dilation', _numbers(window.dilations))}")
    if groups != 1:
        parts.append(f"groups={number_mark('groups', groups)}")
    return f"nn.{kind}({', '.join(parts)}{more})"


def _conv_transpose(site: Site) -> Result:
    window, extra, crop = _transposed(site, _window_size(site))
    groups, bias, weight, x = site.attr("group", 1), site.has(2), site.array(1), site.ref(0)
    more = f", output_padding={_numbers(extra)}" if any(extra) else ""
    if weight is None or not site.owned(1, 2):
        tail = f", {site.ref(2, weight=True)}" if bias else ""
        options = _options(window, groups) + more
        call = f"F.conv_transpose{window.rank}d"
        found = f"{call}({x}, {site.ref(1, weight=True)}{tail}{options})"
    else:
        sizes = weight.shape[0], weight.shape[1] * groups
        more += "" if bias else ", bias=False"
        text = _conv_text(f"ConvTranspose{window.rank}d", sizes, window, groups, more)
        found = f"{site.layer(text, 'deconv', _held(site, {'weight': 1, 'bias': 2}))}({x})"
    return f"F.pad({found}, {crop})" if crop else found


def _window_size(site: Site) -> tuple[int, ...]:
    """The size of the kernel of a transposed convolution."""
    return _window(site, (site.shape(1) or ())[2:]).kernel


def _transposed(site: Site, kernel: Sequence[int]) -> tuple[Window, tuple[int, ...], str]:
    """The window, the padding of the output, and what is cropped from it afterwards."""
    rank, ones = len(kernel), (1,) * len(kernel)
    strides, dilations = tuple(site.attr("strides", ones)), tuple(site.attr("dilations", ones))
    extra = tuple(site.attr("output_padding", (0,) * rank))
    wanted, how = site.attr("output_shape"), site.attr("auto_pad", "NOTSET")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = list(site.attr("pads", (0,) * 2 * rank))
    pads = [0] * 2 * rank if how == "VALID" else pads
    if how.startswith("SAME") or wanted is not None:
        pads = _excess(site, [s + e for s, e in zip(spans, extra, strict=True)], strides, wanted)
    begin, end = pads[:rank], pads[rank:]
    low = tuple(max(0, min(p, q)) for p, q in zip(begin, end, strict=True))
    rest = [(p - m, q - m) for p, q, m in zip(begin, end, low, strict=True)]
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        rest = [(p, q - e) for (p, q), e in zip(rest, extra, strict=True)]
        extra = (0,) * rank
    window = Window(tuple(kernel), strides, dilations, low, low)
    crop = ", ".join(str(-n) for pair in reversed(rest) for n in pair)
    return window, extra, f"({crop})" if any(n for pair in rest for n in pair) else ""


def _excess(
    site: Site, spans: Sequence[int], strides: Sequence[int], wanted: Sequence[int] | None
) -> list[int]:
    """The pads that give the size asked for, or a multiple of the operand's."""
    begin, end = [], []
    for axis, (s, span) in enumerate(zip(strides, spans, strict=True)):
        total = span - s
        if wanted is not None:
            size = site.size(0, axis + 2)
            if size is None:
                raise site.refused("its output_shape needs a size that is open")
            total += size * s - wanted[len(wanted) - len(strides) + axis]
        upper = site.attr("auto_pad", "NOTSET") == "SAME_UPPER"
        small, large = total // 2, total - total // 2
        begin.append(small if upper else large)
        end.append(large if upper else small)
    return [*begin, *end]


# Pools


def _max_pool(site: Site) -> Result:
    window, ceil = _pool_window(site), bool(site.attr("ceil_mode", 0))
    if site.wants(1):
        raise site.refused("its second output, the indices")
    if not window.even and ceil:
        raise site.refused("ceil_mode with uneven pads")
    dtype = site.kind()
    least = 'float("-inf")' if dtype.kind not in "iu" else str(np.iinfo(dtype).min)
    x = _padded(site, window, f", value={least}")
    names, more = ("max_pool", "MaxPool"), ", ceil_mode=True" if ceil else ""
    if dtype.kind in "iu" and window.rank == 1:  # torch has none of bytes
        wide = site.let(f"{x}.to(torch.float64)")
        return kept(site, f"F.max_pool1d({wide}, {_pool_text(window)}{more})")
    return _pooled(site, names, window, x, more)


def _pool_window(site: Site) -> Window:
    """The window of a pool; pads wider than half of it are taken before."""
    window = _window(site, site.attr("kernel_shape"))
    wide = any(2 * p > k for p, k in zip(window.begin, window.kernel, strict=True))
    return replace(window, before=wide)


def _pool_text(window: Window) -> str:
    """The arguments of a pool."""
    arguments = [_numbers(window.kernel), f"stride={_numbers(window.strides)}"]
    if window.even and any(window.begin):
        arguments.append(f"padding={_numbers(window.begin)}")
    if set(window.dilations) != {1}:
        arguments.append(f"dilation={_numbers(window.dilations)}")
    return ", ".join(arguments)


def _pooled(site: Site, names: tuple[str, str], window: Window, x: str, more: str) -> Result:
    text = _pool_text(window) + more
    layer = site.module(f"nn.{names[1]}{window.rank}d({text})") if window.even else None
    return f"{layer}({x})" if layer else f"F.{names[0]}{window.rank}d({x}, {text})"


def _average_pool(site: Site) -> Result:
    window, ceil = _pool_window(site), bool(site.attr("ceil_mode", 0))
    if set(window.dilations) != {1}:
        raise site.refused("dilations of an average")
    inside = not site.attr("count_include_pad", 0)
    if window.even:
        more = ", ceil_mode=True" if ceil else ""
        more += ", count_include_pad=False" if inside and (ceil or any(window.begin)) else ""
        return _pooled(site, ("avg_pool", "AvgPool"), window, site.ref(0), more)
    if ceil or (window.automatic and not inside):
        raise site.refused("ceil_mode or auto_pad with uneven pads")
    if inside:
        return _average_inside(site, window)
    return _pooled(site, ("avg_pool", "AvgPool"), window, _padded(site, window), "")


def _average_inside(site: Site, window: Window) -> str:
    """An average of the elements alone: that of the padded operand over that of padded ones."""
    call, x = site.helper("average_pool"), site.ref(0)
    if window.automatic:
        raise site.refused("auto_pad with an open size")
    return f"{call}({x}, {window.kernel}, {window.strides}, {window.pads})"


def _lp_pool(site: Site) -> Result:
    window, p = _window(site, site.attr("kernel_shape")), site.attr("p", 2)
    if set(window.dilations) != {1} or site.attr("ceil_mode", 0):
        raise site.refused("dilations or ceil_mode of a norm")
    pads = any((*window.begin, *window.end))
    x = _padded(site, replace(window, before=pads))
    sizes = f"{_numbers(window.kernel)}, stride={_numbers(window.strides)}"
    count = int(np.prod(window.kernel))
    return f"(F.avg_pool{window.rank}d({x}.abs() ** {p}, {sizes}) * {count}) ** (1 / {p})"


def _global(module: str, function: str) -> Emit:
    def emit(site: Site) -> Result:
        rank = site.rank()
        if rank < 3:  # noqa: PLR2004 - no axis behind the channels
            return site.value(0)
        fits = rank - 2 <= _IMAGE
        layer = site.module(f"nn.{module}{rank - 2}d(1)") if fits else None
        dims = "2" if rank == 3 else f"({', '.join(map(str, range(2, rank)))})"  # noqa: PLR2004
        x = site.ref(0)
        return f"{layer}({x})" if layer else f"{x}.{function}({dims}, keepdim=True)"

    return emit


def _global_norm(site: Site) -> Result:
    dims = tuple(range(2, site.rank()))
    return f"torch.linalg.vector_norm({site.ref(0)}, {site.attr('p', 2)}, {dims}, keepdim=True)"


# Norms


def _epsilon(site: Site) -> str:
    """The argument for epsilon, if it is not what torch takes."""
    eps = site.real("epsilon", 1e-5)
    return "" if eps == "1e-05" else f", eps={eps}"


def _batch_norm(site: Site) -> Result:
    if schema.trains(site.node) or site.attr("spatial", 1) != 1:
        raise site.refused("it is in training mode, or not spatial")
    rank = site.rank()
    if not site.owned(1, 2, 3, 4) or rank - 2 not in range(_IMAGE + 1):
        scale, bias, mean, var = (site.ref(k, weight=k < 3) for k in range(1, 5))  # noqa: PLR2004
        return f"F.batch_norm({site.ref(0)}, {mean}, {var}, {scale}, {bias}{_epsilon(site)})"
    momentum = literal((1 - np.float32(site.attr("momentum", 0.9))).round(6))
    more = _epsilon(site) + ("" if momentum == "0.1" else f", momentum={momentum}")
    tensors = _held(site, {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4})
    tensors["num_batches_tracked"] = (np.zeros((), np.int64), None)
    features = number_mark("features", _array(site, 1).size)
    text = f"nn.BatchNorm{max(rank - 2, 1)}d({features}{more})"
    return f"{site.layer(text, 'norm', tensors)}({site.ref(0)})"


def _instance_norm(site: Site) -> Result:
    rank, x = site.rank() - 2, site.ref(0)
    if _single(site, site.size(0, 1)):
        return _unchecked(site, f"{x}.shape[1]")
    if not site.owned(1, 2) or not 1 <= rank <= _IMAGE:
        weights = f"weight={site.ref(1, weight=True)}, bias={site.ref(2, weight=True)}"
        return f"F.instance_norm({x}, {weights}{_epsilon(site)})"
    features = number_mark("features", _array(site, 1).size)
    text = f"nn.InstanceNorm{rank}d({features}{_epsilon(site)}, affine=True)"
    return f"{site.layer(text, 'norm', _held(site, {'weight': 1, 'bias': 2}))}({x})"


def _single(site: Site, groups: int | None) -> bool:
    """Whether each group that is normalised is one number, which torch's layers refuse."""
    shape = site.shape(0) or ()
    return len(shape) > 1 and shape[1] in {groups, None} and set(shape[2:]) <= {1}


def _unchecked(site: Site, groups: int | str) -> str:
    weights = f"{site.ref(1, weight=True)}, {site.ref(2, weight=True)}"
    return f"torch.group_norm({site.ref(0)}, {groups}, {weights}{_epsilon(site)})"


def _layer_norm(site: Site) -> Result:
    if site.wants(1) or site.wants(2):
        raise site.refused("its outputs besides the first")
    axis, rank = site.axis(-1), site.rank()
    scale = site.array(1)
    if scale is not None and scale.ndim == rank - axis and site.owned(1, 2):
        tensors = _held(site, {"weight": 1, "bias": 2})
        return f"{_normed(site, tensors, _epsilon(site))}({site.ref(0)})"
    shape = f"{site.ref(0)}.shape[{axis}:]"
    if scale is not None and scale.ndim == rank - axis:
        bias = site.ref(2, weight=True) if site.has(2) else "None"
        weights = f"{site.ref(1, weight=True)}, {bias}"
        return f"F.layer_norm({site.ref(0)}, {shape}, {weights}{_epsilon(site)})"
    norm = f"F.layer_norm({site.ref(0)}, {shape}{_epsilon(site)}) * {site.ref(1, weight=True)}"
    return f"{norm} + {site.ref(2, weight=True)}" if site.has(2) else norm


def _normed(site: Site, tensors: Tensors, more: str, nodes: Sequence[Node] = ()) -> str:
    """A layer norm of the shape of its weight."""
    shape = tensors["weight"][0].shape
    size = number_mark("features", shape[0]) if len(shape) == 1 else str(shape)
    bias = "" if "bias" in tensors else ", bias=False"
    return site.layer(f"nn.LayerNorm({size}{more}{bias})", "norm", tensors, nodes)


def _rms_norm(site: Site) -> Result:
    axis, scale = site.axis(-1), site.array(1)
    more = f", eps={site.real('epsilon', 1e-5)}"
    if scale is not None and scale.ndim == site.rank() - axis and site.owned(1):
        size = number_mark("features", scale.size) if scale.ndim == 1 else str(scale.shape)
        text = f"nn.RMSNorm({size}{more})"
        return f"{site.layer(text, 'norm', _held(site, {'weight': 1}))}({site.ref(0)})"
    x = site.ref(0)
    return f"F.rms_norm({x}, {x}.shape[{axis}:]{more}) * {site.ref(1, weight=True)}"


def _group_norm(site: Site) -> Result:
    groups, scale, x = site.attr("num_groups"), site.array(1), site.ref(0)
    if site.version < 21:  # noqa: PLR2004 - one scale for each group
        norm = f"F.group_norm({x}, {groups}{_epsilon(site)}).unflatten(1, ({groups}, -1))"
        line = _lined(site.rank() - 1)
        return f"({site.let(norm)} * {site.ref(1)}{line} + {site.ref(2)}{line}).reshape({x}.shape)"
    if _single(site, groups):
        return _unchecked(site, groups)
    if scale is None or not site.owned(1, 2):
        weights = f"{site.ref(1, weight=True)}, {site.ref(2, weight=True)}"
        return f"F.group_norm({x}, {groups}, {weights}{_epsilon(site)})"
    channels = number_mark("channels", scale.size)
    text = f"nn.GroupNorm({groups}, {channels}{_epsilon(site)})"
    return f"{site.layer(text, 'norm', _held(site, {'weight': 1, 'bias': 2}))}({x})"


def _local_response(site: Site) -> Result:
    size = site.attr("size")
    if size % 2 == 0:
        raise site.refused("an even size")
    given = (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    numbers = ", ".join(site.real(n, default) for n, default in given)
    if site.rank() == 2:  # noqa: PLR2004 - no axis behind the channels
        return f"F.local_response_norm({site.ref(0)}[..., None], {size}, {numbers})[..., 0]"
    return f"F.local_response_norm({site.ref(0)}, {size}, {numbers})"


# Matrices


def _gemm(site: Site) -> Result:
    weight, alpha, beta = site.array(1), site.attr("alpha", 1.0), site.attr("beta", 1.0)
    turned = bool(site.attr("transB", 0))
    usual = alpha == beta == 1 and not site.attr("transA", 0) and weight is not None
    if usual and weight is not None and site.owned(1) and _is_bias(site, weight):
        bias = site.value(2) if site.has(2) else None
        return f"{_linear(site, bias, turned=turned)}({site.ref(0)})"
    a = site.ref(0) + (".T" if site.attr("transA", 0) else "")
    b = site.ref(1, weight=True) + (".T" if turned else "")
    product = f"{a} @ {b}" if alpha == 1 else f"{site.real('alpha', 1.0)} * ({a} @ {b})"
    if site.has(2) and beta != 0:
        c = site.ref(2, weight=True)
        product += f" + {c}" if beta == 1 else f" + {site.real('beta', 1.0)} * {c}"
    return product if alpha == beta == 1 else kept(site, product)


def _is_bias(site: Site, weight: Array) -> bool:
    """Whether the third operand of a Gemm is none, or one number for each output."""
    if not site.has(2):
        return True
    bias, width = site.array(2), weight.shape[0 if site.attr("transB", 0) else 1]
    return bias is not None and bias.shape == (width,) and site.owned(1, 2)


def _linear(site: Site, bias: Value | None, *, turned: bool, nodes: Sequence[Node] = ()) -> str:
    """A linear layer with operand 1 as its weight, which torch holds output by input."""
    weight = _array(site, 1)
    held = weight if turned else np.ascontiguousarray(weight.T)
    tensors: Tensors = {"weight": (held, site.value(1))}
    if bias is not None:
        tensors["bias"] = (site.scene.constants[site.scene.resolve(bias)][0], bias)
    outputs, inputs = held.shape
    sizes = f"{number_mark('in_features', inputs)}, {number_mark('out_features', outputs)}"
    more = "" if bias is not None else ", bias=False"
    return site.layer(f"nn.Linear({sizes}{more})", "linear", tensors, nodes)


def _matmul(site: Site) -> Result:
    """A linear layer where the second operand is a matrix of weights; a bias added is its own."""
    weight, rank = site.array(1), site.maybe_rank()
    matrix = weight is not None and weight.ndim == 2 and weight.dtype.kind in "fV"  # noqa: PLR2004
    if weight is None or not matrix or not site.owned(1) or rank is None or rank < 2:  # noqa: PLR2004
        return f"{site.ref(0)} @ {site.ref(1, weight=True)}"
    add, bias = _added(site, weight.shape[1])
    if add is None:
        return f"{_linear(site, None, turned=False)}({site.ref(0)})"
    layer = _linear(site, bias, turned=False, nodes=[add])
    site.fused([add], add)
    return f"{layer}({site.ref(0)})"


def _added(site: Site, width: int) -> tuple[Node | None, Value | None]:
    """The Add that alone reads the product, and its other operand, if that is a vector."""
    product, scene = site.node.outputs[0], site.scene
    readers = scene.readers(product)
    if scene.graph.uses[product] != 1 or [r.op for r in readers] != [ops.Add]:
        return None, None
    (add,) = readers
    other = scene.resolve(add.inputs[0 if add.inputs[1] is product else 1])
    held = other.node.attrs["value"] if other.node and other.node.op == ops.Const else None
    fits = held is not None and other.type.static == (width,) and other in scene.constants
    return (add, other) if fits and site.owns(other) and "axis" not in add.attrs else (None, None)


def _prelu(site: Site) -> Result:
    slope, x = site.array(1), site.ref(0)
    floating = site.kind().kind in "fV"
    if slope is not None and floating and site.owned(1) and _is_lined(site, slope):
        size = slope.size
        text = f"nn.PReLU({'' if size == 1 else number_mark('features', size)})"
        tensors: Tensors = {"weight": (slope.reshape(-1), site.value(1))}
        return f"{site.layer(text, 'prelu', tensors)}({x})"
    return f"torch.where({x} < 0, {x} * {site.ref(1, weight=True)}, {x})"


def _is_lined(site: Site, slope: Array) -> bool:
    """Whether the slopes of a PRelu are one, or one for each channel."""
    rank = site.rank()
    if slope.size == 1 or rank == 1:
        return slope.size == 1 and slope.ndim <= rank
    old = site.version < 7 and slope.ndim == 1  # noqa: PLR2004 - broadcast to the channels
    shape = (1,) * (rank - slope.ndim) + slope.shape
    return old or (len(shape) == rank and shape[1] == slope.size)


# Recurrent layers

_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_USUAL = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}


def _folded(site: Site, place: int) -> Array:
    array = site.folded(place)
    assert array is not None
    return array


def _recurrent(site: Site) -> Result:
    kind, direction = site.node.op.name, site.attr("direction", "forward")
    many = 2 if direction == "bidirectional" else 1
    _refuse_odd(site, kind, many)
    if any(site.has(k) and site.folded(k) is None for k in (1, 2, 3)):
        raise site.refused("its weights are not constant")
    inputs, hidden = _folded(site, 1).shape[2], _folded(site, 2).shape[2]
    more = "" if site.has(3) else ", bias=False"
    more += ", bidirectional=True" if many > 1 else ""
    relu = "relu" in _activations(site)
    more += ', nonlinearity="relu"' if relu else ""
    tensors = _recurrent_tensors(site, kind, many)
    layer = site.layer(f"nn.{kind}({inputs}, {hidden}{more})", kind.lower(), tensors)
    return _recurrent_call(site, layer, kind, many)


def _activations(site: Site) -> tuple[str, ...]:
    return tuple(a.lower() for a in site.attr("activations", ()))


def _refuse_odd(site: Site, kind: str, many: int) -> None:
    """Refuse what torch's layers do not do."""
    given = _activations(site)
    if given and given != _USUAL[kind] * many and not (kind == "RNN" and set(given) == {"relu"}):
        raise site.refused(f"activations {', '.join(given)}")
    if kind == "GRU" and not site.attr("linear_before_reset", 0):
        raise site.refused("linear_before_reset=0")
    odd = next((name for name in ("clip", "input_forget") if site.attr(name)), None)
    lengths = site.array(4)
    whole = lengths is not None and bool((lengths == site.size(0, 0)).all())
    odd = odd or ("sequence_lens" if site.has(4) and not whole else None)
    odd = odd or ("peepholes" if site.has(7) else None)
    if odd:
        raise site.refused(odd)


def _recurrent_tensors(site: Site, kind: str, many: int) -> Tensors:
    """The weights of each way, their gates in torch's order."""
    parts = {"weight_ih": (_folded(site, 1), 1), "weight_hh": (_folded(site, 2), 2)}
    if site.has(3):
        first, second = np.split(_folded(site, 3), 2, 1)
        parts |= {"bias_ih": (first, 3), "bias_hh": (second, 3)}
    tensors: Tensors = {}
    for way in range(many):
        for name, (array, place) in parts.items():
            gates = np.split(array[way], len(_GATES[kind]), 0)
            turned = np.concatenate([gates[g] for g in _GATES[kind]])
            tensors[f"{name}_l0{'_reverse' * way}"] = (turned, site.value(place))
    return tensors


def _recurrent_call(site: Site, layer: str, kind: str, many: int) -> Result:
    """The call of the layer; ONNX keeps the ways apart where torch puts one behind the other."""
    last, reverse = bool(site.attr("layout", 0)), site.attr("direction") == "reverse"
    x = site.ref(0)
    x = site.let(f"{x}.transpose(0, 1)") if last else x
    x = site.let(f"{x}.flip(0)") if reverse else x
    state = _state(site, kind, last=last)
    pattern = "{}, ({}, {})" if kind == "LSTM" else "{}, {}"
    found = site.lets(f"{layer}({x}{state})", 3 if kind == "LSTM" else 2, pattern)
    y = f"{found[0]}.flip(0)" if reverse else found[0]
    split = f"{y}.unsqueeze(1)" if many == 1 else f"{y}.unflatten(-1, (2, -1)).transpose(1, 2)"
    first = f"{split}.permute(2, 0, 1, 3)" if last else split
    states: list[str] = [f"{f}.transpose(0, 1)" if last else f for f in found[1:]]
    return [first, *states][: site.node.arity]


def _state(site: Site, kind: str, *, last: bool) -> str:
    """The arguments for the states that it starts from."""
    given = {k: site.ref(k) for k in (5, 6) if site.has(k)}
    if last:
        given = {k: site.let(f"{g}.transpose(0, 1)") for k, g in given.items()}
    if not given:
        return ""
    if kind != "LSTM":
        return f", {given[5]}"
    zeros = f"torch.zeros_like({next(iter(given.values()))})"
    return f", ({given.get(5, zeros)}, {given.get(6, zeros)})"


def _attention(site: Site) -> Result:
    if site.wants(3):
        raise site.refused("its scores as an output")
    flat = site.rank() == 3  # noqa: PLR2004 - (batch, tokens, heads times size)
    refs, kv = [site.ref(k) for k in range(3)], site.attr("kv_num_heads")
    counts = (site.attr("q_num_heads"), kv, kv)
    if flat:
        pairs = zip(refs, counts, strict=True)
        refs = [site.let(f"{r}.unflatten(-1, ({n}, -1)).transpose(1, 2)") for r, n in pairs]
    if site.has(4):
        past = zip((4, 5), refs[1:], strict=True)
        refs[1:] = [site.let(f"torch.cat([{site.ref(k)}, {r}], 2)") for k, r in past]
    options = _attention_options(site)
    if options is None:
        shared = counts[0] != kv if flat else site.size(0, 1) != site.size(1, 1)
        found = f"F.scaled_dot_product_attention({', '.join(refs)}{_usual(site, shared=shared)})"
    else:
        found = f"{site.helper('attention')}({', '.join(refs)}{options})"
    return [f"{found}.transpose(1, 2).flatten(2)" if flat else found, *refs[1:]][: site.node.arity]


def _usual(site: Site, *, shared: bool) -> str:
    """What torch's own attention is told."""
    scale = site.attr("scale")
    options = f", attn_mask={site.ref(3)}" if site.has(3) else ""
    options += ", is_causal=True" if site.attr("is_causal", 0) else ""
    options += f", scale={site.real('scale')}" if scale is not None else ""
    return options + (", enable_gqa=True" if shared else "")


def _attention_options(site: Site) -> str | None:
    """What a function of our own is told where torch's attention has no form of it."""
    causal, scale = site.attr("is_causal", 0), site.attr("scale")
    softcap = site.attr("softcap", 0.0)
    window = [site.attr(f"{side}_window_size", -1) for side in ("left", "right")]
    window[1] = 0 if causal else window[1]
    short = site.has(3) and site.size(3, -1) not in {site.size(1, -2), None}
    odd = softcap or short or site.has(6) or (causal and (site.has(3) or site.has(4)))
    if not odd and window in ([-1, -1], [-1, 0] if causal else []):
        return None
    shown = ", ".join("None" if n < 0 else str(n) for n in window)
    options = {
        "mask": site.ref(3) if site.has(3) else "",
        "scale": site.real("scale") if scale is not None else "",
        "softcap": site.real("softcap") if softcap else "",
        "window": "" if window == [-1, -1] else f"({shown})",
        "before": f"{site.ref(4)}.shape[2]" if site.has(4) else "",
        "ends": site.ref(6) if site.has(6) else "",
    }
    return "".join(f", {name}={text}" for name, text in options.items() if text)


# Quantised convolutions


def _conv_integer(site: Site) -> Result:
    return f"{_exact_conv(site, (0, 2), (1, 3))}.to(torch.int32)"


def _qlinear_conv(site: Site) -> Result:
    product, behind = _exact_conv(site, (0, 2), (3, 5)), site.rank(3) - 2
    if site.has(8):
        product = f"({product} + {site.ref(8)}{_lined(behind)})"
    scales = (vector(site, 1, 0), vector(site, 4, behind), vector(site, 6, 0))
    return requantized(site, product, scales, 7)


def _exact_conv(site: Site, x: tuple[int, int], w: tuple[int, int]) -> str:
    """The sums of products of whole numbers, in float64."""
    window, groups = _window(site, (site.shape(w[0]) or ())[2:]), site.attr("group", 1)
    operand, weight = exact(site, *x), exact(site, *w, window.rank + 1)
    if window.automatic:
        raise site.refused("auto_pad with an open size")
    if not window.even:
        operand = site.let(f"F.pad({operand}, {window.pads})")
    return f"F.conv{window.rank}d({operand}, {weight}{_options(window, groups)})"


TABLE: dict[str, Emit] = {
    "Attention": _attention,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvInteger": _conv_integer,
    "ConvTranspose": _conv_transpose,
    "GRU": _recurrent,
    "Gemm": _gemm,
    "GlobalAveragePool": _global("AdaptiveAvgPool", "mean"),
    "GlobalLpPool": _global_norm,
    "GlobalMaxPool": _global("AdaptiveMaxPool", "amax"),
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response,
    "LSTM": _recurrent,
    "LayerNormalization": _layer_norm,
    "LpPool": _lp_pool,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "PRelu": _prelu,
    "QLinearConv": _qlinear_conv,
    "RMSNormalization": _rms_norm,
    "RNN": _recurrent,
}
