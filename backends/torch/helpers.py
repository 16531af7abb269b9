"""Functions that written files hold where PyTorch has no one call for an ONNX operator.

A file gets a copy of those it needs: each must do with torch, nn and F alone.
"""
# ruff: noqa: ANN001, ANN002, ANN201, PLR0913, PLR0917 - they are read in files without annotations
# mypy: ignore-errors

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it


def backwards(x, dim, start, stop, step):
    """``x[start:stop:step]`` along ``dim`` for a step below zero."""
    index = range(x.shape[dim])[
        slice(int(start), None if stop < -x.shape[dim] else int(stop), step)
    ]
    return x.index_select(dim, torch.tensor(list(index), dtype=torch.int64, device=x.device))


def attention(
    q, k, v, mask=None, scale=None, softcap=0.0, window=(None, None), before=0, ends=None
):
    """Attention to the keys that each query may see: in the mask, the window, and before the ends.

    The first query stands at place ``before`` of the keys; ``window`` is how many keys left and
    right of it may be seen. Who sees none gets zeros.
    """
    if ends is not None:
        ends = ends.reshape(-1, 1, 1, 1)
        before = ends - q.shape[2]
    keys = torch.arange(k.shape[2], device=q.device)
    place = torch.arange(q.shape[2], device=q.device)[:, None] + before
    hidden = torch.zeros_like(place - keys, dtype=torch.bool)
    hidden = hidden if window[0] is None else hidden | (keys < place - window[0])
    hidden = hidden if window[1] is None else hidden | (keys > place + window[1])
    hidden = hidden if ends is None else hidden | (keys >= ends)
    bias = torch.zeros_like(hidden, dtype=q.dtype).masked_fill(hidden, float("-inf"))
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, float("-inf"))
        bias = bias + F.pad(mask, (0, k.shape[2] - mask.shape[-1]), value=float("-inf"))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = softcap * torch.tanh(scores / softcap) if softcap else scores
    shares = torch.softmax(scores + bias, -1)
    return shares.masked_fill(bias.amax(-1, keepdim=True) == float("-inf"), 0.0) @ v


def average_pool(x, kernel, stride, pads):
    """Average under each window, of the elements of ``x`` alone, not of its padding."""
    pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
    ones = torch.ones_like(x[:1, :1])
    return pool(F.pad(x, pads), kernel, stride) / pool(F.pad(ones, pads), kernel, stride)


def dynamic_quantize(x):
    """``x`` in whole numbers from 0 to 255, with their scale and zero point."""
    low, high = torch.clamp(x.amin(), max=0.0), torch.clamp(x.amax(), min=0.0)
    scale = (high - low) / 255
    zero = torch.clamp(torch.round(-low / scale), 0, 255)
    y = torch.clamp(torch.round(x / scale) + zero, 0, 255)
    return y.to(torch.uint8), scale, zero.to(torch.uint8)


def expand(x, sizes):
    """``x`` broadcast together with a tensor of ``sizes``."""
    return x.broadcast_to(torch.broadcast_shapes(x.shape, tuple(sizes)))


def fixed(*arguments):
    """Refuse an argument other than the one that the network was read with."""
    for name, given, known in arguments:
        if given is not known and (isinstance(given, torch.Tensor) or given != known):
            raise ValueError(
                f"{name}: the network was read with {known!r} here, and takes no other"
            )


def gather_nd(x, index, batch):
    """The slices of ``x`` at each row of ``index``, behind ``batch`` axes that both have."""
    if batch:
        return torch.stack([gather_nd(a, b, batch - 1) for a, b in zip(x, index, strict=True)])
    return x[tuple(index.unbind(-1))]


def loop(body, trips, go, state, *captured, empty=()):
    """Repeat ``body``, and stack what it gives besides the state: ``empty`` if it never runs."""
    count, rows = 0, []
    while go and (trips is None or count < trips):
        step = torch.tensor(count)
        go, *out = body(step, torch.as_tensor(go), *state, *captured)
        state, more = out[: len(state)], out[len(state) :]
        rows.append(more)
        count += 1
    columns = zip(*rows, strict=True)
    return *state, *([torch.stack(column) for column in columns] if rows else empty)


def one_hot(index, depth, dim):
    """Whether each place along a new axis ``dim`` is the index; one below 0 counts from the end."""
    dim = dim % (index.dim() + 1)
    places = torch.arange(depth, device=index.device)
    index = torch.where(index < 0, index + depth, index)
    return index.unsqueeze(dim) == places.reshape([-1] + [1] * (index.dim() - dim))


