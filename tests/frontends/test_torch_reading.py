"""What redir writes as PyTorch reads as a person would write it, and computes the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402

from redir.backends.torch.writer import source, to_torch  # noqa: E402
from redir.io.models import from_module  # noqa: E402


class Net(nn.Module):  # type: ignore[misc]
    """A function of one tensor as a module."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def text_of(module: Any, *shape: int) -> str:
    """The source of a module of which the first axis of the input is open."""
    graph = from_module(module.eval(), (torch.randn(shape),))
    other = torch.randn(shape[0] + 1, *shape[1:])
    torch.testing.assert_close(to_torch(graph)(other), module(other))
    return source(graph)


def in_pairs(x: Any) -> Any:
    a, b = x.unbind(1)
    return a * b


def attended(x: Any) -> Any:
    return F.scaled_dot_product_attention(x.sin(), x.cos(), x.exp()) + x


def of_one_tensor(x: Any) -> Any:
    return F.scaled_dot_product_attention(x, x, x).sin()


@pytest.mark.parametrize(
    ("function", "shape", "line"),
    [
        (lambda x: x.reshape(x.shape[0], -1, 5), (2, 3, 4, 5), "return x.flatten(1, 2)"),
        (lambda x: x.reshape(x.shape[0], 3, 20), (2, 3, 4, 5), "return x.flatten(2)"),
        (lambda x: x.reshape(-1, 3, 20), (2, 3, 4, 5), "return x.flatten(2)"),
        (lambda x: x.reshape(-1, 4, 5), (2, 3, 4, 5), "return x.flatten(0, 1)"),
        (lambda x: x.reshape(-1, 3, 2, 2, 5), (2, 3, 4, 5), "return x.unflatten(2, (2, 2))"),
        (lambda x: x.reshape(-1, 3, 10, 2), (2, 3, 4, 5), r"return x.reshape\(.*3, 10, 2\)"),
        (lambda x: x.reshape(-1, 5, 12), (2, 3, 4, 5), r"return x.reshape\(.*5, 12\)"),
        (lambda x: x.reshape(-1, 3, 1, 1), (2, 3), r"return x.reshape\(.*3, 1, 1\)"),
        (lambda x: x.expand(-1, 5, 4), (2, 1, 4), "return x.expand(-1, 5, -1)"),
        (lambda x: x.expand(7, -1, 5, 4), (2, 1, 4), "return x.expand(7, -1, 5, -1)"),
        (in_pairs, (2, 2, 3), "y, z = x.unbind(1)"),
        (lambda x: x[:, 0] * x[:, 1], (2, 3, 4), "return x[:, 0] * x[:, 1]"),
        (lambda x: x[:, 0] * x[:, 1] + x.sum(1), (2, 2, 4), "x[:, 0] * x[:, 1]"),
        (lambda x: torch.arange(x.shape[0]), (2, 3), "torch.arange(x.shape[0], device=x.device)"),
        (attended, (2, 2, 3, 4), "scaled_dot_product_attention(q, k, torch.exp(x))"),
        (of_one_tensor, (2, 2, 3, 4), "scaled_dot_product_attention(x, x, x)"),
    ],
)
def test_a_forward_is_short(
    function: Callable[[Any], Any], shape: tuple[int, ...], line: str
) -> None:
    text = text_of(Net(function), *shape)
    assert line in text or re.search(line, text), text


class Pad(nn.Module):  # type: ignore[misc]
    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more

    def forward(self, x: Any) -> Any:
        return F.pad(x, (self.more, self.more)).sin()


class Padding(Pad):
    def __init__(self, more: int) -> None:
        super().__init__(more)
        self.padding = nn.Conv1d(3, 3, 1)

    def forward(self, x: Any) -> Any:
        return self.padding(super().forward(x))


class Both(nn.Module):  # type: ignore[misc]
    def __init__(self, first: Any, second: Any) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x))


def test_numbers_in_which_modules_differ_are_arguments_of_one_class() -> None:
    text = text_of(nn.Sequential(Pad(1), Pad(2)), 2, 3, 4)
    assert "Pad(1)" in text
    assert "Pad(2)" in text
    assert "    def __init__(self, padding):" in text
    assert "F.pad(x, (self.padding, self.padding))" in text


def test_numbers_that_all_modules_share_stay_where_they_are() -> None:
    text = text_of(nn.Sequential(Pad(2), Pad(2)), 2, 3, 4)
    assert "F.pad(x, (2, 2))" in text
    assert "self.padding" not in text


def test_a_number_is_not_called_as_a_part_of_its_module() -> None:
    text = text_of(Both(Padding(1), Padding(2)), 2, 3, 4)
    assert "self.padding_ = padding" in text
    assert "self.padding = nn.Conv1d(3, 3, 1)" in text


def test_what_stands_in_a_list_of_numbers_keeps_its_names() -> None:
    module = nn.Sequential(nn.Conv1d(3, 3, 1), Both(nn.Conv1d(3, 3, 1), nn.Conv1d(3, 4, 1))).eval()
    graph = from_module(module, (torch.randn(2, 3, 4),))
    assert to_torch(graph).state_dict().keys() == module.state_dict().keys()
    assert "self.first = nn.Conv1d(3, 3, 1)" in source(graph)
