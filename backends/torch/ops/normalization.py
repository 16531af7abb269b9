"""What norms become in PyTorch: layers where they can."""

from __future__ import annotations

import numpy as np

from redir.backends.torch.emit.literals import literal
from redir.backends.torch.emit.site import Emit, Result, Site, Tensors
from redir.backends.torch.emit.text import number_mark
from redir.backends.torch.ops.windows import IMAGE, lined
from redir.ir.tensor import Array
from redir.ops import schema


def _epsilon(site: Site) -> str:
    """The argument for epsilon, if it is not what torch takes."""
    eps = site.real("epsilon", 1e-5)
    return "" if eps == "1e-05" else f", eps={eps}"


def _features(scale: Array) -> str:
    """The sizes that a norm with this scale is over, as an argument of its layer."""
    return str(number_mark("features", scale.size) if scale.ndim == 1 else scale.shape)


def _affine(site: Site, *places: int) -> str:
    """The weights of a norm as arguments of a function."""
    return ", ".join(site.ref(k, weight=True) for k in places)


def _batch_norm(site: Site) -> Result:
    if schema.trains(site.node) or site.attr("spatial", 1) != 1:
        raise site.refused("it is in training mode, or not spatial")
    rank, scale = site.rank(), site.array(1)
    if scale is None or not site.owned(1, 2, 3, 4) or rank - 2 not in range(IMAGE + 1):
        weights, bias, mean, var = (site.ref(k, weight=k < 3) for k in range(1, 5))  # noqa: PLR2004
        return f"F.batch_norm({site.ref(0)}, {mean}, {var}, {weights}, {bias}{_epsilon(site)})"
    momentum = literal((1 - np.float32(site.attr("momentum", 0.9))).round(6))
    more = _epsilon(site) + ("" if momentum == "0.1" else f", momentum={momentum}")
    text = f"nn.BatchNorm{max(rank - 2, 1)}d({_features(scale)}{more})"
    tensors: Tensors = {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4}
    tensors["num_batches_tracked"] = (np.zeros((), np.int64), None)
    return f"{site.layer(text, 'norm', tensors)}({site.ref(0)})"


def _instance_norm(site: Site) -> Result:
    rank, x, scale = site.rank() - 2, site.ref(0), site.array(1)
    if _single(site, site.size(0, 1)):
        return f"torch.group_norm({x}, {x}.shape[1], {_affine(site, 1, 2)}{_epsilon(site)})"
    if scale is None or not site.owned(1, 2) or not 1 <= rank <= IMAGE:
        weights = f"weight={site.ref(1, weight=True)}, bias={site.ref(2, weight=True)}"
        return f"F.instance_norm({x}, {weights}{_epsilon(site)})"
    text = f"nn.InstanceNorm{rank}d({_features(scale)}{_epsilon(site)}, affine=True)"
    return f"{site.layer(text, 'norm', {'weight': 1, 'bias': 2})}({x})"


def _single(site: Site, groups: int | None) -> bool:
    """Whether each group that is normalised is one number, which torch's layers refuse."""
    shape = site.shape(0) or ()
    return len(shape) > 1 and shape[1] in {groups, None} and set(shape[2:]) <= {1}


def _layer_norm(site: Site) -> Result:
    if site.wants(1) or site.wants(2):
        raise site.refused("its outputs besides the first")
    axis, scale, more = site.axis(-1), site.array(1), _epsilon(site)
    fits = scale is not None and scale.ndim == site.rank() - axis
    if scale is not None and fits and site.owned(1, 2):
        text = f"nn.LayerNorm({_features(scale)}{more}{'' if site.has(2) else ', bias=False'})"
        return f"{site.layer(text, 'norm', {'weight': 1, 'bias': 2})}({site.ref(0)})"
    call = f"F.layer_norm({site.ref(0)}, {site.ref(0)}.shape[{axis}:]"
    if fits:
        bias = site.ref(2, weight=True) if site.has(2) else "None"
        return f"{call}, {site.ref(1, weight=True)}, {bias}{more})"
    norm = f"{call}{more}) * {site.ref(1, weight=True)}"
    return f"{norm} + {site.ref(2, weight=True)}" if site.has(2) else norm


def _rms_norm(site: Site) -> Result:
    if site.wants(1):
        raise site.refused("its output besides the first")
    axis, scale = site.axis(-1), site.array(1)
    more = f", eps={site.real('epsilon', 1e-5)}"
    if scale is not None and scale.ndim == site.rank() - axis and site.owned(1):
        text = f"nn.RMSNorm({_features(scale)}{more})"
        return f"{site.layer(text, 'norm', {'weight': 1})}({site.ref(0)})"
    x = site.ref(0)
    return f"F.rms_norm({x}, {x}.shape[{axis}:]{more}) * {site.ref(1, weight=True)}"


def _group_norm(site: Site) -> Result:
    groups, scale, x, more = site.attr("num_groups"), site.array(1), site.ref(0), _epsilon(site)
    single = _single(site, groups)
    call = f"{'torch' if single else 'F'}.group_norm({x}, {groups}"
    if site.version < 21:  # noqa: PLR2004 - one scale for each group
        norm = site.let(f"{call}{more}).unflatten(1, ({groups}, -1))")
        line = lined(site.rank() - 1)
        return f"({norm} * {site.ref(1)}{line} + {site.ref(2)}{line}).reshape({x}.shape)"
    if single or scale is None or not site.owned(1, 2):
        return f"{call}, {_affine(site, 1, 2)}{more})"
    text = f"nn.GroupNorm({groups}, {number_mark('channels', scale.size)}{more})"
    return f"{site.layer(text, 'norm', {'weight': 1, 'bias': 2})}({x})"


def _local_response(site: Site) -> Result:
    size = site.attr("size")
    if size % 2 == 0:
        raise site.refused("an even size")
    given = (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    numbers = ", ".join(site.real(n, default) for n, default in given)
    if site.rank() == 2:  # noqa: PLR2004 - no axis behind the channels
        return f"F.local_response_norm({site.ref(0)}[..., None], {size}, {numbers})[..., 0]"
    return f"F.local_response_norm({site.ref(0)}, {size}, {numbers})"


TABLE: dict[str, Emit] = {
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "SimplifiedLayerNormalization": _rms_norm,
}
