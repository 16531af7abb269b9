"""Reading a ``.pt2`` file as data: torch is handed a copy that holds only what was looked through.

torch keeps the program as JSON and weights as bytes. But it unpickles what it cannot keep so, loads
compiled libraries, evaluates sizes that are written as text, imports modules that the structure of
inputs and outputs names, and makes code of the names of values. None of that gets into the copy.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, BinaryIO

from redir.errors import BadInput, RedirError
from redir.frontends.torch.pt2_specs import checked_spec
from redir.ir import limits

_COPIED = re.compile(
    r"archive_format|archive_version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/(version|serialization_id)|data/weights/weight_\d+|data/constants/tensor_\d+"
)
_JSON = re.compile(
    r"models/model\.json|data/weights/model_weights_config\.json"
    r"|data/constants/model_constants_config\.json"
)
_EMPTIED = re.compile(r"data/sample_inputs/model\.pt")  # a pickle, which nothing here needs
_DROPPED = re.compile(r"extra/.*")
_HINT = "build the module in Python and call redir.from_torch(module, args)"
_DAMAGED = "not a program that torch.export.save wrote, or a damaged one"

_OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+\.\w+)", re.ASCII)
_ASSERTIONS = frozenset(
    """_assert_async.default _assert_async.msg _assert_scalar.default
    _assert_tensor_metadata.default sym_constrain_range.default
    sym_constrain_range_for_size.default""".split()
)  # they give nothing, and are not run
_NUMBERS = frozenset(
    [
        f"_operator.{name}"
        for name in """add and_ eq floordiv ge getitem gt le lshift lt mod mul ne
    neg or_ pos pow rshift sub truediv""".split()
    ]
    + [f"math.{name}" for name in "ceil floor trunc".split()]
    + [f"torch.sym_{name}" for name in "float int ite max min not sqrt".split()]
    + [
        f"torch.ops.higher_order.{name}"
        for name in """associative_scan cond map_impl scan
    while_loop wrap_with_autocast wrap_with_set_grad_enabled""".split()
    ]
)  # what is applied besides operators: to numbers, or to a part of the program
_NAME = re.compile(r"([A-Za-z_]\w*)?", re.ASCII)
_BY_NAME = ("config", "opset_version", "range_constraints")
_BY_VALUE = ("tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values")
_WIDEST = 16  # bytes of an element
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")


def checked(file: BinaryIO, find: Callable[[str, str], object]) -> io.BytesIO:
    """A copy of an archive that torch can read without running code of the file.

    ``find`` looks up an operator by its library and its name with the overload.

    Raises:
        BadInput: it is no such archive, or holds what is not plain data.
        TooLarge: what it holds is much larger than it is.
    """
    copy = io.BytesIO()
    size = file.seek(0, io.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive, zipfile.ZipFile(copy, "w") as clean:
            limits.ask(sum(info.file_size for info in archive.infolist()), "what it holds")
            root = _root(archive, size)
            for name in archive.namelist():
                data = _content(name.removeprefix(root), archive.read(name), find)
                if data is not None:
                    clean.writestr(zipfile.ZipInfo(name), data)
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeError, NotImplementedError):
        raise BadInput(_DAMAGED) from None
    except (RecursionError, AttributeError, KeyError, TypeError, ValueError):
        raise BadInput(_DAMAGED) from None
    copy.seek(0)
    return copy


def _root(archive: zipfile.ZipFile, size: int) -> str:
    """The folder in the archive that holds all; its members are of the size that they state."""
    names = archive.namelist()
    root = next(
        (n.removesuffix("archive_version") for n in names if n.endswith("/archive_version")), ""
    )
    if not re.fullmatch("[^/]+/", root):
        raise BadInput("not a program that torch.export.save wrote, or one of an old torch")
    if f"{root}.data/version" not in names:
        raise BadInput(_DAMAGED)
    known = [pattern.fullmatch for pattern in (_COPIED, _JSON, _EMPTIED, _DROPPED)]
    for name in names:
        inner = name.removeprefix(root)
        if inner == name or names.count(name) > 1 or not any(fits(inner) for fits in known):
            raise BadInput(f"it holds {name!r}, which may be code: {_HINT}")
    packed = any(i.compress_type != zipfile.ZIP_STORED for i in archive.infolist())
    if packed or sum(i.file_size for i in archive.infolist()) > size:
        raise BadInput("its members are compressed or overlap, which torch never writes")
    return root


def _content(name: str, data: bytes, find: Callable[[str, str], object]) -> bytes | None:
    """What of a member goes into the copy; None where it is left out."""
    if _DROPPED.fullmatch(name):
        return None
    if _EMPTIED.fullmatch(name):
        return b""
    if not _JSON.fullmatch(name):
        return data
    return json.dumps(_Cleaner(name, find).clean(json.loads(data))).encode()


class _Cleaner:
    """Goes through the JSON of one member."""

    def __init__(self, name: str, find: Callable[[str, str], object]) -> None:
        self.name, self.find = name, find
        self.rules: Mapping[str, Callable[[Any], Any]] = {
            "target": self._operator,
            "as_operator": self._operator,
            "in_spec": checked_spec,
            "out_spec": checked_spec,
            "expr_str": self._size,
            "use_pickle": self._no_pickle,
            "path_name": self._payload,
            "tensor_meta": self._tensor,
            "name": _name,
            "as_name": _name,
            "forward_arg_names": lambda names: list(map(_name, names)),
            "guards_code": lambda _: [],  # Python that torch would compile
            "metadata": _notes,
            "treespec_namedtuple_fields": lambda _: {},
            **dict.fromkeys(("as_custom_obj", "custom_obj"), self._no_object),
            **dict.fromkeys(_BY_NAME, self._by_name),
            **dict.fromkeys(
                _BY_VALUE, lambda h: self._by_name({_name(n): v for n, v in h.items()})
            ),
            "custom_obj_values": lambda held: self._no_object(held) if held else {},
        }

    def clean(self, held: Any) -> Any:
        """What of nested JSON goes into the copy."""
        if isinstance(held, list):
            return [self.clean(part) for part in held]
        if not isinstance(held, dict):
            return held
        return {key: self._part(key, part) for key, part in held.items()}

    def _part(self, key: str, held: Any) -> Any:
        return self.rules[key](held) if key in self.rules and held is not None else self.clean(held)

    def _by_name(self, held: Any) -> dict[str, Any]:
        """An object of which the keys are names that the file gives, not what JSON is made of."""
        return {name: self.clean(part) for name, part in held.items()}

    def _operator(self, target: Any) -> str:
        found = _OPERATOR.fullmatch(target) if isinstance(target, str) else None
        if target in _NUMBERS or (found and found[1] == "aten" and found[2] in _ASSERTIONS):
            return str(target)
        if found is None:
            raise BadInput(f"{self.name!r} asks for {target!r}, which is no operator: {_HINT}")
        try:
            self.find(found[1], found[2])
        except RedirError as error:
            raise BadInput(f"{self.name!r}: {error}: {_HINT}") from None
        return found[0]

    def _size(self, text: Any) -> str:
        if isinstance(text, str) and is_arithmetic(text):
            return text
        raise BadInput(f"{self.name!r} states a size that is no arithmetic: {text!r}")

    def _payload(self, name: Any) -> str:
        if isinstance(name, str) and _PAYLOAD.fullmatch(name):
            return name
        raise BadInput(f"{self.name!r} refers to pickled objects or to code: {_HINT}")

    def _tensor(self, held: Any) -> Any:
        """What is said of a weight, of which torch makes a tensor before it looks at its bytes."""
        limits.ask(_WIDEST * prod(size["as_int"] for size in held["sizes"]), "a weight in it")
        return self.clean(held)

    def _no_pickle(self, held: Any) -> bool:
        return bool(held) and self._no_object(held)

    def _no_object(self, _: Any) -> Any:
        raise BadInput(f"{self.name!r} refers to pickled objects or to code: {_HINT}")


def _name(name: Any) -> str:
    """A name of which torch makes Python."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise BadInput(f"it calls a value {name!r}, which is no name")


