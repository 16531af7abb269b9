"""Names of modules, tensors and values, as Python has them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from redir.backends.torch_text import Path
from redir.ir import Node

SCOPES = "pkg.torch.onnx.name_scopes"  # as torch's exporter notes them
HIERARCHY = "pkg.torch.onnx.class_hierarchy"
_LONG = 40  # letters: no name of an attribute is longer
RESERVED = frozenset(
    """add_module apply bfloat16 buffers call_super_init children compile cpu cuda double
    dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
    get_submodule half ipu load_state_dict modules mtia named_buffers named_children named_modules
    named_parameters parameters register_buffer register_forward_hook register_module
    register_parameter requires_grad_ self set_extra_state set_submodule share_memory state_dict
    T_destination to to_empty train training type xpu zero_grad torch nn math load""".split()
)
_KEYWORDS = frozenset(
    """and as assert async await break class continue def del elif else except finally for from
    global if import in is lambda nonlocal not or pass raise return try while with yield None True
    False""".split()
)


def identifier(name: str) -> str:
    """``name`` as a Python identifier."""
    text = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    text = text if text and not text[0].isdigit() else f"t_{text}".rstrip("_")
    return f"{text}_" if text in _KEYWORDS or text in RESERVED else text


_PART = re.compile(r"[A-Za-z_]\w*|\d+", re.ASCII)
_GENERIC = re.compile(r"t_?\d*|v\d+|val_\d+|\w*[Cc]onstant\w*|\w*_output_\d+|\w*\d{3,}")


def dotted(name: str) -> Path | None:
    """The path that a name as ``layer1.0.conv1.weight`` is, if it is one."""
    parts = tuple(name.replace("-", "_").split("."))
    good = len(parts) > 1 and not parts[-1].isdigit() and all(is_part(p) for p in parts)
    return parts if good else None


def is_part(part: str) -> bool:
    """Whether a word may be a part of a path."""
    return bool(_PART.fullmatch(part)) and part not in RESERVED and part not in _KEYWORDS


def tensor_name(name: str, *, weight: bool) -> str:
    """What a tensor is called, if its name says anything."""
    text = identifier(name.rsplit("/", 1)[-1].rsplit("::", 1)[-1].split(":", maxsplit=1)[0])
    if not name or _GENERIC.fullmatch(text) or len(text) > _LONG:
        return "weight" if weight else "constant"
    return text


def module_path(text: str) -> Path | None:
    """The path that a text with dots is, if it is one."""
    parts = tuple(p for p in text.replace("-", "_").split(".") if p)
    return parts if all(is_part(p) for p in parts) else None


def module_scope(node: Node) -> Path:
    """The path of the module that a node came from: by a note, or by a name like torch's scopes."""
    if node.source is None:
        return ()
    notes = dict(node.source.metadata)
    if "module" in notes:
        return module_path(notes["module"]) or ()
    if SCOPES in notes:
        scopes = quoted(notes[SCOPES])
        return (module_path(scopes[-2]) or ()) if len(scopes) > 1 else ()
    return _named_scope(node.source.name)


def quoted(text: str) -> list[str]:
    """The strings of a list in text."""
    return re.findall(r"'([^']*)'", text)


def _named_scope(name: str) -> Path:
    """The path in a name such as ``/layer1/layer1.0/conv1/Conv``."""
    first, *middle = name.split("/")[:-1] or ["x"]
    if first or not middle:
        return ()
    path: list[str] = []
    before = ""
    for part in middle:
        rest = part[len(before) + 1 :] if before and part.startswith(before + ".") else part
        path += rest.split(".")
        before = part
    good = all(is_part(p) for p in path) and not path[0].isdigit()
    return tuple(path) if good else ()


def common(paths: Sequence[Path]) -> Path:
    """The longest path that all begin with."""
    shortest = min(paths, key=len, default=())
    for length in range(len(shortest), 0, -1):
        if all(p[:length] == shortest[:length] for p in paths):
            return shortest[:length]
    return ()
