"""The main job from Python: a smaller model of a graph, a file or a PyTorch module."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, overload

from redir.cost import example_shapes, total
from redir.cost.models import CostModel
from redir.errors import BadInput, BadPipeline, Broken
from redir.io import models
from redir.ir import Graph
from redir.pipeline import Pipeline
from redir.pipeline.compress import Passes, chosen, missed
from redir.pipeline.instruments import Outputs
from redir.pipeline.opsets import in_opset
from redir.pipeline.planning import Planned, Planning
from redir.pipeline.renaming import renamed
from redir.pipeline.runner import Progress, run
from redir.runtime.open_sizes import Shapes
from redir.tasks import one_thread

if TYPE_CHECKING:
    import onnx
    from torch import nn

Model: TypeAlias = "Graph | str | os.PathLike[str] | onnx.ModelProto"


@overload
def compress(
    model: Model,
    *,
    preset: str | None = ...,
    pipeline: Passes | None = ...,
    cost: str | CostModel | None = ...,
    input_shapes: Shapes | None = ...,
    opset: int | None = ...,
    check: bool = ...,
    progress: Progress | None = ...,
    **targets: Any,
) -> Graph: ...


@overload
def compress(
    model: nn.Module,
    args: Any,
    kwargs: Mapping[str, Any] | None = ...,
    *,
    dynamic_shapes: Any = ...,
    preset: str | None = ...,
    pipeline: Passes | None = ...,
    cost: str | CostModel | None = ...,
    input_shapes: Shapes | None = ...,
    check: bool = ...,
    progress: Progress | None = ...,
    **targets: Any,
) -> Compressed: ...


def compress(  # noqa: PLR0913 - the first three are torch's, and the rest have names
    model: Any,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    preset: str | None = None,
    pipeline: Passes | None = None,
    cost: str | CostModel | None = None,
    input_shapes: Shapes | None = None,
    opset: int | None = None,
    check: bool = True,
    progress: Progress | None = None,
    **targets: Any,
) -> Graph | Compressed:
    """The smaller model that a preset, or a pipeline of your own, makes of ``model``.

    A graph, or what ``redir.load`` takes, gives a graph. A PyTorch module gives a ``Compressed``;
    ``args``, ``kwargs`` and ``dynamic_shapes`` are those of ``from_torch``. The ``pipeline``, a
    text or passes, and the ``cost`` are those of ``chosen``. ``targets`` are options of
    ``Factorize``, such as ``macs=0.5``: without a preset they mean ``best``. Unless not ``check``,
    the model is run after each pass on drawn inputs, of ``input_shapes``, as far as it can be run.
    ``opset`` is the version of the standard operator set that a graph is to be in; onnx's converter
    takes it there before the passes run, if its outputs are shown to be the same.
    ``progress`` gets the name of each pass that starts, how many are done, and of how many.

    Raises:
        BadPipeline: there is no such preset, pass, option or cost model, or both of the first two.
        BadInput: a weight is NaN, or torch cannot export the module, or it is no model; or there is
            no such operator set, or it is asked for of a module.
        Broken: a pass that promises the same outputs changed them, or made what does not run, or a
            share that was asked for is not reached.
        Unsupported: an operator has no form in PyTorch; the message names it. Or the operator set
            cannot be reached, or what is in it not compared.
        MissingExtra: torch is not installed.
    """
    steps = chosen(preset, pipeline, cost, **targets)
    before = _read(model, args, kwargs, dynamic_shapes)
    if opset is not None:
        before = _in_opset(model, before, opset, input_shapes)
    checks = [Outputs(input_shapes=input_shapes)] if check else []
    after, _ = run(before, steps, *checks, progress=progress)
    for each in checks:
        each.settle()
    why = missed(total(before, input_shapes), total(after, input_shapes), steps.asked)
    if why:
        raise Broken(why)
    return _compressed(before, after) if models.is_module(model) else after


def _in_opset(model: object, graph: Graph, opset: int, input_shapes: Shapes | None) -> Graph:
    if models.is_module(model):
        raise BadInput(f"opset={opset}: a PyTorch module is in no operator set")
    return in_opset(graph, opset, input_shapes)


def plan(
    model: Any,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    preset: str | None = None,
    pipeline: Passes | None = None,
    cost: str | CostModel | None = None,
    input_shapes: Shapes | None = None,
    **targets: Any,
) -> Planned:
    """What ``compress`` would do to each layer of ``model`` with the same arguments.

    It is a ``Plan`` of ``factorize``, and ``compress(model, plan=...)`` carries it out, edited or
    not; where ``prune`` is run a ``Pruning``, with a line for each family of channels; and under
    ``bytes`` or ``multiplications`` a ``WeightPlan``, with a line for each weight.

    Raises:
        BadPipeline: as for ``compress``; or no pass makes a plan.
        BadInput: as for ``compress``.
        Unsupported: as for ``compress``.
    """
    steps = chosen(preset, pipeline, cost, usual="best", **targets)
    graph = _read(model, args, kwargs, dynamic_shapes)
    return plan_by(steps, graph, example_shapes(graph, input_shapes))


def plan_by(pipeline: Pipeline, graph: Graph, sizes: Shapes) -> Planned:
    """The plan of the first pass of a pipeline that makes one, counted at ``sizes``.

    Raises:
        BadPipeline: there is none.
        BadInput: a weight is NaN.
    """
    for number, (step, place) in enumerate(pipeline.placed(graph, sizes)):
        if isinstance(step, Planning) and step.plans:
            before, _ = run(graph, Pipeline(pipeline.passes[:number]))
            with one_thread("blas"):
                return step.planned(before, place)
    raise BadPipeline(
        f"no pass of {pipeline} makes a plan: factorize, as in the preset best, and prune do, and "
        "hash and palettize under a target"
    )


def _read(model: Any, args: Any, kwargs: Mapping[str, Any] | None, dynamic_shapes: Any) -> Graph:
    """The graph of what is given, which it may be."""
    if models.is_module(model):
        if args is None and kwargs is None:
            raise BadInput("a PyTorch module needs example inputs: redir.compress(module, args)")
        return models.from_module(model, () if args is None else args, kwargs, dynamic_shapes)
    if any(given is not None for given in (args, kwargs, dynamic_shapes)):
        raise BadInput(
            "args, kwargs and dynamic_shapes are for a PyTorch module, and this is none; a preset "
            "and a pipeline are given by name, as in preset='red'"
        )
    return model if isinstance(model, Graph) else models.load(model)


def _compressed(before: Graph, after: Graph) -> Compressed:
    smaller, names = models.to_module(after)
    return Compressed(smaller, moved(before, after, names))


class Compressed(NamedTuple):
    """A module that is smaller, and where the parameters of the original are in it.

    ``map`` gives, for the name of each parameter and buffer that the original used, its ``name``
    now, None if it is gone, and ``channels``: for each axis that was narrowed, the old index of
    each channel that is left.
    """

    module: nn.Module
    map: Mapping[str, Any]


def moved(before: Graph, after: Graph, names: Mapping[str, str]) -> dict[str, Any]:
    """The map of ``renamed`` in the names and axes of PyTorch.

    ``names`` are those that constants of ``after`` have in its module.
    """
    sources = [node.source for node in before.nodes if node.source]
    turned = {s.outputs[0] for s in sources if ("transposed", "1,0") in s.metadata}
    found = {}
    for name, entry in renamed(before, after).items():
        axes = {str(1 - int(a)) if name in turned else a: c for a, c in entry["channels"].items()}
        kept = names.get(entry["name"])
        found[name] = {"name": kept, "channels": dict(sorted(axes.items()))}
    return found | {n: {"name": names.get(n), "channels": {}} for n in before.defaults}