def _notes(held: Any) -> dict[str, str]:
    """What is noted of a node: only the modules that it ran in."""
    found = held.get("nn_module_stack")
    return {"nn_module_stack": found} if isinstance(found, str) else {}


# Sizes


_FUNCTIONS = frozenset(
    """Abs Add And CeilDiv CeilToInt CleanDiv Equality Float FloatTrueDiv FloorDiv FloorToInt
    GreaterThan Identity IntTrueDiv Integer LessThan Max Min Mod ModularIndexing Mul Not Or Pow
    PythonMod Rational RoundToInt StrictGreaterThan StrictLessThan Symbol ToFloat TruncToFloat
    TruncToInt Unequality Where""".split()
)
_SYMBOLS = re.compile(r"[a-z]+\d+|oo|int_oo|true|false")
_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Load, ast.keyword,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_POWER = 8  # the highest that a size is raised to
_LONG = 10_000  # letters of a size


def is_arithmetic(text: str) -> bool:
    """Whether evaluating a text only computes: numbers, symbols, a few functions of them."""
    if not text.isascii() or len(text) > _LONG:
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError):
        return False
    return all(map(_is_plain, ast.walk(tree)))


def _is_plain(part: ast.AST) -> bool:
    match part:
        case ast.Call(ast.Name("Pow"), [base, exponent]) | ast.BinOp(base, ast.Pow(), exponent):
            return _is_small(exponent) and not any(map(_is_power, ast.walk(base)))
        case ast.BinOp(_, ast.LShift() | ast.RShift() | ast.MatMult()):
            return False
        case ast.Call(ast.Name(name)):
            return name in _FUNCTIONS - {"Pow"}
        case ast.Name(name):
            return name in _FUNCTIONS or bool(_SYMBOLS.fullmatch(name))
        case ast.Constant(value):  # a text is the name of a symbol
            return not isinstance(value, str | bytes) or bool(_SYMBOLS.fullmatch(str(value)))
    return isinstance(part, _ARITHMETIC)


def _is_power(part: ast.AST) -> bool:
    match part:
        case ast.Call(ast.Name("Pow")) | ast.BinOp(_, ast.Pow()):
            return True
    return False


def _is_small(exponent: ast.expr) -> bool:
    """Whether an exponent is a small whole number."""
    match exponent:
        case ast.Constant(int(value)):
            return value <= _POWER
        case ast.UnaryOp(ast.USub(), inner) | ast.Call(ast.Name("Integer"), [inner]):
            return _is_small(inner)
    return False
