"""Training a PyTorch module towards fewer channels, which ``prune`` then removes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from redir.channels.coupling import Coupling
from redir.importance import Evidence, Family, families, scored
from redir.importance.dependency import DAFP
from redir.io.models import from_module
from redir.ir import Graph, Value
from redir.ir.builtin import tensor_of
from redir.ir.rewriter import map_constants
from redir.ir.tensor import Tensor

if TYPE_CHECKING:
    from torch import nn

__all__ = ["DynamicSparsity", "Epoch"]


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: the ``share`` of channels that are asleep, and the ``rate`` then."""

    share: float
    rate: float


class DynamicSparsity:
    """Puts channels to sleep while a module trains, as many as are wanted at the end.

    The sparsity control of dependency-aware pruning (Zhao et al., 2020): a penalty draws the scales
    of norms towards 0, and its rate rises by ``step`` after an epoch in which fewer channels fell
    asleep than must, and falls again where there are more than wanted. A channel is asleep whose
    score by ``dafp`` is at most ``small`` times the greatest of its family. ``args`` and ``kwargs``
    are inputs of the module, by which it is read once.
    """

    def __init__(
        self,
        module: nn.Module,
        args: Any,
        kwargs: Mapping[str, Any] | None = None,
        *,
        sparsity: float,
        epochs: int,
        step: float = 1e-5,
        small: float = 0.02,
    ) -> None:
        """Start with no penalty."""
        self.module, self._graph = module, _read(module, args, kwargs)
        self.sparsity, self.epochs, self.step, self.small = sparsity, epochs, step, small
        self.rate, self.history = 0.0, list[Epoch]()
        parameters = dict(module.named_parameters())
        self._turned = dict(_turned(self._graph, parameters))
        names = [name for family in self._families() for name in _scales(family)]
        self.scales = [parameters[name] for name in dict.fromkeys(names) if name in parameters]
        self._before = self.share

    def penalise(self) -> None:
        """Add the gradient of the penalty, after each ``backward``."""
        for scale in self.scales:
            if scale.grad is not None:
                scale.grad.add_(scale.detach().sign(), alpha=self.rate)

    def end_epoch(self) -> Epoch:
        """See how many channels are asleep, and set the rate for the next epoch."""
        share = self.share
        self.history.append(Epoch(share, self.rate))
        gain, self._before = share - self._before, share
        expected = (self.sparsity - share) / max(self.epochs - len(self.history), 1)
        if share < self.sparsity and gain < expected:
            self.rate += self.step
        elif share > self.sparsity and gain > 0:
            self.rate = max(self.rate - self.step, 0.0)
        return self.history[-1]

    @property
    def share(self) -> float:
        """The share of the channels that are asleep, of those of families with norms."""
        asleep, count = 0, 0
        for family in self._families():
            scores = scored(DAFP, family, Evidence(family.coupling.graph), normalizer="max")
            asleep += int(np.sum(scores <= self.small))
            count += len(scores)
        return asleep / max(count, 1)

    def _families(self) -> Iterator[Family]:
        """The families that have norms, with the weights as they are now."""
        now = dict(self.module.named_parameters())

        def current(value: Value, _: Tensor) -> Tensor | None:
            name = value.node.result_name if value.node else ""
            if name not in self._turned:
                return None
            array = now[name].detach().cpu().numpy()
            return Tensor.take(np.array(array.T if self._turned[name] else array, order="C"))

        graph = map_constants(self._graph, current)
        return (family for family in families(graph.analysis(Coupling)) if family.norms)


def _read(module: nn.Module, args: Any, kwargs: Mapping[str, Any] | None) -> Graph:
    """The graph of a module, as it is in evaluation."""
    training = module.training
    try:
        return from_module(module.eval(), args, kwargs)
    finally:
        module.train(training)


def _turned(graph: Graph, parameters: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The parameters that are constants of a graph, and whether they are transposed there."""
    for node in graph.nodes:
        tensor = tensor_of(node.outputs[0])
        if tensor is not None and node.result_name in parameters:
            held = parameters[node.result_name].detach().cpu().numpy()
            for turned, array in ((False, held), (True, held.T)):
                if np.array_equal(tensor.array, array):
                    yield node.result_name, turned
                    break


def _scales(family: Family) -> Iterator[str]:
    """The names of the scales of its norms."""
    made = (norm.node.inputs[1].node for norm in family.norms)
    return (node.result_name for node in made if node is not None)
