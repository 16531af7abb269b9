"""A ``.pt2`` file is data: torch is handed nothing of it that would run, import or open things."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import redir
from redir.errors import BadInput
from redir.frontends.torch.pt2 import is_arithmetic
from redir.frontends.torch.pt2_specs import checked_spec

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402 - torch may be missing
from torch.export import Dim  # noqa: E402

MODEL = "models/model.json"


class Net(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("target", torch.ones(3))

    def forward(self, x: Any, more: Any) -> Any:
        y = (self.linear(x) + more["bias"]).relu_() * self.target
        some = torch.nn.functional.pad(y, (0, x.shape[0] // 2))
        return {"out": y, "rest": [OrderedDict(some=some), defaultdict(list, also=y)]}


@pytest.fixture(scope="module")
def members() -> dict[str, bytes]:
    """The members of a saved program, by their names below the root."""
    args, shapes = (torch.ones(2, 4), {"bias": torch.ones(3)}), ({0: Dim("n")}, {"bias": None})
    program = torch.export.export(Net().eval(), args, dynamic_shapes=shapes)
    file = io.BytesIO()
    torch.export.save(program, file)
    with zipfile.ZipFile(file) as archive:
        return {n.partition("/")[2]: archive.read(n) for n in archive.namelist()}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a program is saved, in a folder that holds a module which leaves a trace."""
    (tmp_path / "evil.py").write_text("open('touched', 'w').close()\nclass E: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "model.pt2"


def save(path: Path, members: dict[str, bytes], **options: Any) -> None:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(f"model/{name}", data)


def replaced(members: dict[str, bytes], old: str, new: str, name: str = MODEL) -> dict[str, bytes]:
    """The members with a text in one of them replaced wherever it stands."""
    text = members[name].decode()
    assert old in text
    return {**members, name: text.replace(old, new).encode()}


def respecified(members: dict[str, bytes], key: str, context: Any, **more: str) -> dict[str, bytes]:
    """The members with another structure of the inputs or outputs, a blank before its context."""
    held = json.loads(members[MODEL])
    signature = held["graph_module"]["module_call_graph"][0]["signature"]
    kind = {"type": "builtins.dict", "context": context, "children_spec": [], **more}
    signature[key] = json.dumps([1, kind])
    return {**members, MODEL: json.dumps(held).encode()}


def refused(path: Path, members: dict[str, bytes], **options: Any) -> str:
    save(path, members, **options)
    with pytest.raises(BadInput) as caught:
        redir.load(path)
    assert not Path("touched").exists()
    assert "evil" not in sys.modules
    return str(caught.value)


def test_a_program_of_many_kinds_is_read(members: dict[str, bytes], path: Path) -> None:
    save(path, members)
    assert list(redir.load(path).outputs) == ["out", "rest_0_some", "rest_1_also"]


ENUM = ' {"__enum__": true, "fqn": "evil:E", "module": "evil", "name": "E"}'


@pytest.mark.parametrize("key", ["in_spec", "out_spec"])
@pytest.mark.parametrize("blank", ["", " ", "\n\t", "[", "[[1], "])
def test_no_structure_imports_a_module(
    key: str, blank: str, members: dict[str, bytes], path: Path
) -> None:
    closing = {"[": "]", "[[1], ": "]"}.get(blank, "")
    refused(path, respecified(members, key, blank + ENUM + closing))


@pytest.mark.parametrize("key", ["in_spec", "out_spec"])
@pytest.mark.parametrize(
    ("module", "name"),
    [("evil", "E"), ("builtins", "eval"), ("os", "system"), ("collections", "x")],
)
def test_no_factory_is_imported(
    key: str, module: str, name: str, members: dict[str, bytes], path: Path
) -> None:
    factory = {"default_factory_module": module, "default_factory_name": name, "dict_context": []}
    found = respecified(members, key, factory, type="collections.defaultdict")
    assert "code" in refused(path, found)


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "{}",
        "[2, {}]",
        "[true, {}]",
        '{"1": 1, "2": 2}',
        '[1, {"type": null, "context": null}]',
        '[1, {"type": {}, "context": null, "children_spec": []}]',
        '[1, {"type": "builtins.list", "context": {}, "children_spec": []}]',
        '[1, {"type": "builtins.list", "context": "{}", "children_spec": []}]',
        '[1, {"type": null, "context": null, "children_spec": {}}]',
        ["text"],
    ],
)
def test_what_is_no_structure_is_refused(spec: Any) -> None:
    with pytest.raises((BadInput, ValueError)):
        checked_spec(spec)


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.relu_.nothing",
        "torch.ops.load_library",
        "torch.ops.image.write_file.default",
        "torch.ops.prim.Print.default",
        "torch.os.system",
        "torch.load",
        "torch.hub.load",
        "torch._C._jit_set_profiling_mode",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "math.__loader__.load_module",
        "#extension:evil",
        "evil.E",
        "torch.ops.aten.relu_.default\n",
        "torch.ops.higher_order.triton_kernel_wrapper_functional",
    ],
)
def test_only_functions_of_torch_are_operators(
    target: str, members: dict[str, bytes], path: Path
) -> None:
    refused(path, replaced(members, "torch.ops.aten.relu_.default", json.dumps(target)[1:-1]))


