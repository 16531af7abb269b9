"""What any criterion takes might as well be zero: the smaller network computes the silenced one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from redir.check.guarantees import SAME_OUTPUTS
from redir.importance import Labelled
from redir.io.plugins import plugins
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.passes.prune import Prune
from redir.testing import graphs
from tests.importance.networks import summed

EXAMPLES = 4


def labelled(graph: Graph) -> Labelled:
    """Examples that a drawn graph takes, one or all at once."""
    rng, inputs = np.random.default_rng(0), dict[str, Array]()
    for name, value in graph.inputs.items():
        sizes = [value.type.size(axis) or EXAMPLES for axis in range(1, value.rank or 0)]
        inputs[name] = rng.integers(-3, 4, (EXAMPLES, *sizes)).astype(value.type.dtype)
    return Labelled(inputs, np.zeros(EXAMPLES, int), summed)


@given(
    graph=graphs("conv", "batchnorm", "residual", "grouped", "concat", "attention", "gemm"),
    name=st.sampled_from(sorted(plugins("redir.criteria"))),
    share=st.floats(0, 0.99),
)
def test_what_any_of_them_takes_might_as_well_be_zero(
    graph: Graph, name: str, share: float
) -> None:
    given = labelled(graph)
    silent, smaller = (Prune(share, name, way, labelled=given)(graph) for way in (False, True))
    assert SAME_OUTPUTS.refute(silent, smaller) is None
