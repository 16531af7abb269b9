"""The damaged files themselves, each with a command that reads it."""

from __future__ import annotations

import io
import random
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from redir.frontends import onnx as frontend
from redir.io.models import save
from tests.damaged import archives, protos, seeds, texts
from tests.damaged.driver import Case

_COMMANDS = (
    ["compress", "MODEL", "out/out.onnx"],
    ["compress", "MODEL", "out/out.onnx", "--preset", "red"],
    ["compress", "MODEL", "out/out.redir"],
    ["compress", "MODEL", "out/out.py"],
    ["compress", "MODEL", "-", "--json", "out/report.json"],
    ["opt", "MODEL", "-p", "fold-constants,merge"],
    ["opt", "MODEL", "out/out.py", "-p", "fold-constants"],
    ["stats", "MODEL"],
    ["groups", "MODEL", "--svg", "out/groups.svg"],
    ["verify", "MODEL", "MODEL"],
)
_REAL = 0.1  # of the cases start from a real model


def make(kind: str, number: int, root: Path) -> Case:
    """The case of this ``kind`` (onnx, pt2, text or npz) and ``number``, always the same."""
    folder = root / f"{kind}{number}"
    folder.mkdir()
    rng = random.Random(f"{kind} {number}")  # noqa: S311 - not for secrets
    return Case(folder.name, folder, _MAKERS[kind](folder, rng))


def _on(model: str, rng: random.Random) -> list[str]:
    return [model if word == "MODEL" else word for word in rng.choice(_COMMANDS)]


def _onnx(folder: Path, rng: random.Random) -> list[str]:
    (folder / "weights.bin").write_bytes(bytes(range(48)))
    (folder / "model.onnx").write_bytes(protos.damaged(_seed(rng), rng))
    return _on("model.onnx", rng)


def _seed(rng: random.Random) -> bytes:
    return rng.choice(seeds.real() if rng.random() < _REAL else seeds.small())


def _pt2(folder: Path, rng: random.Random) -> list[str]:
    (folder / "model.pt2").write_bytes(archives.damaged_pt2(rng.choice(_programs()), rng))
    return _on("model.pt2", rng)


def _text(folder: Path, rng: random.Random) -> list[str]:
    (folder / "model.redir").write_bytes(texts.damaged(rng.choice(_texts()), rng))
    return _on("model.redir", rng)


def _npz(folder: Path, rng: random.Random) -> list[str]:
    """Inputs, labels, or what lies beside a text."""
    model = folder / "model.onnx"
    model.write_bytes(seeds.small()[2])
    if rng.random() < 0.5:
        save(frontend.load(model), folder / "model.redir")
        beside = folder / "model.redir.npz"
        beside.write_bytes(archives.damaged_npz(beside.read_bytes(), rng))
        return _on("model.redir", rng)
    shape = (4, 3, 8, 8)
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones(shape, np.float32), label=np.zeros(4, np.int64))
    held = archives.members(buffer.getvalue())
    labelled = rng.random() < 0.5
    sound = archives.packed(held if labelled else {"x.npy": held["x.npy"]})
    (folder / "given.npz").write_bytes(archives.damaged_npz(sound, rng))
    if labelled:
        return ["compress", "model.onnx", "out/out.onnx", "--eval", "given.npz"]
    return ["verify", "model.onnx", "model.onnx", "--inputs", "given.npz"]


@cache
def _texts() -> tuple[str, ...]:
    read = [frontend.from_proto(onnx.ModelProto.FromString(m)) for m in seeds.small()[:10]]
    return tuple(map(str, read))


@cache
def _programs() -> tuple[bytes, ...]:
    """Sound ``.pt2`` files; torch is imported here alone, for it takes seconds."""
    import torch  # noqa: PLC0415

    nn: Any = torch.nn

    class Both(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 3, batch_first=True)
            self.register_buffer("table", torch.arange(12.0).reshape(3, 4))

        def forward(self, x: Any, y: Any) -> Any:
            found, _ = self.lstm(x)
            return {"a": found * 2, "b": (y @ self.table).softmax(-1)}

    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 5),
    )  # fmt: skip
    batch = {0: torch.export.Dim("n")}
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return tuple(
        _exported(module.eval(), args, shapes)
        for module, args, shapes in (
            (network, (torch.randn(2, 3, 8, 8),), (batch,)),
            (Both(), (torch.randn(2, 5, 4), torch.randn(2, 3)), None),
            (layer, (torch.randn(2, 5, 8),), None),
        )
    )


def _exported(module: Any, args: Any, shapes: Any) -> bytes:
    import torch  # noqa: PLC0415

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own LSTM is not what its export expects
        program = torch.export.export(module, args, dynamic_shapes=shapes, strict=False)
    torch.export.save(program, buffer)
    return buffer.getvalue()


_MAKERS = {"onnx": _onnx, "pt2": _pt2, "text": _text, "npz": _npz}