def test_an_operator_among_the_arguments_is_looked_up_too(
    members: dict[str, bytes], path: Path
) -> None:
    held = json.loads(members[MODEL])
    node = held["graph_module"]["graph"]["nodes"][0]
    node["inputs"][0]["arg"] = {"as_operator": "torch.hub.load"}
    refused(path, {**members, MODEL: json.dumps(held).encode()})


@pytest.mark.parametrize(
    "name", ["x=1\\nopen('touched','w')\\ndef f(): pass\\nx", "a.b", "x;y", "\\uff4f", "a b", "1"]
)
def test_no_name_of_a_value_is_code(name: str, members: dict[str, bytes], path: Path) -> None:
    assert "no name" in refused(path, replaced(members, '"linear"', f'"{name}"'))


@pytest.mark.parametrize("name", ["opaque_obj_0", "custom_obj_0", "../weights/weight_0", "evil.pt"])
@pytest.mark.parametrize("config", ["weights", "constants"])
def test_no_weights_are_unpickled(
    config: str, name: str, members: dict[str, bytes], path: Path
) -> None:
    meta = {"path_name": name, "is_param": False, "use_pickle": False, "tensor_meta": None}
    text = json.dumps({"config": {"target": meta}}).encode()
    assert "pickled" in refused(
        path, {**members, f"data/{config}/model_{config}_config.json": text}
    )


def test_pickled_weights_are_refused(members: dict[str, bytes], path: Path) -> None:
    name = "data/weights/model_weights_config.json"
    found = replaced(members, '"use_pickle": false', '"use_pickle": true', name)
    assert "pickled" in refused(path, found)


class Evil:
    """What leaves a trace when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("touched"),))


def test_pickled_inputs_and_other_files_are_not_read(members: dict[str, bytes], path: Path) -> None:
    evil = pickle.dumps(Evil())
    save(path, {**members, "data/sample_inputs/model.pt": evil, "extra/x.pkl": evil})
    assert redir.load(path).outputs
    assert not Path("touched").exists()


def test_guards_are_not_compiled(members: dict[str, bytes], path: Path) -> None:
    held = json.loads(members[MODEL])
    held["guards_code"] = ["open('touched', 'w')", "not python"]
    save(path, {**members, MODEL: json.dumps(held).encode()})
    assert redir.load(path).outputs
    assert not Path("touched").exists()


@pytest.mark.parametrize(
    "name",
    [
        "data/aotinductor/model/code.so",
        "data/weights/model.pt",
        "data/constants/opaque_obj_0",
        "models/other.json",
        "../evil.py",
        "data/weights/../weight_0",
        "version",
        "models/model.json/x",
    ],
)
def test_a_member_that_torch_would_run_or_unpickle_is_refused(
    name: str, members: dict[str, bytes], path: Path
) -> None:
    assert "may be code" in refused(path, {**members, name: b"{}"})


def test_a_program_without_a_version_is_refused(members: dict[str, bytes], path: Path) -> None:
    assert "damaged" in refused(path, {n: m for n, m in members.items() if n != ".data/version"})


def test_two_members_of_one_name_are_refused(members: dict[str, bytes], path: Path) -> None:
    save(path, members)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(f"model/{MODEL}", b"{}")
    with pytest.raises(BadInput, match="may be code"):
        redir.load(path)


def test_compressed_members_are_refused(members: dict[str, bytes], path: Path) -> None:
    assert "compressed" in refused(path, members, compression=zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-9],
        lambda _: b"[" * 100_000,
        lambda _: b"null",
        lambda _: b"[]",
        lambda text: text.replace(b'"nodes": [', b'"nodes": [7,'),
        lambda text: b"\xff" + text,
    ],
)
def test_a_damaged_program_is_refused(
    change: Callable[[bytes], bytes], members: dict[str, bytes], path: Path
) -> None:
    refused(path, {**members, MODEL: change(members[MODEL])})


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Add(Integer(1), Mul(Integer(-1), Symbol('s0', integer=True)))",
        "FloorDiv(Symbol('s0'), Integer(2))",
        "Pow(Symbol('s0'), Integer(2))",
        "2*s0 + 1",
    ],
)
def test_sizes_are_arithmetic(text: str) -> None:
    assert is_arithmetic(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getpid()",
        "open('touched', 'w')",
        "S('evil')",
        "Function('x')",
        "Lambda(x, x)",
        "s0.__class__",
        "(lambda: 1)()",
        "[1 for _ in (1,)]",
        "Symbol('__import__')",
        "Symbol('x' 'y')",
        "10**10**10",
        "Pow(10, Pow(10, 10))",
        "Pow(Integer(9), Symbol('s0'))",
        "((2**8)**8)**8",
        "1 << 99999999",
        "\uff53\uff10",
        "s0 if s0 else s1",
        "f'{s0}'",
        "1" * 20_000,
        "exec",
        "Add(*s0)",
        "x := 1",
        "",
    ],
)
def test_what_is_no_arithmetic_is_not_evaluated(text: str) -> None:
    assert not is_arithmetic(text)
