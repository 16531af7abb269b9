"""Damage to ``.npz`` and ``.pt2`` files: to their members, to what these say, and to the bytes."""

from __future__ import annotations

import io
import json
import random
import zipfile
import zlib
from functools import cache
from typing import Any

import numpy as np

from tests.damaged.protos import NUMBERS, REALS, TEXTS, hit_bytes

Members = dict[str, bytes]
_HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1073741824,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 2), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (), }",
    "{'descr': '|V1073741824', 'fortran_order': False, 'shape': (4,), }",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<f4', 'shape': (1,)" + "(" * 2000,
    "nothing",
)


def members(data: bytes) -> Members:
    """What an archive holds by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(held: Members) -> bytes:
    """The archive that holds these."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in held.items():
            archive.writestr(zipfile.ZipInfo(name.replace("\0", "")), content)
    return buffer.getvalue()


def damaged_npz(seed: bytes, rng: random.Random) -> bytes:
    """A copy of an ``.npz`` file with a fault."""
    held = members(seed)
    name = rng.choice(list(held))
    match rng.randrange(8):
        case 0:
            return hit_bytes(seed, rng)
        case 1:
            held[name] = hit_bytes(held[name], rng)
        case 2:
            held[name] = npy(rng.choice(_HEADERS)) + bytes(rng.choice((0, 16, 4096)))
        case 3:
            del held[name]
        case 4:
            held[rng.choice(TEXTS) + ".npy"] = held[name]
        case 5:
            return bomb(name, 3)
        case 6:
            held[name] = _saved(rng)
        case _:
            held[name] = held[name][: rng.randrange(len(held[name]))]
    return packed(held)


def npy(header: str, version: bytes = b"\1\0") -> bytes:
    """The start of an ``.npy`` file that states ``header``."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text


def _saved(rng: random.Random) -> bytes:
    arrays = (
        np.full(3, rng.choice(REALS)),
        np.array(["text", "more"]),
        np.zeros((0, 4), np.float32),
        np.zeros((1,) * 32, np.float32),
        np.array([1 + 2j]),
        np.array(["2026-01-01"], "M8[s]"),
        np.zeros(2, [("a", "<f4"), ("b", "<i8")]),
        np.array(rng.choice(NUMBERS)),
    )
    buffer = io.BytesIO()
    np.save(buffer, arrays[rng.randrange(len(arrays))])
    return buffer.getvalue()


@cache
def bomb(name: str, gigabytes: int) -> bytes:
    """An archive of a few megabytes whose one member, an array of zeros, takes ``gigabytes``."""
    step, count = 2**26, 16 * gigabytes
    shape = step * count // 4
    head = npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape},), }}")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(step)) + packer.flush(zlib.Z_FULL_FLUSH)
    data = start + block * count + packer.flush()
    info = zipfile.ZipInfo(name)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, data)
        info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, len(head) + step * count
    whole = bytearray(buffer.getvalue())
    for at, start_of in ((0, 8), (whole.rfind(b"PK\1\2"), 10)):  # the local header says it too
        whole[at + start_of : at + start_of + 2] = (8).to_bytes(2, "little")
        sizes = at + start_of + 14
        whole[sizes : sizes + 4] = (len(head) + step * count).to_bytes(4, "little")
    return bytes(whole)


def damaged_pt2(seed: bytes, rng: random.Random) -> bytes:
    """A copy of a ``.pt2`` file with a fault or three."""
    if rng.random() < 0.15:
        return hit_bytes(seed, rng)
    held = members(seed)
    for _ in range(rng.randint(1, 3)):
        name = rng.choice(list(held))
        programs = [n for n in held if n.endswith(".json")]
        match rng.randrange(8):
            case 0:
                held[name] = hit_bytes(held[name], rng)
            case 1 if len(held) > 1:
                del held[name]
            case 2:
                held[name + rng.choice(TEXTS)] = held[name]
            case 3:
                held[name] = held[name][: len(held[name]) // 2]
            case _ if programs:
                program = rng.choice(programs)
                held[program] = _hit_json(held[program], rng)
    return packed(held)


def _hit_json(data: bytes, rng: random.Random) -> bytes:
    try:
        tree = json.loads(data)
    except ValueError:  # damaged before
        return data
    places = list(_places(tree))
    if not places:
        return data
    for _ in range(rng.randint(1, 2)):
        holder, key = rng.choice(places)
        match rng.randrange(4):
            case 0 if isinstance(holder, dict):
                holder.pop(key, None)
            case 1 if isinstance(holder, list) and key < len(holder):
                holder.insert(key, holder[key])
            case 2 if isinstance(holder, list) and key < len(holder):
                del holder[key]
            case _ if isinstance(holder, dict) or key < len(holder):
                holder[key] = _other(
                    holder.get(key) if isinstance(holder, dict) else holder[key], rng
                )
    return json.dumps(tree).encode()


def _places(tree: Any) -> Any:
    items = (
        enumerate(tree)
        if isinstance(tree, list)
        else tree.items()
        if isinstance(tree, dict)
        else ()
    )
    for key, value in items:
        yield tree, key
        yield from _places(value)


def _other(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((*NUMBERS, value + 1, 2 * value))
    if isinstance(value, str):
        return rng.choice((*TEXTS, value + "_", value[:-1], value.replace("conv", "add")))
    return rng.choice((None, [], {}, "text", 2**62, -1))
