"""Inputs made from a model alone: what gives its norms the moments that they stored in training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from redir.errors import BadInput, MissingExtra
from redir.io.cache import Bank, cache_folder
from redir.io.models import to_torch
from redir.ir import Graph, Node
from redir.ir.builtin import tensor_of
from redir.ir.tensor import Array
from redir.progress import progress
from redir.statistics.images import natural
from redir.statistics.norms import EPSILON, is_norm
from redir.statistics.sources import GRADIENTS, sizes
from redir.statistics.walk import flowing

try:
    import torch
except ImportError:  # the extra is optional
    if not TYPE_CHECKING:
        torch = None

_METHOD = 4  # raise it with whatever changes what is made: what is in caches is of another
_BATCH = 64  # examples that are made together, if they fit into memory:
_AT_ONCE = 2**26  # numbers of all values, about a gigabyte with what gradients need
_STEPS = 80  # of Adam at most
_PATIENCE = 20  # of them, which may bring nothing: MobileNetV2 takes 11 to get better again
_RATE = 0.03
_ENOUGH = 0.01  # how far moments may stay off: about as far as those of as many real inputs


@dataclass(frozen=True)
class Synthetic:
    """Inputs optimised so that every BatchNormalization sees the mean and variance it stored.

    It needs no data: the moments are what the model remembers of its training (Yin et al.,
    DeepInversion, CVPR 2020). It starts from drawn images. What was made is kept in the cache. Of
    a large model few are made, and the others are drawn.
    """

    made_up: ClassVar[bool] = True

    def batches(self, graph: Graph, count: int, seed: int) -> Sequence[Mapping[str, Array]]:
        """Examples made from ``seed``.

        Raises:
            BadInput: the graph has no norms, or not one input.
            MissingExtra: PyTorch is not installed.
        """
        if torch is None:
            raise MissingExtra("making synthetic inputs", "torch")
        norms = [node for node in graph.nodes if is_norm(node)]
        if not norms or len(graph.inputs) != 1:
            raise BadInput("synthetic inputs need norms with constant moments, and one input")
        each = max(flowing(graph), 1)
        together = max(min(count, _BATCH, _AT_ONCE // each), 1)
        ((name, shape),) = sizes(graph, together)[0].items()
        made = min(count, max(GRADIENTS // each, 1))
        whole = (-(-made // shape[0]), *shape)
        bank, key = Bank(cache_folder() / "synthetic"), _key(graph, whole, seed)
        held = (bank.read(key) or {}).get("inputs", np.zeros(0))
        if held.shape != whole or held.dtype != np.float32:
            rng, probe = np.random.default_rng(seed), _probe(graph, norms)
            wanted = [_moments(node) for node in norms]
            times = progress(range(whole[0]), "synthetic inputs")
            held = np.stack([_made(probe, wanted, natural(rng, shape)) for _ in times])
            bank.write(key, {"inputs": held})
        return [{name: batch} for batch in _filled(held, -(-count // shape[0]), seed)]

    def __str__(self) -> str:
        return "synthetic"


def _filled(made: Array, count: int, seed: int) -> Sequence[Array]:
    """So many batches: those that were made, (batches, examples, ...), then drawn ones."""
    rng = np.random.default_rng([seed, len(made)])
    more = (natural(rng, made.shape[1:]) for _ in range(count - len(made)))
    return [*made, *(batch.astype(made.dtype) for batch in more)]


def _key(graph: Graph, shape: tuple[int, ...], seed: int) -> str:
    """What is made depends on: the method, and the graph with its weights."""
    text = f"{_METHOD} {torch.__version__} {shape} {seed}\n{graph!r}"
    return hashlib.sha256(text.encode()).hexdigest()


def _probe(graph: Graph, norms: Sequence[Node]) -> Any:
    """A module that gives what each norm reads."""
    seen = {f"x{i}": node.inputs[0] for i, node in enumerate(norms)}
    module = to_torch(replace(graph, outputs=seen)).eval()
    return module.requires_grad_(False)  # noqa: FBT003 - as torch has it


def _moments(node: Node) -> tuple[Any, Any, float]:
    """The mean and variance that a norm stored, and what it adds to a variance."""
    held = [tensor_of(v) for v in node.inputs[3:5]]
    mean, var = (torch.tensor(t.array) for t in held if t is not None)
    return mean, var, float(node.attrs.get("epsilon", EPSILON))


def _made(probe: Any, wanted: Sequence[tuple[Any, Any, float]], start: Array) -> Array:
    """The best of what Adam comes to from ``start``, until it gets no better."""
    images = torch.tensor(start, dtype=torch.float32, requires_grad=True)
    steps = torch.optim.Adam([images], _RATE)
    found, least, waited = images.detach().clone(), np.inf, 0
    for _ in progress(range(_STEPS), "steps"):
        seen = probe(images)
        parts = [_off(x, *m) for x, m in zip(_values(seen), wanted, strict=True)]
        off = torch.stack(parts).mean()
        waited += 1
        if off.item() < least:
            found, least, waited = images.detach().clone(), off.item(), 0
        if least < _ENOUGH or waited == _PATIENCE:
            break
        steps.zero_grad()
        off.backward()
        steps.step()
    best: Array = found.numpy()
    return best


def _values(seen: Any) -> Sequence[Any]:
    if isinstance(seen, dict):
        return list(seen.values())
    return [seen] if isinstance(seen, torch.Tensor) else list(seen)


def _off(x: Any, mean: Any, var: Any, epsilon: float) -> Any:
    """How far the moments of ``x`` are from those that are wanted, in units of their spread.

    A variance that is small beside ``epsilon`` does not matter: dead channels have none at all.
    """
    axes = [axis for axis in range(x.ndim) if axis != 1]
    spread, seen = torch.var_mean(x, axes, correction=0)
    spread, wanted = spread + epsilon, var + epsilon
    return ((seen - mean).square() / wanted).mean() + (spread / wanted).log().square().mean()


SYNTHETIC = Synthetic()
