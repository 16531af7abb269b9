"""The passes that redir ships, mostly one in a file, and their classes: ``redir.passes.Prune``.

A class has another name than its file: ``redir.passes.prune`` is the module. A class is loaded when
it is first asked for, since some passes need slow parts of scipy.
"""

import importlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redir.passes.canonical_norms import CanonicalNorms
    from redir.passes.cse import Cse
    from redir.passes.eliminate_dead_channels import EliminateDeadChannels
    from redir.passes.eliminate_identity import EliminateIdentity
    from redir.passes.factorize import (
        Expand,
        Factorize,
        Heads,
        LowRank,
        Narrower,
        Pivoted,
        Reduce,
        Spatial,
    )
    from redir.passes.fold_batchnorm import FoldBatchnorm
    from redir.passes.fold_constants import FoldConstants
    from redir.passes.hash import Hash
    from redir.passes.merge import Merge
    from redir.passes.merge_tokens import MergeTokens
    from redir.passes.narrow_stream import NarrowStream
    from redir.passes.palettize import Palettize
    from redir.passes.prune import Prune
    from redir.passes.prune_vocabulary import PruneVocabulary
    from redir.passes.simplify import Simplify
    from redir.passes.split_inputs import SplitInputs
    from redir.passes.uneven_depthwise import UnevenDepthwise

__all__ = [
    "CanonicalNorms",
    "Cse",
    "EliminateDeadChannels",
    "EliminateIdentity",
    "Expand",
    "Factorize",
    "FoldBatchnorm",
    "FoldConstants",
    "Hash",
    "Heads",
    "LowRank",
    "Merge",
    "MergeTokens",
    "NarrowStream",
    "Narrower",
    "Palettize",
    "Pivoted",
    "Prune",
    "PruneVocabulary",
    "Reduce",
    "Simplify",
    "Spatial",
    "SplitInputs",
    "UnevenDepthwise",
]

_FORMS = ("Expand", "Heads", "LowRank", "Narrower", "Pivoted", "Reduce", "Spatial")  # of factorize


def __getattr__(name: str) -> Any:
    """The class of a pass, from the module that is named as the pass."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "factorize" if name in _FORMS else re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
