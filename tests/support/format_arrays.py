"""The stored chunks and small arrays of a recording, for `format_reader`; written from FORMAT.md alone."""

from __future__ import annotations

import hashlib
import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

Array = NDArray[Any]


def crc32c(data: bytes) -> int:
    return int(google_crc32c.value(data))


def as_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def folder_of(name: str, *, apart: bool = False) -> str:
    """The name of a folder in keys ("Keys")."""
    kept = rb"[^0-9._-]" if apart else rb"[^A-Za-z0-9._-]"
    text = re.sub(kept, lambda found: b"=%02X" % found[0][0], name.encode()).decode()
    if text == "":
        return "="
    if text.startswith("__") or set(text) == {"."}:
        text = f"={ord(text[0]):02X}{text[1:]}"
    return text if len(text) <= 200 else f"{text[:167]}={sha256(name.encode())[:32]}"


def decoded(stored: bytes) -> bytes:
    """What a stored chunk, a zstd frame and its crc32c, decompresses to."""
    assert crc32c(stored[:-4]) == int.from_bytes(stored[-4:], "little")
    return bytes(Zstd().decode(stored[:-4]))


class Keys:
    """Bytes by key, of a folder or an archive."""

    def __init__(self, path: Path) -> None:
        self._folder = path
        self._archive = zipfile.ZipFile(path) if path.suffix == ".zip" else None

    def get(self, key: str) -> bytes:
        if self._archive is None:
            return (self._folder / key).read_bytes()
        assert self._archive.getinfo(key).compress_type == zipfile.ZIP_STORED
        return self._archive.read(key)


class Stored:
    """What is stored of a recording; ``record`` is its commit record."""

    def __init__(self, path: Path) -> None:
        self._keys = Keys(path)
        self.record = json.loads(self._keys.get("zarr.json"))["attributes"]["spiketape"]
        rest = {name: value for name, value in self.record.items() if name != "crc32c"}
        assert crc32c(as_json(rest)) == self.record["crc32c"]
        assert self.record["format_version"] in (1, 2, 3)
        self.shard_bytes = self.record.get("shard_bytes")
        self.is_closed = self.record["state"] == "closed"

    def chunk(self, array: str, place: tuple[int, ...], grid: tuple[int, ...], decoded_bytes: int) -> bytes:
        """A stored chunk, by its place in the grid of chunks; alone, or out of a shard."""
        if not self.shard_bytes:
            return self._keys.get(f"{array}/c/" + "/".join(map(str, place)))
        others = math.prod(grid[1:])
        fitting = self.shard_bytes // (decoded_bytes * others)
        rows = max(1, min(fitting, 4096 // others, grid[0]))
        shard = self._keys.get(f"{array}/c/" + "/".join(map(str, [place[0] // rows, *[0] * len(place[1:])])))
        size = rows * others * 16
        index = shard[-size - 4 : -4]
        assert crc32c(index) == int.from_bytes(shard[-4:], "little")
        slot = int(np.ravel_multi_index((place[0] % rows, *place[1:]), (rows, *grid[1:])))
        offset, length = np.frombuffer(index, "<u8").reshape(-1, 2)[slot].tolist()
        assert offset != 2**64 - 1, "the chunk is not there"
        return shard[offset : offset + length]

    def table(self, array: str, dtype: str, rows: int, row: tuple[int, ...] = (), most: int = 4096) -> Array:
        """The first rows of a small array."""
        size = math.prod(row) * np.dtype(dtype).itemsize
        height = min(max(2**20 // size, 1), most)
        grid = (-(-rows // height), *[1] * len(row))
        chunks = [np.empty((0, *row), dtype)]
        for number in range(grid[0]):
            stored = self.chunk(array, (number, *[0] * len(row)), grid, height * size)
            chunks.append(np.frombuffer(decoded(stored), dtype).reshape(-1, *row))
            assert len(chunks[-1]) == height
        return np.concatenate(chunks)[:rows]

    def committed(self, array: str, dtype: str, promise: Any, row: tuple[int, ...] = ()) -> Array:
        """The rows of a small array that the commit promises."""
        rows = self.table(array, dtype, promise["rows"], row)
        assert crc32c(rows.tobytes()) == promise["crc32c"]
        return rows
