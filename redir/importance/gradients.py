"""Criteria that ask what the loss does where a channel changes a little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from redir.errors import MissingExtra
from redir.importance.evidence import Evidence
from redir.importance.family import Family
from redir.importance.labelled import Labelled, judged
from redir.importance.masks import Sites, masked, ones, sites
from redir.io.models import to_torch
from redir.ir import Graph, Port, Value
from redir.ir.tensor import Array, TensorType
from redir.progress import progress

try:
    import torch
except ImportError:  # the extra is optional
    if not TYPE_CHECKING:
        torch = None


@dataclass(frozen=True, eq=False)
class Effects:
    """What the slices of an axis do to the loss of each example: (examples, slices).

    ``product`` is the sum of what flows times the gradient of the loss; ``gradient`` the mean
    magnitude of the gradient.
    """

    product: Array
    gradient: Array


@dataclass(frozen=True)
class Taylor:
    """The first-order estimate of how much the loss changes without a channel.

    The mean of the magnitudes over examples (Molchanov et al., 2017), or the mean as it is with
    ``signed``. With ``whole`` what a channel does at all places where it is read counts together,
    before magnitudes are taken.
    """

    signed: bool = False
    whole: bool = False
    normalizer = "none"

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """A row for each axis that is added up over, or one for all."""
        products = [
            np.array([family.total(family.places(port), row) for row in -effect.product])
            for port, effect in at_sites(family, evidence).items()
        ]
        if self.whole and products:
            missing = np.all([np.isnan(p) for p in products], 0)
            products = [np.where(missing, np.nan, np.nansum(products, 0))]
        return np.array([(p if self.signed else np.abs(p)).mean(0) for p in products])

    def __str__(self) -> str:
        return "taylor_signed" if self.signed else "taylor_group" if self.whole else "taylor"


@dataclass(frozen=True)
class Sensitivity:
    """The mean magnitude of the gradient of the loss by a channel (Mozer and Smolensky, 1988)."""

    def scores(self, family: Family, evidence: Evidence) -> Array:
        """A row for each axis that is added up over."""
        found = at_sites(family, evidence).items()
        rows = [family.mean(family.places(port), e.gradient.mean(0)) for port, e in found]
        return np.array(rows)

    def __str__(self) -> str:
        return "sensitivity"


def at_sites(family: Family, evidence: Evidence) -> Mapping[Port, Effects]:
    """What the channels of a family do to the loss, at each axis that is added up over."""
    known = evidence.remembered(effects)
    return {port: known[port] for port in sites(family) if port in known}


def effects(evidence: Evidence) -> Mapping[Port, Effects]:
    """What the slices of all axes that are added up over do to the losses of labelled examples.

    Raises:
        BadInput: there are no labelled examples.
        MissingExtra: torch is not installed.
        Unsupported: an operator has no form in PyTorch.
    """
    if torch is None:
        raise MissingExtra("scoring channels by gradients", "torch")
    labelled = evidence.labelled
    graph = judged(evidence.graph, labelled.loss)
    every = {port: users for family in evidence.families for port, users in sites(family).items()}
    reading = {p: users for p, users in every.items() if p[1] > 0 and p[0].type.dtype.kind == "f"}
    ports, module = _showing(graph, reading)
    parts = progress(list(labelled.parts(graph)), "gradients")
    seen = [_seen(module, graph, labelled, ports, *part) for part in parts] if ports else []
    return {
        p: _effects(found, p[1]) for p, found in zip(ports, zip(*seen, strict=True), strict=False)
    }


def _showing(graph: Graph, reading: Sites) -> tuple[Sequence[Port], Any]:
    """A module that reads a mask for each site as well, and gives what is read there as well."""
    masks = {
        port: Value(TensorType(m.dtype, m.shape)) for port in reading if (m := ones(port)).size
    }
    env = {value: value for value in graph.inputs.values()}
    shown = masked([n for n in graph.nodes if n.inputs], env, reading, masks)
    names = {port: f"seen {number}" for number, port in enumerate(shown)}
    inputs = {**graph.inputs, **{f"mask {n}": masks[port] for port, n in names.items()}}
    outputs = {name: env.get(v, v) for name, v in graph.outputs.items()}
    outputs |= {names[port]: value for port, value in shown.items()}
    return list(shown), to_torch(replace(graph, inputs=inputs, outputs=outputs)) if shown else None


def _seen(
    module: Any,
    graph: Graph,
    labelled: Labelled,
    ports: Sequence[Port],
    inputs: Mapping[str, Array],
    labels: Array,
) -> list[tuple[Array, Array]]:
    """What is read at each site, and the gradients of the losses by that."""
    given = [torch.tensor(inputs[name]) for name in graph.inputs if name in inputs]
    masks = [torch.tensor(ones(port)).requires_grad_() for port in ports]
    shown = module(*given, *masks)
    made, *values = shown.values() if isinstance(shown, dict) else shown
    loss = _losses(labelled, made, torch.tensor(labels)).sum()
    slopes = torch.autograd.grad(loss, values, allow_unused=True, materialize_grads=True)
    return [(v.detach().numpy(), g.numpy()) for v, g in zip(values, slopes, strict=True)]


def _losses(labelled: Labelled, made: Any, labels: Any) -> Any:
    if labelled.loss is not None:
        return labelled.loss(made, labels)
    rows = made.reshape(len(labels), -1)
    return torch.nn.functional.cross_entropy(rows, labels.long(), reduction="none")


def _effects(parts: Sequence[tuple[Array, Array]], axis: int) -> Effects:
    """Those of the slices of an axis."""
    held, slopes = (np.concatenate(each) for each in zip(*parts, strict=True))
    others = tuple(a for a in range(1, held.ndim) if a != axis)
    product = (held.astype(np.float64) * slopes).sum(others)
    return Effects(product, np.abs(slopes, dtype=np.float64).mean(others))


TAYLOR, TAYLOR_SIGNED, TAYLOR_GROUP = Taylor(), Taylor(signed=True), Taylor(whole=True)
SENSITIVITY = Sensitivity()
