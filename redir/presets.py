"""The pipelines that have a name."""

from __future__ import annotations

from redir.errors import BadPipeline
from redir.pipeline import Pipeline

_CLEAN = "fold-constants,eliminate-identity,fold-batchnorm,cse"

PRESETS = {
    "exact": f"{_CLEAN},merge,eliminate-dead-channels",
    "red": f"{_CLEAN},hash,merge,eliminate-dead-channels",
}


def preset(name: str) -> Pipeline:
    """The pipeline called ``name``: ``exact`` keeps every output, ``red`` hashes and merges.

    Raises:
        BadPipeline: there is none of that name.
    """
    if name not in PRESETS:
        raise BadPipeline(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
    return Pipeline.parse(PRESETS[name])
