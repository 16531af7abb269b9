"""What takes too long is told so, by a thread that looks after all that runs."""

from __future__ import annotations

import threading
import time

from redir.runtime.deadlines import ending_at


def test_what_runs_beyond_its_deadline_is_told() -> None:
    told = threading.Event()
    with ending_at(time.monotonic() + 0.01, told.set):
        assert told.wait(10)


def test_what_is_done_before_is_not_told() -> None:
    told, later = threading.Event(), threading.Event()
    with ending_at(time.monotonic() + 0.1, told.set):
        pass
    with ending_at(time.monotonic() + 0.2, later.set):
        assert later.wait(10)
    assert not told.is_set()


def test_of_several_only_what_is_late_is_told() -> None:
    late, early = threading.Event(), threading.Event()
    with ending_at(time.monotonic() + 1000, early.set), ending_at(time.monotonic(), late.set):
        assert late.wait(10)
    assert not early.is_set()


def test_one_thread_looks_after_all() -> None:
    before = threading.active_count()
    for _ in range(20):
        with ending_at(time.monotonic() + 1000, lambda: None):
            assert threading.active_count() <= before + 1
