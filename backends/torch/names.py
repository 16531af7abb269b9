"""Names of modules, tensors and values, as Python has them.

A model file names things as it likes. What goes into source as a name comes from here: ASCII
letters, digits and underscores, no keyword, and nothing that the source itself goes by.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Sequence
from importlib import resources

from redir.backends.torch.emit.text import Path
from redir.ir import Node

_SCOPES = "pkg.torch.onnx.name_scopes"  # as torch's exporter notes them
_HIERARCHY = "pkg.torch.onnx.class_hierarchy"
_LONG = 40  # letters: no name of an attribute is longer
_LONGEST, _DEEPEST = 80, 24  # letters of any name, and parts of a path
RESERVED = frozenset(
    """add_module apply bfloat16 buffers call_super_init children compile cpu cuda double
    dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
    get_submodule half ipu load_state_dict modules mtia named_buffers named_children named_modules
    named_parameters parameters register_backward_hook register_buffer register_forward_hook
    register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict T_destination to to_empty train
    training type xpu zero_grad torch nn math load
    _apply _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl
    _forward_hooks _forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks
    _forward_pre_hooks_with_kwargs _get_backward_hooks _get_backward_pre_hooks _get_name
    _is_full_backward_hook _load_from_state_dict _load_state_dict_post_hooks
    _load_state_dict_pre_hooks _maybe_warn_non_full_backward_hook _modules _named_members
    _non_persistent_buffers_set _parameters _register_load_state_dict_pre_hook
    _register_state_dict_hook _replicate_for_data_parallel _save_to_state_dict _slow_forward
    _state_dict_hooks _state_dict_pre_hooks _version _wrapped_call_impl""".split()
)
"""What every module of torch has, and no part of one may be called."""
IMPORTED = frozenset(
    "dataclass F load_file NamedTuple nn OrderedDict Path torch build load annotations".split()
)
"""What the source imports, and the functions that end it."""
HELPERS = frozenset(
    re.findall(
        r"^def (\w+)",
        resources.files("redir.backends.torch").joinpath("helpers.py").read_text("utf-8"),
        re.MULTILINE,
    )
)
"""The functions that the source may hold besides its classes."""
CALLED = frozenset("float int len list max min range super tuple".split())
"""The functions of Python that a forward may call."""
_ARGUMENTS = re.compile(
    r"(self|size|stride|kernel_size|((in|out)_)?(channels|features))\d*"
)  # of a constructor, in which a class of this name could not be reached
_LOCAL = RESERVED | IMPORTED | HELPERS | CALLED | {"self"}
_OWN = IMPORTED | HELPERS | CALLED | {"self"}
_CLASSES = IMPORTED | HELPERS | frozenset(dir(builtins))


def identifier(name: str, taken: frozenset[str] = _LOCAL) -> str:
    """``name`` as a Python identifier that is none of ``taken``."""
    text = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:_LONGEST].rstrip("_")
    text = text if text and not text[0].isdigit() else f"t_{text}".rstrip("_")
    return f"{text}_" if keyword.iskeyword(text) or text in taken else text


def argument(name: str) -> str:
    """What an argument of forward is called: ``name`` itself where the source can go by it."""
    good = _PART.fullmatch(name) and not name.startswith("__") and len(name) <= _LONGEST
    usable = good and not name[0].isdigit() and not keyword.iskeyword(name)
    return name if usable and name not in _OWN else identifier(name, _OWN)


_PART = re.compile(r"[A-Za-z_]\w*|\d+", re.ASCII)
_GENERIC = re.compile(r"t_?\d*|v\d+|val_\d+|\w*[Cc]onstant\w*|\w*_output_\d+|\w*\d{3,}")


def dotted(name: str) -> Path | None:
    """The path that a name as ``layer1.0.conv1.weight`` is, if it is one."""
    parts = tuple(name.replace("-", "_").split("."))
    good = 1 < len(parts) <= _DEEPEST and not parts[-1].isdigit() and all(map(is_part, parts))
    return parts if good else None


def is_part(part: str) -> bool:
    """Whether a word may be a part of a path."""
    if not _PART.fullmatch(part) or part.startswith("__") or len(part) > _LONGEST:
        return False
    return part not in RESERVED and not keyword.iskeyword(part)


def is_class(name: str) -> bool:
    """Whether a class may have this name."""
    if not _PART.fullmatch(name) or name.startswith("__") or len(name) > _LONGEST:
        return False
    ours = name in _CLASSES or _ARGUMENTS.fullmatch(name)
    return not (name[0].isdigit() or keyword.iskeyword(name) or ours)


def is_field(name: object) -> bool:
    """Whether a named tuple or a dataclass may have a field of this name."""
    if not isinstance(name, str) or not _PART.fullmatch(name) or len(name) > _LONGEST:
        return False
    return not (name[0].isdigit() or name.startswith("_") or keyword.iskeyword(name))


def tensor_name(name: str, *, weight: bool) -> str:
    """What a tensor is called, if its name says anything."""
    last = name.rsplit("/", 1)[-1].rsplit("::", 1)[-1].split(":", maxsplit=1)[0]
    text = identifier(last, RESERVED)
    if not name or _GENERIC.fullmatch(text) or len(text) > _LONG:
        return "weight" if weight else "constant"
    return text


def module_path(text: str) -> Path | None:
    """The path that a text with dots is, if it is one."""
    parts = tuple(p for p in text.replace("-", "_").split(".") if p)
    return parts if len(parts) <= _DEEPEST and all(map(is_part, parts)) else None


def module_scope(node: Node) -> Path:
    """The path of the module that a node came from: by a note, or by a name like torch's scopes."""
    if node.source is None:
        return ()
    notes = dict(node.source.metadata)
    if "module" in notes:
        return module_path(notes["module"]) or ()
    if _SCOPES in notes:
        scopes = _quoted(notes[_SCOPES])
        return (module_path(scopes[-2]) or ()) if len(scopes) > 1 else ()
    return _named_scope(node.source.name)


def classes_of(node: Node) -> dict[Path, str]:
    """What the classes of the modules were called that a node ran in, by their paths."""
    notes = dict(node.source.metadata) if node.source else {}
    found: dict[Path, str] = {}
    if _HIERARCHY in notes and _SCOPES in notes:
        scopes, kinds = _quoted(notes[_SCOPES]), _quoted(notes[_HIERARCHY])
        paths = zip(map(module_path, scopes[:-1]), kinds[:-1], strict=False)
        found = {p: k.rpartition(".")[2] for p, k in paths if p is not None}
    path, names = module_path(notes.get("module", "")), notes.get("classes", "").split("/")
    if path is None or not names[0]:
        return found
    every = [path[:k] for k in range(len(path) + 1)]
    lists = [p for p in every[1:-1] if path[len(p)].isdigit()]
    if len(every) - len(lists) == len(names):  # a ModuleList is not called, and not named
        every = [p for p in every if p not in lists]
    return found | (dict(zip(every, names, strict=True)) if len(every) == len(names) else {})


def _quoted(text: str) -> list[str]:
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
    good = len(path) <= _DEEPEST and all(map(is_part, path)) and not path[0].isdigit()
    return tuple(path) if good else ()


def common(paths: Sequence[Path]) -> Path:
    """The longest path that all begin with."""
    shortest = min(paths, key=len, default=())
    for length in range(len(shortest), 0, -1):
        if all(p[:length] == shortest[:length] for p in paths):
            return shortest[:length]
    return ()
