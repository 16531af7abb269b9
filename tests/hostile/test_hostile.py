"""A model file is data: whatever its texts hold, no code of its own gets into what redir writes."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import redir
from redir.errors import RedirError
from redir.frontends.onnx import from_proto
from redir.ir import Graph
from redir.text import parse
from tests.hostile.texts import HOSTILE, MEANING, changed, example, filled

torch = pytest.importorskip("torch")

from redir.backends.torch import audit, names  # noqa: E402 - torch comes first
from redir.backends.torch.writer import source, to_torch  # noqa: E402

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


INJECTING = ("abs.default) + print(1", '"); print(1); ("')


def vocabulary(text: str) -> set[str]:
    """What a source imports, and the names and attributes in it that it does not define itself."""
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {n.name for n in nodes if isinstance(n, ast.ClassDef)}
    paths = [n for n in nodes if isinstance(n, ast.Attribute)]
    own = {n.attr for n in paths if isinstance(n.ctx, ast.Store)}
    own |= {
        str(n.args[0].value)
        for n in nodes
        if isinstance(n, ast.Call)
        and isinstance(n.func, ast.Attribute)
        and n.func.attr == "register_buffer"
        and isinstance(n.args[0], ast.Constant)
    }
    assert all(name.isidentifier() and not name.startswith("__") for name in own)
    imports = {ast.unparse(n) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)}
    names = {n.id for n in nodes if isinstance(n, ast.Name)} - bound
    return imports | names | {n.attr for n in paths} - own


PLAIN = from_proto(filled(example(), "plain"))
USUAL = set[str]().union(
    *(vocabulary(source(from_proto(filled(example(t), t)))) for t in ("plain", "no path!")),
    vocabulary(source(from_proto(example()))),
)
EXPECTED = to_torch(PLAIN)(torch.from_numpy(X))


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_no_text_gets_into_source_as_code(text: str) -> None:
    assert vocabulary(source(from_proto(filled(example(text), text)))) <= USUAL


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_a_module_runs_whatever_its_model_calls_things(text: str) -> None:
    module = to_torch(from_proto(filled(example(text), text)))
    torch.testing.assert_close(module(torch.from_numpy(X)), EXPECTED)


def words_of(proto: onnx.ModelProto) -> set[str]:
    """What the source of a model holds; nothing where redir refuses it in so many words."""
    try:
        graph = from_proto(proto)
    except RedirError:
        return set()
    return names_in(graph)


@pytest.mark.parametrize("text", INJECTING, ids=ascii)
@pytest.mark.parametrize("kind", sorted(MEANING))
def test_no_text_that_says_what_to_compute_is_code(kind: str, text: str) -> None:
    for proto in changed(example(), kind, text):
        assert words_of(proto) <= USUAL


def carried(domain: str, name: str, **attributes: Any) -> Graph:
    """A model of one operator that it says is PyTorch's."""
    node = helper.make_node(name, ["x"], ["y"], domain=domain, **attributes)
    if "operands" not in attributes:
        node.attribute.append(helper.make_attribute("operands", ["self"]))
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [3, 4]) for n in "xy")
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(domain, 1)]
    graph = helper.make_graph([node], "carried", [x], [y])
    return from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def test_an_operator_of_torch_that_is_a_function_is_written() -> None:
    module = to_torch(carried("aten", "erfinv.default"))
    x = torch.from_numpy(X / 2)
    torch.testing.assert_close(module(x), torch.erfinv(x))


