"""Writing PyTorch: readable source, with the weights in ``.safetensors`` beside it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from redir.atomic import replacing
from redir.backends.torch import audit, output_structure
from redir.backends.torch.classes import Writer, class_lines
from redir.backends.torch.emit.emitter import emit
from redir.backends.torch.emit.flow import Flow
from redir.backends.torch.frozen import frozen_lines
from redir.backends.torch.interface import unreturned
from redir.backends.torch.modules import modules
from redir.backends.torch.names import identifier, is_class
from redir.backends.torch.ops import TABLE
from redir.backends.torch.scope import scope
from redir.errors import BadInput, MissingExtra, in_docstring
from redir.ir import Graph
from redir.layers.palette import packings, unpacked
from redir.ops.torch_tensors import to_tensor

try:
    from safetensors.numpy import save as packed
except ImportError:  # the extra is optional
    packed = None
try:
    import torch
except ImportError:  # writing source needs none
    torch = None

if TYPE_CHECKING:
    from torch import nn

_LISTED = 40  # narrowed tensors that the docstring of a file names


def save(graph: Graph, path: Path) -> None:
    """Write ``graph`` as PyTorch source to ``path``, and its weights beside it.

    The source runs where redir is not installed; its ``load()`` gives the module.

    Raises:
        MissingExtra: safetensors is not installed.
        Unsupported: an operator has no form in PyTorch; the message names it.
        BadInput: the folder does not exist.
    """
    if packed is None:
        raise MissingExtra("writing PyTorch", "torch")
    text, flow = _written(graph, _title(path.stem))
    if beside(path).exists() and not path.exists():
        raise BadInput(f"{beside(path)} is there already, and no {path.name}: choose another name")
    state = packings(flow.state) if _has_palettes(graph) else flow.state
    with replacing(beside(path), path) as (weights, file):
        weights.write(packed({n: np.asarray(a, order="C") for n, a in sorted(state.items())}))
        file.write(text.encode())


def beside(path: Path) -> Path:
    """Where the weights of the source at ``path`` go."""
    return path.with_suffix(".safetensors")


def to_torch(graph: Graph) -> nn.Module:
    """The module that ``redir.save(graph, "model.py")`` writes, with its weights, in evaluation.

    It can be trained, moved, exported, copied and pickled like any other.

    Raises:
        MissingExtra: torch is not installed.
        Unsupported: an operator has no form in PyTorch; the message names it.
    """
    return loaded(graph)[0]


def loaded(graph: Graph) -> tuple[nn.Module, Flow]:
    """The module of ``graph``, and the flow that says where its tensors came from."""
    if torch is None:
        raise MissingExtra("making a PyTorch module", "torch")
    text, flow = _written(graph, _title(graph.name))
    module = scope(text).build()
    module.load_state_dict({n: to_tensor(a) for n, a in flow.state.items()})
    return module.eval(), flow


def open_batches(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The ``dynamic_shapes`` that leave the first size of each tensor open where it can be.

    None, which opens no size, where ``forward`` gathers some in ``**kwargs``: torch cannot then.
    """
    if torch is None:
        raise MissingExtra("reading a PyTorch module", "torch")
    signature = inspect.signature(module.forward)
    given = signature.bind(*args, **kwargs).arguments
    gathers = any(signature.parameters[n].kind is inspect.Parameter.VAR_KEYWORD for n in given)
    return None if gathers else {name: _open_batch(held) for name, held in given.items()}


def _open_batch(held: Any) -> Any:
    """What is open in an argument, nested as torch wants it: objects are lists of their parts."""
    if isinstance(held, torch.Tensor):
        return {0: torch.export.Dim.AUTO} if held.dim() else None
    trees = torch.utils._pytree  # noqa: SLF001 - as torch documents
    kind = trees._get_node_type(held)  # noqa: SLF001
    if kind not in trees.SUPPORTED_NODES:
        return None
    parts, context = trees.SUPPORTED_NODES[kind].flatten_fn(held)
    opened = [_open_batch(part) for part in parts]
    plain = kind in trees.BUILTIN_TYPES
    return trees.SUPPORTED_NODES[kind].unflatten_fn(opened, context) if plain else opened


def source(graph: Graph) -> str:
    """The text that ``save`` writes.

    Raises:
        Unsupported: an operator has no form in PyTorch; the message names it.
    """
    return _written(graph, _title(graph.name))[0]


