"""The digest of a recording: one SHA-256 over what was recorded, however it is stored.

Names, shapes, spikes, steps, samples, trials and their columns enter it; provenance, times and the way of
storing do not. FORMAT.md, section "Digest", defines it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.layout import SEGMENT_COLUMNS
from recorder.format.segments import Segments
from recorder.tape import LayerReader, TapeReader

DIGEST_VERSION: Final = 1
LEAF_BYTES: Final = 4 * 2**20


def leaf_frames(neurons: int) -> int:
    """Frames in a leaf: a multiple of 64, whose packed bits are at most 4 MiB, but at least 64."""
    return 64 * max(LEAF_BYTES * 8 // neurons // 64, 1)


def leaf_count(layer: LayerReader) -> int:
    """Leaves that a layer's frames lie in."""
    return -(-layer.frames // leaf_frames(layer.plan.neurons))


def hash_leaves(layer: LayerReader, first: int, last: int) -> list[bytes]:
    """SHA-256 of leaves ``first`` to ``last`` (exclusive) of a layer; reads their chunks, each checked.

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer and frames.
    """
    size, chunk_size = leaf_frames(layer.plan.neurons), layer.plan.chunk_frames
    bounds = first * size, min(last * size, -(-layer.frames // 64) * 64)
    chunks = range(bounds[0] // chunk_size, -(-bounds[1] // chunk_size))
    # Chunks are longer or shorter than leaves only where a recorder planned them otherwise than this one.
    hashes = []
    pieces: list[NDArray[np.uint8]] = []
    missing = size
    for chunk, trains in zip(chunks, layer.kept_chunks(chunks), strict=True):
        begin = max(bounds[0] - chunk * chunk_size, 0)
        end = min(bounds[1] - chunk * chunk_size, chunk_size)
        while begin < end:
            taken = min(end - begin, missing)
            pieces.append(trains[:, begin // 8 : (begin + taken) // 8])
            begin, missing = begin + taken, missing - taken
            if missing == 0:
                hashes.append(_hash_trains(pieces))
                pieces, missing = [], size
    if pieces:
        hashes.append(_hash_trains(pieces))
    return hashes


def _hash_trains(pieces: list[NDArray[np.uint8]]) -> bytes:
    trains = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)
    return hashlib.sha256(np.ascontiguousarray(trains).data).digest()


def digest_recording(reader: TapeReader) -> str:
    """The digest of a recording as of its commit, 64 hexadecimal digits; reads every chunk."""
    leaves = {name: hash_leaves(layer, 0, leaf_count(layer)) for name, layer in reader.layers.items()}
    return join_digest(reader, leaves)


def join_digest(reader: TapeReader, leaves: Mapping[str, Sequence[bytes]]) -> str:
    """The digest of a recording, given the hashes of all leaves of each of its layers."""
    whole = {
        "spiketape_digest": DIGEST_VERSION,
        "layers": [
            {
                "name": name,
                "neuron_shape": list(layer.plan.neuron_shape),
                "frames": layer.frames,
                "segments": _sha256(_merged(layer.segments()).astype("<i8").tobytes()),
                "spikes": _sha256(b"".join(leaves[name])),
                **({"lost": layer.lost.tolist()} if len(layer.lost) else {}),
            }
            for name, layer in reader.layers.items()
        ],
        "trials": {
            "trials": reader.metadata.trials.trials,
            "rows": reader.metadata.trials.rows,
            "columns": dict(_hash_columns(reader)),
        },
    }
    return _sha256(_json(whole))


def join_recordings(digests: Sequence[str]) -> str:
    """The digest of recordings that are opened as one, given those of each, in their order."""
    return digests[0] if len(digests) == 1 else _sha256(_json(list(digests)))


def _merged(segments: Segments) -> NDArray[np.int64]:
    """Segments, of which neighbours that one row could stand for are one: int64 [segments, 5]."""
    rows = segments.rows
    if len(rows) == 0:
        return rows
    continues = (
        (segments.batch[1:] == segments.batch[:-1])
        & (segments.trial[1:] == segments.trial[:-1])
        & (segments.first_step[1:] == segments.last_step[:-1])
    )
    starts = np.flatnonzero(np.concatenate([[True], ~continues]))
    merged = rows[starts].copy()
    merged[:, SEGMENT_COLUMNS.index("steps")] = np.add.reduceat(segments.steps, starts)
    return merged


def _hash_columns(reader: TapeReader) -> Iterator[tuple[str, dict[str, str]]]:
    kinds = {column.name: column.kind for column in reader.metadata.trials.columns}
    for name, values in reader.trials().items():
        if kinds[name] == "category":
            encoded = _json(values.tolist())
        else:
            encoded = values.astype(values.dtype.newbyteorder("<")).tobytes()
        yield name, {"kind": kinds[name], "values": _sha256(encoded)}


def _json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
