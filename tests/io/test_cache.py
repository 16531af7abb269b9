"""What is kept in the user's cache folder: what is not there, or damaged, is done without."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from redir.io.cache import Bank, cache_folder

HELD = {"a": np.arange(250, dtype=np.float32)}


def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIR_CACHE", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "some/where")
    assert cache_folder() == Path("some/where/redir")


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError

    monkeypatch.delenv("REDIR_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", none)
    bank = Bank(cache_folder())
    bank.write("key", HELD)
    assert bank.read("key") is None


def test_what_is_kept_is_read(tmp_path: Path) -> None:
    bank = Bank(tmp_path / "new")
    assert bank.read("key") is None
    bank.write("key", HELD)
    assert np.array_equal((bank.read("key") or {})["a"], HELD["a"])
    assert bank.read("other") is None


def test_what_is_damaged_is_not_there(tmp_path: Path) -> None:
    bank, path = Bank(tmp_path), tmp_path / "key.npz"
    bank.write("key", HELD)
    whole = path.read_bytes()
    for damaged in (b"", b"hello", whole[:-90], whole.replace(b"\x41", b"\x42"), whole[:40]):
        path.write_bytes(damaged)
        assert bank.read("key") is None
    np.savez(path, a=np.array([{}], object))
    assert bank.read("key") is None
    bank.write("key", HELD)
    assert bank.read("key") is not None


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    bank = Bank(tmp_path, most=2400)
    for age, key in enumerate("abcd"):
        Bank(tmp_path).write(key, {"a": HELD["a"][:50]})
        os.utime(tmp_path / f"{key}.npz", (age, age))
    assert bank.read("a")
    bank.write("e", HELD)
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "d", "e"}


def test_what_is_larger_than_all_is_not_kept(tmp_path: Path) -> None:
    Bank(tmp_path, most=500).write("key", HELD)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bank = Bank(tmp_path / "file")
    bank.write("key", HELD)
    assert bank.read("key") is None
