"""Compute the digest of a recording: one SHA-256 of what was recorded, independent of how it is stored.

The digest covers names, shapes, spikes, steps, samples, trials and their columns. It does not cover
provenance, times, chunks and compression. FORMAT.md, section "Digest", defines it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorder.format.bits import Packed
from recorder.format.layout import SEGMENT_COLUMNS
from recorder.format.record.operations import OPERATIONS
from recorder.format.record.parts import COUNTS, neurons_to_json
from recorder.format.segments import Segments
from recorder.tape import LayerReader, TapeReader
from recorder.tape.layers.counts_reading import CountsReader
from recorder.tape.layers.signal_reading import SignalReader
from recorder.tape.reading import Which

DIGEST_VERSION: Final = 1
LEAF_BYTES: Final = 4 * 2**20
# Of a count, as it is hashed.
COUNTED_BYTES: Final = 8


def leaf_frames(neurons: int) -> int:
    """Number of frames in a leaf: the largest multiple of 64 within 4 MiB of packed bits, at least 64."""
    return 64 * max(LEAF_BYTES * 8 // neurons // 64, 1)


def leaf_bytes(layer: LayerReader) -> int:
    """Bytes of what goes into a leaf of a layer, about."""
    if isinstance(layer, CountsReader):
        return int(layer.segments().batch.max(initial=1)) * layer.plan.neurons * COUNTED_BYTES
    return max(leaf_frames(layer.plan.neurons) // 8 * layer.plan.neurons, LEAF_BYTES)


def leaf_count(layer: LayerReader) -> int:
    """Number of leaves of a layer; of one of counts, of runs of segments that one could stand for."""
    if isinstance(layer, CountsReader):
        return len(_begins(layer.segments()))
    return -(-layer.frames // leaf_frames(layer.plan.neurons))


def hash_leaves(
    layer: LayerReader,
    first: int,
    last: int,
    read: Callable[[Sequence[int]], Iterator[Packed]] | None = None,
) -> list[bytes]:
    """Compute the SHA-256 of each of the leaves ``first`` to ``last`` (exclusive) of a layer.

    ``read``, if given, is called instead of `LayerReader.chunks`, for callers that keep decoded chunks.

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; the message names file, layer and frames.
    """
    if isinstance(layer, CountsReader):
        return _hash_counts(layer, first, last)
    size, chunk_size = leaf_frames(layer.plan.neurons), layer.plan.chunk_frames
    bounds = first * size, min(last * size, -(-layer.frames // 64) * 64)
    chunks = range(bounds[0] // chunk_size, -(-bounds[1] // chunk_size))
    # A leaf is one chunk, unless another recorder chose chunks of another length. So leaves are put together
    # from pieces of chunks.
    hashes = []
    pieces: list[NDArray[np.uint8]] = []
    missing = size
    for chunk, trains in zip(chunks, layer.kept_chunks(chunks, read), strict=True):
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


def _hash_counts(layer: CountsReader, first: int, last: int) -> list[bytes]:
    """Likewise of a layer of counts: of the spikes of each neuron in each sample of a run of segments."""
    segments = layer.segments()
    bounds = [*_begins(segments).tolist(), len(segments)]
    hashes = []
    for begin, end in pairwise(bounds[first : last + 1]):
        spikes = np.zeros((int(segments.batch[begin]), layer.plan.neurons), "<u8")
        for _, rows in layer.kept_rows(range(begin, end)):
            spikes += rows.reshape(-1, *spikes.shape).sum(axis=0, dtype=np.uint64)
        hashes.append(_hash_bytes(spikes))
    return hashes


def _hash_trains(pieces: list[NDArray[np.uint8]]) -> bytes:
    trains = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)
    return hashlib.sha256(np.ascontiguousarray(trains).data).digest()


def _hash_silence(layer: LayerReader) -> list[bytes]:
    """What `hash_leaves` would compute of all leaves of a layer if it were silent."""
    size, frames = leaf_frames(layer.plan.neurons), -(-layer.frames // 64) * 64
    whole, rest = divmod(frames, size)
    lengths = [size] * min(whole, 1) + [rest] * (rest > 0)
    hashes = [_hash_trains([np.zeros((layer.plan.neurons, n // 8), np.uint8)]) for n in lengths]
    return hashes[:1] * whole + hashes[1:] if whole else hashes


def signal_leaf_frames(signal: SignalReader) -> int:
    """Number of frames in a leaf of a signal: as many as 4 MiB of values hold, at least 1."""
    return max(LEAF_BYTES // (signal.plan.neurons * signal.commit.itemsize), 1)


def signal_leaf_count(signal: SignalReader) -> int:
    """Number of leaves of a signal."""
    return -(-signal.frames // signal_leaf_frames(signal))


def hash_signal_leaves(signal: SignalReader, first: int, last: int) -> list[bytes]:
    """Compute the SHA-256 of each of the leaves ``first`` to ``last`` (exclusive) of a signal.

    A leaf has the values of each neuron, in C order, little-endian; the last one ends with the last frame.
    Errors as in `hash_leaves`.
    """
    size, chunk_size = signal_leaf_frames(signal), signal.plan.chunk_frames
    begin, end = first * size, min(last * size, signal.frames)
    chunks = range(begin // chunk_size, -(-end // chunk_size))
    hashes = []
    pieces: list[NDArray[Any]] = []
    missing = min(size, end - begin)
    for chunk, trains in zip(chunks, signal.trains(chunks), strict=True):
        at, behind = max(begin - chunk * chunk_size, 0), min(end - chunk * chunk_size, chunk_size)
        while at < behind:
            taken = min(behind - at, missing)
            pieces.append(trains[:, at : at + taken])
            at, missing = at + taken, missing - taken
            if missing == 0:
                leaf = np.concatenate(pieces, axis=1)
                hashes.append(_hash_bytes(leaf.astype(leaf.dtype.newbyteorder("<"), copy=False)))
                pieces, missing = [], min(size, end - chunk * chunk_size - at)
    return hashes


def _hash_bytes(values: NDArray[Any]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest()


def digest_recording(reader: TapeReader) -> str:
    """Digest of a recording as of its commit, 64 hexadecimal digits; reads every chunk."""
    leaves = {
        (bits.name, bits.plane): hash_leaves(bits, 0, leaf_count(bits))
        for layer in reader.layers.values()
        for bits in layer.bits
    }
    of_series = {
        which: hash_signal_leaves(values, 0, signal_leaf_count(values))
        for which, values in reader.series.items()
    }
    return join_digest(reader, leaves, of_series)


def join_digest(
    reader: TapeReader,
    leaves: Mapping[tuple[str, str], Sequence[bytes]],
    series_leaves: Mapping[Which, Sequence[bytes]],
) -> str:
    """Digest of a recording.

    Parameters
    ----------
    reader : TapeReader
    leaves : mapping
        Of each layer and plane (empty: the events), the hashes of all leaves from `hash_leaves`.
    series_leaves : mapping
        Of each of `TapeReader.series`, the hashes of all leaves from `hash_signal_leaves`.
    """
    whole = {
        "spiketape_digest": DIGEST_VERSION,
        "layers": [
            {
                "name": name,
                "neuron_shape": list(layer.commit.shape),
                "frames": layer.frames,
                "segments": _sha256(_merged(layer.segments()).astype("<i8").tobytes()),
                COUNTS if layer.commit.counts_only else "spikes": _sha256(b"".join(leaves[name, ""])),
                **neurons_to_json(layer.commit.part.neurons if layer.commit.part else None),
                **({"lost": layer.lost.tolist()} if len(layer.lost) else {}),
                **_describe_values(layer, leaves),
                **_describe_signals(layer, series_leaves),
            }
            for name, layer in reader.layers.items()
        ],
        "trials": {
            "trials": reader.metadata.trials.trials,
            "rows": reader.metadata.trials.rows,
            "columns": dict(_hash_columns(reader)),
        },
        **_describe_operations(reader, series_leaves),
    }
    return _sha256(_json(whole))


def _describe_values(layer: LayerReader, leaves: Mapping[tuple[str, str], Sequence[bytes]]) -> dict[str, Any]:
    """Scale and planes, where they tell the layer from one of zeros and ones; silent planes tell nothing."""
    values = layer.commit.values
    if values is None:
        return {}
    silence = _hash_silence(layer)
    found = {plane: leaves[layer.name, plane] for plane in layer.planes}
    planes = {plane: _sha256(b"".join(each)) for plane, each in found.items() if [*each] != silence}
    scale = float(values.scale)
    return {"values": {"scale": scale, "planes": planes}} if planes or scale != 1 else {}


def _describe_signals(layer: LayerReader, leaves: Mapping[Which, Sequence[bytes]]) -> dict[str, Any]:
    """The entry of a layer that has signals; nothing where it has none, whose digest stays what it was."""
    signals = [
        {
            "name": name,
            "dtype": signal.commit.dtype,
            "neuron_shape": list(signal.commit.shape),
            **_describe_series(signal, leaves[layer.name, name]),
            **neurons_to_json(signal.commit.neurons),
        }
        for name, signal in layer.signals.items()
    ]
    return {"signals": signals} if signals else {}


def _describe_operations(reader: TapeReader, leaves: Mapping[Which, Sequence[bytes]]) -> dict[str, Any]:
    """The entry of a recording whose operations were counted; nothing for any other."""
    counted = reader.metadata.operations
    if counted is None or reader.operations is None:
        return {}
    about = {"weight_layers": [*counted.weight_layers], "uncounted": sorted(counted.uncounted)}
    return {OPERATIONS: {**about, **_describe_series(reader.operations, leaves[None, OPERATIONS])}}


def _describe_series(series: SignalReader, leaves: Sequence[bytes]) -> dict[str, Any]:
    return {
        "frames": series.frames,
        "segments": _sha256(_merged(series.segments()).astype("<i8").tobytes()),
        "values": _sha256(b"".join(leaves)),
        **({"lost": series.lost.tolist()} if len(series.lost) else {}),
    }


def join_recordings(digests: Sequence[str]) -> str:
    """Digest of recordings that are opened as one, given the digest of each, in their order."""
    return digests[0] if len(digests) == 1 else _sha256(_json(list(digests)))


def _merged(segments: Segments) -> NDArray[np.int64]:
    """Rows of segments, int64 [segments, 5]; a segment that continues the previous one is merged into it."""
    rows = segments.rows
    if len(rows) == 0:
        return rows
    starts = _begins(segments)
    merged = rows[starts].copy()
    merged[:, SEGMENT_COLUMNS.index("steps")] = np.add.reduceat(segments.steps, starts)
    return merged


def _begins(segments: Segments) -> NDArray[np.intp]:
    """Indices of the segments that do not continue the one before."""
    if len(segments) == 0:
        return np.empty(0, np.intp)
    continues = (
        (segments.batch[1:] == segments.batch[:-1])
        & (segments.trial[1:] == segments.trial[:-1])
        & (segments.first_step[1:] == segments.last_step[:-1])
    )
    return np.flatnonzero(np.concatenate([[True], ~continues]))


def _hash_columns(reader: TapeReader) -> Iterator[tuple[str, dict[str, str]]]:
    kinds = {column.name: column.kind for column in reader.metadata.trials.columns}
    for name, values in reader.trials().items():
        # One zero for two, as -0.0 + 0.0 is 0.0; and one NaN for all.
        if kinds[name] == "category":
            encoded = _json([value + 0.0 if isinstance(value, float) else value for value in values])
        elif kinds[name] == "float64":
            encoded = (np.where(np.isnan(values), np.nan, values) + 0.0).astype("<f8").tobytes()
        else:
            encoded = values.astype("<i8").tobytes()
        yield name, {"kind": kinds[name], "values": _sha256(encoded)}


def _json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
