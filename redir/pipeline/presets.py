"""The pipelines that have a name."""

from __future__ import annotations

from redir.errors import BadPipeline
from redir.pipeline.pipeline import Pipeline

__all__ = ["PRESETS", "USUAL", "preset"]

_CLEAN = "fold-constants,eliminate-identity,fold-batchnorm,simplify,cse"
_LESS = "merge,eliminate-dead-channels,eliminate-identity"
_FAST = "merge{step=4},eliminate-dead-channels{step=4},eliminate-identity,cse{weights=true}"
_HASHED = f"{_CLEAN},hash{{error=0.005}},{_LESS}"

USUAL = {"multiplications": "red++", "bytes": "palettes"}  # by target; for the others best

PRESETS = {
    "exact": f"{_CLEAN},{_FAST}",
    "red": f"{_HASHED},uneven-depthwise{{basis=distinct}}",
    "red++": f"{_HASHED},split-inputs",
    "palettes": f"{_CLEAN},{_LESS},palettize",
    "best": f"fold-constants,eliminate-identity,factorize,{_CLEAN},{_LESS},cse{{weights=true}}",
}


def preset(name: str) -> Pipeline:
    """The pipeline called ``name``.

    ``exact`` keeps every output. ``red`` (Yvinec et al., NeurIPS 2021) and ``red++`` (TPAMI 2022)
    hash, within a small error, and merge; then the first separates what kernels are left, the
    second computes equal products once. ``palettes`` stores weights of few values as places in a
    palette, and makes them few for a target in bytes. ``best`` factors layers until a target is
    met, and solves their weights; then the exact passes run.

    Raises:
        BadPipeline: there is none of that name.
    """
    if name not in PRESETS:
        raise BadPipeline(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
    return Pipeline.parse(PRESETS[name])
