"""Tensors of PyTorch as arrays and back, in every element type that both have."""

from __future__ import annotations

from typing import Any

import numpy as np

from redir.ir.tensor import Array, DType, dtype_named

try:
    import torch
except ImportError:  # the extra is optional
    torch = None


def to_array(tensor: Any) -> Array:
    """The numbers of a dense tensor, as a view where that is possible.

    Raises:
        TypeError: numpy has no such element type.
    """
    dense = tensor.detach().cpu().resolve_conj().resolve_neg()
    dtype = dtype_named(str(dense.dtype).removeprefix("torch."))
    if _is_native(dtype):
        array: Array = dense.numpy()
        return array
    same_size = {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
    viewed: Array = dense.view(same_size).numpy().view(dtype)
    return viewed


def to_tensor(array: Array) -> Any:
    """A copy of ``array`` as a tensor."""
    held = np.array(array)
    if _is_native(held.dtype):
        return torch.from_numpy(held)
    same_size = {1: np.uint8, 2: np.int16}[held.dtype.itemsize]
    return torch.from_numpy(held.view(same_size)).view(getattr(torch, held.dtype.name))


def _is_native(dtype: DType) -> bool:
    """Whether numpy has the element type itself, and not from an extension."""
    return dtype.isbuiltin == 1
