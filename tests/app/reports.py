"""Reports that tests make: data as ``--json`` gives it, with any text in it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

COUNTS = {"parameters": 100, "distinct": 90, "macs": 5000, "multiplications": 4000, "bytes": 400}
LESS = {"parameters": 40, "distinct": 39, "macs": 2000, "multiplications": 1900, "bytes": 160}
TIME = {"before": 2e-3, "after": 1e-3, "ratio": 0.5, "low": 0.4, "high": 0.6, "verdict": "faster"}

JUDGED = {"metric": "top1", "better": "higher", "against": "targets", "before": 0.9}


def _part(text: str, inputs: int | None, outputs: int | None, *kernel: int) -> dict[str, Any]:
    density = {"low": -1.0, "high": 2.0, "shares": [0.25, 0.75]}
    known = {"groups": 1, "kernel": list(kernel), "density": density if inputs else None}
    return {"name": text, "op": text or "Conv", "inputs": inputs, "outputs": outputs, **known}


def _layer(name: str, text: str, was: Any, parts: list[Any]) -> dict[str, Any]:
    return {
        "name": name,
        "op": text or "Conv",
        "before": COUNTS if was else None,
        "after": LESS if parts else None,
        "was": was,
        "parts": parts,
        "rank": 4 if len(parts) > 1 else None,
        "error": 0.031 if len(parts) > 1 else None,
    }


def compressed(text: str = "conv") -> dict[str, Any]:
    """What ``redir compress --json`` gives, with ``text`` for each name."""
    step = {"seconds": 0.5, "changed": True, "ties": 0.0, "waits": False, "promises": [text]}
    left = {"nodes": 7, "parameters": 40, "macs": 2000, "bytes": 160}
    pins = [{"what": text, "channels": 2, "weight": text, "why": [text, f"{text}2"]}]
    members = [{"name": text, "axis": 0, "channels": 8}]
    family = {"width": 8, "free": 6, "pinned": 2, "members": members, "operators": [text]}
    total = {"families": 1, "pinned_families": 1}
    was = _part(text, 8, 16, 3, 3)
    parts = [_part("", 8, 4, 3, 1), _part(text, 4, 16, 1, 3)]
    return {
        "before": COUNTS,
        "after": LESS,
        "sizes": {text: [1, 8, 4, 4]},
        "time": TIME,
        "passes": [
            {**step, "name": text, "deviation": 0.25, "verdict": None, "left": left},
            {**step, "name": "cse", "deviation": 1e-7, "verdict": text, "left": left},
            {**step, "name": "merge", "changed": False, "deviation": None, "verdict": "pass",
             "left": None},
        ],
        "verdict": "pass",
        "reason": text,
        "deviation": 0.25,
        "expected": 0.04,
        "curve": {"unit": "macs", "points": [{"left": 0.5, "deviation": 0.04},
                                           {"left": 0.75, "deviation": 0.01}]},
        "active": 0.5,
        "eval": {**JUDGED, "after": 0.875},
        "target": {"name": "macs", "asked": 0.4, "reached": 0.4, "statistics": text},
        "operators": {"before": {text: 3, "Relu": 1}, "after": {"Relu": 1}},
        "layers": [
            _layer(text, text, was, parts),
            _layer("same", "Conv", was, [was]),
            _layer("norm", "BatchNormalization", _part("norm", None, None), []),
            _layer("", "Gemm", None, [_part("", 3, 4)]),
        ],
        "families": {"families": [{**family, "pins": pins}], "total": total},
        "run": {"command": f"redir {text}", "model": text, "out": f"{text}.onnx",
                "versions": {"redir": text}},
    }  # fmt: skip


def swept(text: str = "conv") -> dict[str, Any]:
    """What ``redir sweep --json`` gives, with ``text`` for each name."""
    held = {"asked": 0.4, "reached": 0.4, "deviation": 0.25, "eval": 0.875, "time": TIME}
    missed = {**held, "asked": 0.1, "reached": None, "deviation": None, "time": None}
    told = {"pipeline": text, "key": None}
    return {
        "target": text,
        "statistics": text,
        "before": COUNTS,
        "eval": JUDGED,
        "points": [
            {**LESS, **held, **told, "file": f"{text}.onnx", "missed": None},
            {**COUNTS, **held, **told, "asked": 0.9, "file": None, "missed": None},
            {**LESS, **missed, **told, "file": None, "missed": text},
        ],
        "run": {"command": text, "model": text, "out": None, "versions": {}},
    }


class Page(HTMLParser):
    """What an HTML page is made of: its tags in order, attributes, and texts by the tag."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if (tag, attrs) == ("wbr", []):  # where a line may end, in names
            return
        self.tags.append(tag)
        self.attributes += attrs
        self._open.append(tag)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1] if self._open else "", data.strip()))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def of(self, tag: str) -> list[str]:
        """The texts directly in tags of this kind."""
        return [text for found, text in self.texts if found == tag]
