"""The ways in which the layers of a graph may be factored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import starmap
from math import prod

import numpy as np

from redir import ops
from redir.channels.coupling import Coupling
from redir.cost import Sizes
from redir.ir import Graph, Node
from redir.ir.tensor import Type
from redir.layers.linear import CONVS, Linear, linear
from redir.passes.factorize.alike import alike, met_together
from redir.passes.factorize.attentions import opened, shut
from redir.passes.factorize.behind import behind
from redir.passes.factorize.forms import Factoring, Site, sizes_within
from redir.passes.factorize.gone import gone
from redir.passes.factorize.heads import Heads, heads, products
from redir.passes.factorize.metric import Metric
from redir.passes.factorize.narrower import Narrower, narrower
from redir.passes.factorize.pivoted import Pivoted
from redir.passes.factorize.saved import Savings
from redir.passes.factorize.scores import kept, scores
from redir.passes.factorize.tables import Apart, apart
from redir.passes.factorize.uneven import Uneven
from redir.passes.factorize.wide import FEATURES, Wide

FACTORED = (ops.Conv, ops.Gemm, ops.MatMul)
# Runtimes like these.
DENSE = ("spatial", "reduce", "expand", "low-rank", "narrower", "heads", "gone")
FORMS = (*DENSE, "uneven-depthwise", "pivoted")
THINNING = ("narrower", "heads")  # in which channels go that others make


def factorings(sizes: Sizes, node: Node, ignore: str = "") -> Sequence[Factoring] | str:
    """The ways in which a layer of a graph may be factored, or why it is left as it is.

    Costs are those at ``sizes``. ``ignore`` names layers that are left, with * for any letters.
    """
    graph = sizes.graph
    if node.matches(ignore):
        return "it is to be ignored"
    layer = linear(node) if node.op in FACTORED else "it is no layer that is factored"
    if isinstance(layer, str):
        return layer
    sites = [(each, (sizes.type(each.x), sizes.type(each.y))) for each in alike(graph, layer)]
    why = _apart(graph, sites, ignore) or next(filter(None, starmap(_obstacle, sites)), None)
    if why is not None:
        return why
    (first, ends), *also = sites
    if first.node is not node:
        return f"it goes with {first.node}, whose weights it reads"
    axes = [a for a, k in enumerate(layer.kernel) if k > 1]
    metric = Metric(behind(graph, layer).scale)

    def form(kind: type[Factoring], along: Sequence[int]) -> Factoring:
        return kind(layer, frozenset(along), metric, ends, also=tuple(also))

    if _is_wide(layer):
        return [form(Wide, ())]
    found = [form(Factoring, axes[:n]) for n in range(len(axes) + 1)]
    return [*found, form(Uneven if axes else Pivoted, axes)]


def all_factorings(sizes: Sizes, ignore: str = "") -> Mapping[Node, Sequence[Factoring]]:
    """The ways in which each layer may be factored, narrower or gone, that may be."""
    graph, ways = sizes.graph, _each(sizes, ignore)
    coupling, plain = graph.analysis(Coupling), {node: first for node, (first, *_) in ways.items()}
    savings = Savings(sizes)
    single = {node: form for node, form in plain.items() if not form.also}
    for end in gone(graph, single, ignore, savings):
        ways[end.layer.node].append(end)
    for less in _thinner(coupling, plain, savings, met(sizes, plain)):
        ways[less.layer.node].append(less)
    return ways


def _each(sizes: Sizes, ignore: str) -> dict[Node, list[Factoring]]:
    """The ways in which each layer may be factored that may be."""
    each = {node: factorings(sizes, node, ignore) for node in sizes.graph.nodes}
    return {node: list(found) for node, found in each.items() if not isinstance(found, str)}


def parted(sizes: Sizes, ignore: str = "") -> Apart:
    """The graph in which heads that may lose channels have tables of their own, and layers."""
    graph, attentions = opened(sizes.graph, ignore)
    sizes = Sizes(graph, sizes.shapes)
    plain = {node: first for node, (first, *_) in _each(sizes, ignore).items()}
    return replace(apart(graph, met(sizes, plain)), attentions=attentions)


def _thinner(
    coupling: Coupling, forms: Mapping[Node, Factoring], savings: Savings, met: Sequence[Heads]
) -> Iterator[Narrower]:
    """The forms in which channels go: of heads, of one kind for each layer, and others."""
    readers = {heads.second.node for heads in met if heads.reads}
    asking = {heads.first.node: heads for heads in met if not heads.reads}
    for node, form in forms.items():
        less = narrower(coupling, form, savings, "heads" if node in readers else "narrower")
        if isinstance(less, str) and node in asking:
            less = scores(coupling, form, asking[node], savings)
        if not isinstance(less, str):
            yield less


def met(sizes: Sizes, forms: Mapping[Node, Factoring]) -> list[Heads]:
    """The heads in which layers meet that have those forms."""
    return list(met_together(heads(sizes, _layers(forms)), forms))


def _layers(forms: Mapping[Node, Factoring]) -> list[Linear]:
    return [each.layer for form in forms.values() for each in form.alike]


def unthinned(sizes: Sizes, ignore: str = "") -> Iterator[tuple[Node, str]]:
    """The nodes that may be scores of heads which keep their channels, each with the reason."""
    sizes = Sizes(parted(sizes, ignore).graph, sizes.shapes)
    plain = {node: first for node, (first, *_) in _each(sizes, ignore).items()}
    coupling = sizes.graph.analysis(Coupling)
    found = [each for each in met(sizes, plain) if not each.reads]
    asking = {each.node: each for first in found for each in (first, *first.also)}
    for node, each in asking.items():
        if (why := kept(coupling, each)) is not None:
            yield node, why
    for node, count in products(sizes, _layers(plain)).items():
        if node not in asking:
            yield node, _FOREIGN if count < 2 else _UNLIKE  # noqa: PLR2004 - queries and keys
    yield from ((node, why) for node in sizes.graph.nodes if (why := shut(node)) is not None)


_FOREIGN = "not all that meets in it are results of layers that are only moved, scaled or turned"
_UNLIKE = "what meets in it is read elsewhere, or does not go in like pairs"


def thinned(sizes: Sizes, ways: Mapping[Node, Sequence[Factoring]]) -> list[Heads]:
    """The heads whose channels may go in some of the ways."""
    owners = {n for n, forms in ways.items() if any(form.name == "heads" for form in forms)}
    found = met(sizes, {node: forms[0] for node, forms in ways.items()})
    return [each for each in found if (each.second if each.reads else each.first).node in owners]


def thinner(graph: Graph, ways: Mapping[Node, Sequence[Factoring]]) -> frozenset[Node]:
    """The layers whose results may lose channels, as the forms of others have fewer."""
    coupling, lost = graph.analysis(Coupling), set[int]()
    for form in (form for forms in ways.values() for form in forms if form.name in THINNING):
        assert isinstance(form, Narrower)
        lost.update(coupling.group(form.port)[form.units].reshape(-1).tolist())
    ports = {node: forms[0].layer.y_port for node, forms in ways.items()}
    found = ((n, p) for n, p in ports.items() if p in coupling.starts)
    return frozenset(n for n, p in found if not lost.isdisjoint(coupling.group(p).tolist()))


def _apart(graph: Graph, sites: Sequence[Site], ignore: str) -> str | None:
    """Why layers that read the same weights cannot take a form together."""
    if not sites:
        return "its weights are read elsewhere, and not by such layers alone"
    if any(layer.node.matches(ignore) for layer, _ in sites):
        return "its weights are read by a layer that is to be ignored"
    if len(sites) > 1 and _is_wide(sites[0][0]):
        return "its weights are read elsewhere, and too many for moments"
    first, *others = (behind(graph, layer).scale for layer, _ in sites)
    if any(not np.array_equal(scale, first) for scale in others):
        return "its weights are read elsewhere, and results scaled otherwise there"
    return None


def _obstacle(layer: Linear, ends: tuple[Type, Type]) -> str | None:
    last = layer.node.op in CONVS or layer.x_axis == -1
    if not layer.groups == layer.alpha == layer.beta == layer.place == 1 or not last:
        return "it has groups, factors, or its weights on the left"
    if layer.array.dtype != np.float32:
        return "its weights are not float32"
    if layer.bias is None:
        return "its bias is not a constant"
    if layer.node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        return "its pads follow the size of what it reads"
    types = layer.x.type, layer.y.type, *ends
    if None in (t.shape for t in types) or any(None in sizes_within(t) for t in ends):
        return "the sizes of what it reads are not known"
    if _is_wide(layer) and (prod(layer.kernel) == 1 or layer.channels > FEATURES):
        return f"each of its outputs reads more than {FEATURES:,} numbers"
    return None


def _is_wide(layer: Linear) -> bool:
    return layer.channels * prod(layer.kernel) > FEATURES
