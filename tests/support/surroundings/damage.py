"""Ways to damage a file, and a recording that has one of everything to damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format.chunks import checksum
from recorder.format.planes.values import pack_levels
from recorder.format.record.parts import LayerPart
from tapes import Counts, Made, Run, Trial, kept_frames, write_recording

FRAMES = 1928  # a whole block of each layer, and a partial one


# Of two samples there are 688 frames, which fill whole rows, as those of whole layers do.
PARTS = {
    "part": LayerPart((7, 9), (range(0, 7, 2), range(9)), samples=2),
    "counted": LayerPart((7, 9), samples=2, counts_only=True),
}


def layers() -> dict[str, NDArray[np.bool_]]:
    random = np.random.default_rng(1)
    return {
        "1": random.random((FRAMES, 5)) < 0.3,
        "wide": random.random((FRAMES, 7, 9)) < 0.05,
    }


def graded() -> NDArray[np.int8]:
    """Levels of which some are larger, and some negative, from a later chunk on."""
    random = np.random.default_rng(2)
    levels = (random.random((FRAMES, 5)) < 0.4).astype(np.int8)
    levels[200:] *= random.integers(1, 4, (FRAMES - 200, 5), np.int8)
    levels[400:] *= random.choice(np.array([-1, 1], np.int8), (FRAMES - 400, 5))
    return levels


def signals() -> dict[tuple[str, str], Made]:
    random = np.random.default_rng(2)
    whole = random.random((FRAMES, 7, 9))
    return {
        ("1", "v"): Made(random.normal(size=(FRAMES, 5)).astype(np.float32), every=10),
        ("wide", "v"): Made(whole, every=16, samples=2),
        ("wide", "count"): Made((whole * 99).astype(np.int32), every=40, neurons=(2, 3, 50)),
    }


def operations() -> Counts:
    values = np.random.default_rng(4).integers(0, 99, (FRAMES, 2, 6), np.int64)
    return Counts(("0", "fc"), values, chunk_bytes=16_000)


def write(path: Path, state: str, *, with_values: bool = False) -> None:
    """A recording of two layers, one split into parts, with trials; more behind its commit, if open.

    Both have signals, of which one is in parts, too, and operations were counted. With values there are three
    more layers: "graded", "part", of which a part is kept, and "counted", of which counts are.
    """
    every: dict[str, NDArray[Any]] = layers()
    if with_values:
        every |= {"graded": graded(), "part": layers()["wide"], "counted": layers()["wide"]}
    runs = [Run(0, 100, 10, 0), Run(100, 55, 10, -1), Run(200, 378, 1, 1)]
    trials = [Trial(0, 10, {"label": ["a", "b"] * 5, "contrast": [0.5] * 10}), Trial(1, 1, {"label": ["c"]})]
    writer = write_recording(
        path,
        every,
        runs,
        trials,
        close=state == "closed",
        chunk_bytes=400,
        limit_bytes=100,
        signals=signals(),
        operations=operations(),
        parts=PARTS if with_values else {},
    )
    if state == "interrupted":
        for name, frames in every.items():
            kept, _ = kept_frames(frames[:1600], [Run(600, 1600, 1)], PARTS.get(name))
            flat = kept.reshape(1600, -1)
            writer.append(name, np.packbits(flat, axis=0) if flat.dtype == np.bool_ else pack_levels(flat))
        for (layer, signal), made in signals().items():
            kept, _ = made.kept([Run(600, 200, 1)])
            writer.append_signal(layer, signal, kept.reshape(len(kept), -1))
        writer.append_operations(operations().values[:200].reshape(200, -1))
        (path / "layers/1/spikes/c/99.0123456789abcdef.partial").write_bytes(b"cut short")
    writer.release()


def edit_record(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change the commit record, and give it a checksum that fits."""
    root = json.loads((path / "zarr.json").read_text())
    record = root["attributes"]["spiketape"]
    edit(record)
    rest = {key: value for key, value in record.items() if key != "crc32c"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    record["crc32c"] = checksum(text.encode())
    (path / "zarr.json").write_text(json.dumps(root))


@dataclass(frozen=True)
class Damage:
    """What is done to one file of a recording."""

    what: str
    key: str

    def do(self, recording: Path, outside: Path) -> list[str]:
        """Damage a copy; the keys whose bytes are others now."""
        path = recording / self.key
        before = path.read_bytes()
        kind, _, detail = self.what.partition(" ")
        if kind == "delete":
            path.unlink()
        elif kind == "truncate":
            path.write_bytes(before[: {"all": 0, "half": len(before) // 2, "one": len(before) - 1}[detail]])
        elif kind == "flip":
            place = int(float(detail) * (len(before) - 1))
            path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        elif kind == "append":
            path.write_bytes(before + b"x")
        elif kind == "link":
            shutil.copy(path, outside)
            path.unlink()
            path.symlink_to(outside)
        else:
            other = sibling(recording, self.key) if kind == "swap" else elsewhere(recording, self.key)
            if other is None or other.read_bytes() == before:
                return []
            path.write_bytes(other.read_bytes())
            if kind == "swap":
                other.write_bytes(before)
                return [self.key, other.relative_to(recording).as_posix()]
        return [self.key]


WAYS = (
    "delete", "truncate all", "truncate half", "truncate one", "append", "link", "swap", "foreign",
    "flip 0", "flip 0.1", "flip 0.5", "flip 0.9", "flip 1",
)  # fmt: skip


def damages(recording: Path, thorough: bool) -> Iterator[Damage]:
    """Damages to every file of a recording: each in every way, or some in one way, in turn."""
    keys = sorted(path.relative_to(recording).as_posix() for path in recording.rglob("*") if path.is_file())
    for number, key in enumerate(keys):
        often = 117 if any(f"/{kind}/" in key for kind in ("spikes/c", "planes", "values/c")) else 39
        # Most files of a layer in part are like those of a whole one.
        often = 195 if "layers/part/" in key else often
        for place, way in enumerate(WAYS):
            if thorough or (number + place) % often == 0:
                yield Damage(way, key)


def sibling(recording: Path, key: str) -> Path | None:
    path = recording / key
    others = sorted(other for other in path.parent.iterdir() if other.is_file() and other != path)
    if others:
        return others[0]
    # Chunks of arrays with several axes lie in folders of their own.
    others = sorted(
        other for other in path.parent.parent.rglob(path.name) if other != path and other.is_file()
    )
    return others[0] if others else None


def elsewhere(recording: Path, key: str) -> Path | None:
    """The same file of another layer."""
    for one, two in (("1", "wide"), ("wide", "1"), ("graded", "1"), ("part", "1"), ("counted", "wide")):
        if key.startswith(f"layers/{one}/"):
            other = recording / f"layers/{two}/" / key.removeprefix(f"layers/{one}/")
            deeper = sorted(other.rglob("*")) if other.is_dir() else [other, *sorted(other.parent.rglob("*"))]
            return next((path for path in deeper if path.is_file()), None)
    return None