@pytest.mark.parametrize(
    ("domain", "name", "attributes"),
    [
        ("aten", "from_file.default", {"operands": [""], "filename": "touched", "shared": 1}),
        ("aten", "save.default", {"operands": ["item"], "filename": "touched"}),
        ("aten", "erfinv_.default", {}),
        ("aten", "erfinv.out", {"operands": ["self"]}),
        ("aten", "abs.default) + print(1", {}),
        ("aten", "abs.defaults", {}),
        ("aten", "abs.nothing", {}),
        ("aten", "abs.default.__class__", {}),
        ("aten", "_print.default", {"operands": [""], "s": "x"}),
        ("aten", "manual_seed.default", {"operands": [""], "seed": 1}),
        ("aten", "abs.default", {"operands": ["self)+print(1"]}),
        ("aten", "abs.default", {"x=print(1), y": 1}),
        ("aten", "sum.default", {"dtype": "torch.load"}),
        ("aten", "sum.default", {"dtype": "torch.float32 or print(1)"}),
        ("aten", "sum.default", {"dtype": "print(1)"}),
        ("torch.os", "system.default", {}),
        ("torch.ops.aten", "abs.default", {}),
        ("torch.load_library", "x.default", {}),
        ("torch.image", "write_file.default", {"operands": ["data"], "filename": "touched"}),
        ("torch.prim", "Print.default", {}),
        ("torch.__class__", "abs.default", {}),
        ("torch.", "abs.default", {}),
        ("aten.x", "abs.default", {}),
    ],
)
def test_what_is_no_function_of_torch_is_refused(
    domain: str, name: str, attributes: dict[str, Any]
) -> None:
    with pytest.raises(RedirError):
        source(carried(domain, name, **attributes))


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "from torch import hub",
        "print(1)",
        "def forward():\n    pass",
        "class A(nn.Module, metaclass=print):\n    pass",
        "class A(nn.Linear):\n    pass",
        "class A(nn.Module):\n    x = torch.abs(1)",
        "class A(nn.Module):\n    def forward(self, x):\n        return eval(x)",
        "class A(nn.Module):\n    def forward(self, x):\n        return x.__class__",
        "class A(nn.Module):\n    def forward(self, x):\n        return torch.os.system(x)",
        "class A(nn.Module):\n    def forward(self, x):\n        return torch.load(x)",
        "class A(nn.Module):\n    def forward(self, x):\n        return nn.Module.register(x)",
        "class A(nn.Module):\n    @staticmethod\n    def forward(x):\n        return x",
        "class A(nn.Module):\n    def __del__(self):\n        pass",
        "class A(nn.Module):\n    x: print(1) = None",
        "def build():\n    return\n\nbuild()",
        "x = = 1",
        "(" * 300 + ")" * 300,
    ],
)
def test_the_last_look_finds_what_redir_does_not_write(line: str) -> None:
    text = f'"""A network."""\nimport torch\nfrom torch import nn\n\n\n{line}\n'
    with pytest.raises(RedirError):
        audit.check(text)


@pytest.mark.parametrize(
    "call",
    [
        "Concat(x, x, axis='0) or print(1')",
        "Elu(x, alpha='1')",
        "Einsum(x, equation='ij->ij\"); print(1)')",
        "Flatten(x, axis=(1,))",
    ],
)
def test_an_attribute_of_another_type_is_refused(call: str) -> None:
    head = "@graph('m', opset={'': 17})\ndef main(x: Unknown):\n"
    graph = parse(f"{head}    y: Unknown = {call}\n    return {{'y': y}}\n")
    with pytest.raises(RedirError, match="attribute"):
        source(graph)


def test_no_part_of_a_module_is_called_like_what_modules_have() -> None:
    have = {*dir(torch.nn.Module), *vars(torch.nn.Module())}
    named = {n for n in have if not n.startswith("__")}
    assert named <= names.RESERVED


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_the_textual_form_is_safe_and_reads_back(text: str) -> None:
    graph = from_proto(filled(example(text), text))
    written = str(graph)
    assert all(line.isprintable() for line in written.split("\n"))
    assert str(parse(written)) == written


@pytest.mark.nightly
@given(st.text(), st.sampled_from(HOSTILE))
def test_no_drawn_text_gets_into_source_as_code(text: str, more: str) -> None:
    for mixed in (text + more, more + text):
        plain = mixed.encode(errors="replace").decode()
        assert vocabulary(source(from_proto(filled(example(plain), plain)))) <= USUAL


class Pair(NamedTuple):
    """What a module may give."""

    first: Any
    second: Any


class Nested(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """A module of which the graph says how inputs and outputs are nested, and what its state is."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Any, /, *more: Any, scale: float = 2.0, **named: Any) -> Any:
        self.count += 1
        return {"sum": x + more[0] * scale, "pair": Pair(x - named["y"], [x.max(0), "text"])}


def strings(held: Any) -> Iterator[tuple[Any, Any]]:
    """Where texts stand in nested JSON: what holds one, and by which key or place."""
    parts = held.items() if isinstance(held, dict) else enumerate(held)
    for key, part in list(parts):
        if isinstance(part, str):
            yield held, key
        elif isinstance(part, dict | list):
            yield from strings(part)


@pytest.fixture(scope="module")
def nested() -> Graph:
    x = torch.ones(2, 2)
    return redir.from_torch(Nested().eval(), (x, x), {"y": x})


@pytest.mark.parametrize(
    "text", [*INJECTING, "__import__('os').abort()", "a b", "self", "torch.os"]
)
def test_what_a_graph_says_of_its_module_is_no_code(text: str, nested: Graph) -> None:
    usual = vocabulary(source(nested)) | USUAL
    shell = nested.shell.removeprefix(b"torch:")
    for number in range(len(list(strings(json.loads(shell))))):
        held = json.loads(shell)
        owner, key = list(strings(held))[number]
        owner[key] = text
        graph = replace(nested, shell=b"torch:" + json.dumps(held).encode())
        assert names_in(graph) <= usual


def names_in(graph: Graph) -> set[str]:
    """What the source of a graph holds; nothing where redir refuses it in so many words."""
    try:
        return vocabulary(source(graph))
    except RedirError:
        return set()