def pad(x, pads, value, dims=None):
    """``x`` with ``pads`` before each of ``dims`` and then behind each."""
    dims = range(x.dim()) if dims is None else [k % x.dim() for k in dims]
    before = dict(zip(dims, pads[: len(pads) // 2], strict=True))
    behind = dict(zip(dims, pads[len(pads) // 2 :], strict=True))
    order = range(x.dim() - 1, -1, -1)
    return F.pad(x, [n for k in order for n in (before.get(k, 0), behind.get(k, 0))], value=value)


def pad_axis(x, dim, before, behind, mode):
    """``x`` longer along ``dim``: by its edge, its mirror image, or what is at the other end."""
    size = x.shape[dim]
    index = torch.arange(-before, size + behind, device=x.device)
    if mode == "wrap":
        index = index % size
    elif mode == "edge":
        index = index.clamp(0, size - 1)
    else:
        period = max(2 * (size - 1), 1)
        index = size - 1 - (index % period - (size - 1)).abs()
    return x.index_select(dim, index)


def reshape(x, sizes):
    """``x`` in another shape; a size of 0 stands for that of ``x``."""
    return x.reshape([x.shape[k] if n == 0 else n for k, n in enumerate(sizes)])


def resize(x, dim, mode, coordinates, rounding, cubic=-0.75, scale=None, size=None):
    """``x`` interpolated along ``dim``, at the places that ONNX calls ``coordinates``."""
    old = x.shape[dim]
    size = int(old * scale) if size is None else int(size)
    scale = size / old if scale is None else scale
    place = torch.arange(size, dtype=torch.float32, device=x.device)
    if coordinates == "align_corners":
        place = place * (old - 1) / max(size - 1, 1)
    elif coordinates == "asymmetric":
        place = place / scale
    elif coordinates == "pytorch_half_pixel" and size == 1:
        place = place * 0
    else:
        place = (place + 0.5) / scale - 0.5
    if mode == "nearest":
        near = {
            "floor": place.floor(),
            "ceil": place.ceil(),
            "simple": place.ceil() if scale < 1 else place.floor(),
            "round_prefer_floor": (place - 0.5).ceil(),
            "round_prefer_ceil": (place + 0.5).floor(),
        }
        return x.index_select(dim, near[rounding].long().clamp(0, old - 1))
    low, reach = place.floor(), 1 if mode == "linear" else 2
    total, shape = 0, [-1] + [1] * (x.dim() - dim - 1)
    for shift in range(1 - reach, 1 + reach):
        away = (place - low - shift).abs()
        if mode == "linear":
            weight = 1 - away
        else:
            near = ((cubic + 2) * away - (cubic + 3)) * away * away + 1
            far = ((cubic * away - 5 * cubic) * away + 8 * cubic) * away - 4 * cubic
            weight = torch.where(away <= 1, near, far)
        part = x.index_select(dim, (low + shift).long().clamp(0, old - 1))
        total = total + part * weight.to(x.dtype).reshape(shape)
    return total


def resize_all(x, scales, *options):
    """``x`` interpolated along each of its axes."""
    for dim, scale in enumerate(scales):
        if scale != 1:
            x = resize(x, dim, *options, scale=scale)
    return x


def rotary(x, cos, sin, *, neighbours):
    """``x`` with the first channels of each head turned in pairs, by the angles of each place.

    It is (batch, heads, length, channels), and angles are (batch, length, pairs). The two of a pair
    are neighbours, or stand half of the turned channels apart.
    """
    turned, rest = x.split((2 * cos.shape[-1], x.shape[-1] - 2 * cos.shape[-1]), -1)
    a, b = (turned[..., ::2], turned[..., 1::2]) if neighbours else turned.chunk(2, -1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    pair = (a * cos - b * sin, a * sin + b * cos)
    turned = torch.stack(pair, -1).flatten(-2) if neighbours else torch.cat(pair, -1)
    return torch.cat((turned, rest), -1)


def same_pad(x, kernel, stride, dilation, lower, value=0.0):
    """``x`` padded so that a window of ``stride`` gives one result for each ``stride`` elements."""
    pads = []
    for n, k, s, d in zip(
        reversed(x.shape[2:]), kernel[::-1], stride[::-1], dilation[::-1], strict=True
    ):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pads += [total - total // 2, total // 2] if lower else [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


def scatter_nd(x, index, updates, *, accumulate=False):
    """A copy of ``x`` with ``updates`` at each row of ``index``."""
    return x.index_put(tuple(index.unbind(-1)), updates, accumulate)


def seen(mask, keys):
    """Which keys (batch, length, channels) a mask shows: scores of heads are broadcast with that.

    It may be 0 where a key is hidden, or say behind which key an example ends, and then before
    which one it starts, or where packed ones begin.
    """
    if mask.dim() > 1:
        return (mask > 0).reshape(mask.shape[0], 1, -1, mask.shape[-1])
    places, batch = torch.arange(keys.shape[1], device=keys.device), keys.shape[0]
    shown = places < mask[:batch, None]
    if mask.shape[0] == 2 * batch:
        shown = shown & (places >= mask[batch:, None])
    return shown[:, None, None]


def top_k(x, count, dim, *, largest):
    """The ``count`` largest or smallest elements and their places; of equal ones the first."""
    values, places = torch.sort(x, dim=dim, descending=largest, stable=True)
    return values.narrow(dim, 0, count), places.narrow(dim, 0, count)


def unpack(held, state):
    """The tensors of ``held`` by name, those in palettes as tensors like those of ``state``."""
    found = {name: tensor for name, tensor in held.items() if name in state}
    for name in state.keys() - found.keys():
        places, palette = held[f"{name}.packed"], held[f"{name}.palette"]
        bits = next(b for b in (1, 2, 4, 8) if len(palette) <= 2**b)
        shifts = torch.arange(8 - bits, -1, -bits, device=places.device)
        each = places.long()[:, None] >> shifts & 2**bits - 1
        found[name] = palette[each.flatten()[: state[name].numel()]].view(state[name].shape)
    return found
