"""Gradients of what a language model says by what flows in it, by PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from redir.errors import MissingExtra, Unsupported
from redir.io.models import to_torch
from redir.ir import Graph, Value
from redir.ir.tensor import Array
from redir.statistics.written import LEAST, are_probabilities

try:
    import torch
except ImportError:  # the extra is optional
    if not TYPE_CHECKING:
        torch = None


class Slopes:
    """Slopes of the likelihood of words, as ``logits`` of a graph tell them, by some ``values``.

    Raises:
        MissingExtra: torch is not installed.
        Unsupported: an operator has no form in PyTorch.
    """

    def __init__(self, graph: Graph, logits: str, values: Sequence[Value]) -> None:
        if torch is None:
            raise MissingExtra("gradients", "torch")
        self.values = list(values)
        shown = {f"{logits} {number}": value for number, value in enumerate(self.values)}
        outputs = {logits: graph.outputs[logits], **shown}
        self.inputs, self.module = list(graph.inputs), to_torch(replace(graph, outputs=outputs))

    def of(
        self, inputs: Mapping[str, Array], rng: np.random.Generator
    ) -> tuple[int, Mapping[Value, tuple[Array, Array]]]:
        """How many words are told for some inputs; what each value is, and the slope by it.

        The slope is that of the sum over all places of the logarithm of the probability of the next
        word, where this is drawn by what the model says: the mean of products of slopes is the
        Fisher matrix.

        Raises:
            Unsupported: what the model tells is no number.
        """
        given = [torch.tensor(inputs[name]) for name in self.inputs if name in inputs]
        found = self.module(*given)
        logits, *held = found.values() if isinstance(found, dict) else found
        told = _told(logits.float()).flatten(0, -2)
        drawn = torch.Generator().manual_seed(int(rng.integers(2**32)))
        words = torch.multinomial(told.detach().exp(), 1, generator=drawn)
        slopes = _graded(told.gather(1, words).sum(), held)
        arrays = ((v.detach().numpy(), s.numpy()) for v, s in zip(held, slopes, strict=True))
        return len(told), dict(zip(self.values, arrays, strict=True))


def _told(logits: Any) -> Any:
    """The logarithms of probabilities, by logits: a few models tell how likely each word is."""
    held = logits.detach()
    if not torch.isfinite(held.amax()):
        raise Unsupported("what the model tells is no number")
    if are_probabilities(held.numpy()):
        return logits.clamp_min(LEAST).log()
    return torch.log_softmax(logits, -1)


def _graded(total: Any, held: Sequence[Any]) -> Sequence[Any]:
    """The gradients of a sum by tensors, 0 where it does not hang on one."""
    free = [tensor for tensor in held if tensor.requires_grad]
    if not (free and total.requires_grad):
        return [torch.zeros_like(tensor) for tensor in held]
    options = {"allow_unused": True, "materialize_grads": True}
    found = dict(zip(map(id, free), torch.autograd.grad(total, free, **options), strict=True))
    return [found.get(id(tensor), torch.zeros_like(tensor)) for tensor in held]