def _written(graph: Graph, title: str) -> tuple[str, Flow]:
    flow = emit(unpacked(graph), TABLE)
    flow.helpers |= {"unpack"} if _has_palettes(graph) else set()
    root = modules(flow)
    whole = flow.classes.get((), "")
    writer = Writer(flow, root, whole if is_class(whole) else title)
    nested = output_structure.structure(graph)
    given = output_structure.classes(nested)
    writer.taken.update(given)
    if nested is not None:
        outputs = [name for name in graph.outputs if name not in unreturned(graph)]
        root.result = lambda names: output_structure.shown(
            nested, dict(zip(outputs, names, strict=True))
        )
    written = writer.write()
    sections = [list(_helper(name)) for name in _all_helpers(flow.helpers)]
    sections += given.values()
    sections += [list(class_lines(w)) for w in written]
    sections += [_build(writer.made[()], frozen_lines(flow)), _load(packs="unpack" in flow.helpers)]
    body = "\n\n\n".join("\n".join(lines) for lines in sections)
    head = "\n".join([*_head(graph, flow), "", *_imports(body)])
    text = f"{head}\n\n\n{body}\n"
    audit.check(text)
    return text, flow


def _has_palettes(graph: Graph) -> bool:
    return unpacked(graph) is not graph


def _title(stem: str) -> str:
    words = re.split(r"[^A-Za-z0-9]+", stem)
    text = "".join(w[:1].upper() + w[1:] for w in words if w)
    return text if is_class(text) and text not in {"Main", "MainGraph"} else "Model"


# The parts of a file


def _head(graph: Graph, flow: Flow) -> list[str]:
    count = sum(a.size for a in flow.state.values())
    lines = ['"""' + _sentence(graph), ""]
    lines.append(
        f"It holds {count:,} numbers in {len(flow.state)} tensors. load() gives the module,"
    )
    lines.append("its weights read from the file of the same name that ends in .safetensors.")
    narrowed = list(_narrowed(graph))
    if narrowed:
        lines += ["", "Redundant channels are gone; of the original tensors these are left:", ""]
        lines += narrowed[:_LISTED]
        lines += [f"- and {len(narrowed) - _LISTED} more"] if len(narrowed) > _LISTED else []
    return [*lines, '"""']


def _sentence(graph: Graph) -> str:
    name = re.sub(r"[^\w .:/-]", "", graph.name)[:40]
    stated = f" {in_docstring(name)}" if name not in {"", "main"} else ""
    return f"A neural network{stated}, written by redir as PyTorch."


def _narrowed(graph: Graph) -> Iterator[str]:
    """What is left of each constant that lost channels."""
    for node in graph.nodes:
        if node.source and node.source.channels and not node.inputs and node.source.outputs:
            parts = [f"{_ranges(kept)} of axis {axis}" for axis, kept in node.source.channels]
            text = f"- {node.source.outputs[0]}: {'; '.join(parts)}"
            yield in_docstring(text if len(text) < 88 else text[:84] + " ...")  # noqa: PLR2004


def _ranges(numbers: Iterable[int]) -> str:
    """Whole numbers, runs of them in short: ``0-3, 5``."""
    runs = groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])
    ends = [[n for _, n in run] for _, run in runs]
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in ends)


def _imports(body: str) -> list[str]:
    """The imports that the body needs."""
    lines = ["from collections import OrderedDict"] if "OrderedDict(" in body else []
    lines += ["from dataclasses import dataclass"] if "@dataclass" in body else []
    lines += ["from pathlib import Path"]
    lines += ["from typing import NamedTuple"] if "(NamedTuple):" in body else []
    lines += [""]
    lines += ["import torch"] if "torch." in body else []
    lines += ["import torch.nn.functional as F"] if re.search(r"\bF\.", body) else []
    return [*lines, "from safetensors.torch import load_file", "from torch import nn"]


@cache
def _helpers() -> Mapping[str, list[str]]:
    """The functions that a file may need, by name."""
    text = resources.files("redir.backends.torch").joinpath("helpers.py").read_text("utf-8")
    tree = ast.parse(text)
    found = (n for n in tree.body if isinstance(n, ast.FunctionDef))
    return {n.name: (ast.get_source_segment(text, n) or "").splitlines() for n in found}


def _helper(name: str) -> list[str]:
    return _helpers()[name]


def _all_helpers(names: Iterable[str]) -> list[str]:
    """The functions that are needed, and those that they call."""
    called = {n: {m for m in _helpers() if f"{m}(" in "\n".join(_helper(n)[1:])} for n in names}
    return sorted({*names, *(m for many in called.values() for m in many)})


def _build(call: str, frozen: Sequence[str]) -> list[str]:
    head = ["def build():", '    """Build the network, its weights not set."""']
    if not frozen:
        return [*head, f"    return {call}"]
    return [*head, f"    model = {call}", *frozen, "    return model"]


def _load(*, packs: bool) -> list[str]:
    """The function that reads the weights, tensors of which may be in palettes."""
    read = "load_file(weights, device=str(device))"
    given = f"unpack({read}, model.state_dict())" if packs else read
    return [
        'def load(device="cpu"):',
        '    """Build the network and read its weights."""',
        "    model = build()",
        '    weights = Path(__file__).with_suffix(".safetensors")',
        f"    model.load_state_dict({given})",
        "    return model.to(device).eval()",
    ]


__all__ = ["TABLE", "beside", "identifier", "save", "source", "to_torch"]
