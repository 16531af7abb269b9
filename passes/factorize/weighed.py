"""What is known of a language model, where errors count by what they do to the words it tells."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from redir.cost import parameters
from redir.errors import BadInput
from redir.layers.linear import CONVS
from redir.passes.factorize.curvature import curvatures, share_of_nat
from redir.passes.factorize.forms import Factoring
from redir.passes.factorize.solving import Seen
from redir.passes.factorize.study import Study
from redir.runtime.memory import give_back
from redir.statistics.walk import cut, size_of
from redir.statistics.written import Decoder

_LARGEST = 2**30  # weights, of which PyTorch holds a copy
_HELD = 32  # times as many numbers as of one value, of all that flow, are held at once


@lru_cache(maxsize=1)
def weighed(study: Study) -> Study:
    """A study of a language model whose matrices have a metric by curvature.

    It is as it was for other models, for those of which PyTorch would hold too much, where norms
    were fitted, or where gradients cannot be had: see ``curvatures``.
    """
    try:
        decoder = study.graph.analysis(Decoder.of)
    except BadInput:
        return study
    if study.judge.graph is not study.graph or parameters(study.graph) > _LARGEST:
        return study
    matrices = [n for n in study.ways if _is_matrix(study.ways[n][0], study.seen[n])]
    layers = {n: (study.ways[n][0].layer, study.seen[n].behind) for n in matrices}
    values = [v for node in study.graph.nodes if node.inputs for v in node.outputs]
    flows = sum(size_of(study.sizes.type(value)) for value in values)
    parts = cut(study.graph, study.batches, max(flows // _HELD, 1))
    found = curvatures(study.graph, decoder.logits, parts, layers, study.seed)
    plain = study.judge.plain[decoder.logits].reshape(-1, decoder.size)
    share = share_of_nat(plain) if found else 0.0
    ways, seen = dict(study.ways), dict(study.seen)
    for node, curvature in found.items():
        metric = ways[node][0].metric.curved(share * curvature.astype(np.float64))
        moments = seen[node].moments
        ways[node] = [replace(form, metric=metric) for form in ways[node]]
        towards = replace(moments, target=metric.turned(moments.target))
        seen[node] = replace(seen[node], moments=towards)
    curved = frozenset(found)
    del found
    give_back()
    return replace(study, ways=ways, seen=seen, curved=curved)


def _is_matrix(form: Factoring, seen: Seen) -> bool:
    """Whether a layer is a product whose results nothing clips or scales, of weights of its own."""
    plain = not form.also and not seen.behind.clips and bool(np.all(form.metric.scale == 1))
    return plain and form.layer.node.op not in CONVS
