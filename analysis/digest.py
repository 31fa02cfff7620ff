"""The digest of a recording on whatever scheduler is active; `recorder.format.digest` says what it is."""

from __future__ import annotations

from typing import Any, Final

from dask.base import compute
from dask.delayed import delayed

from recorder.format.digest import LEAF_BYTES, hash_leaves, join_digest, leaf_count, leaf_frames
from recorder.format.reading import TapeReader

TASK_BYTES: Final = 64 * 2**20


def find_digest(reader: TapeReader) -> str:
    """SHA-256 over what was recorded, however it is stored: 64 hexadecimal digits.

    Parameters
    ----------
    reader : TapeReader
        The recording as of a commit.

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer and frames.
    """
    tasks: list[tuple[str, Any]] = []
    for name, layer in reader.layers.items():
        leaf_bytes = max(leaf_frames(layer.plan.neurons) // 8 * layer.plan.neurons, LEAF_BYTES)
        leaves, step = leaf_count(layer), max(TASK_BYTES // leaf_bytes, 1)
        tasks += [
            (name, delayed(hash_leaves)(layer, first, min(first + step, leaves)))
            for first in range(0, leaves, step)
        ]
    found: dict[str, list[bytes]] = {name: [] for name in reader.layers}
    for (name, _), hashes in zip(tasks, compute(*(task for _, task in tasks)), strict=True):
        found[name] += hashes
    return join_digest(reader, found)
