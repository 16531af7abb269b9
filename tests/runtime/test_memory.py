"""Memory that is free is given back, and what is in use stays."""

from __future__ import annotations

import ctypes
import sys

import numpy as np
import pytest

from redir.runtime.memory import give_back


def test_what_is_in_use_stays() -> None:
    arrays = [np.full(2**17, n) for n in range(20)]
    del arrays[::2]
    give_back()
    assert [int(array.sum()) >> 17 for array in arrays] == list(range(1, 20, 2))


def test_a_c_library_that_cannot_be_asked_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    give_back()


def test_other_systems_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: 1 / 0)
    give_back()
