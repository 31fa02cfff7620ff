"""Feeds what opens other people's recordings with bytes that atheris makes up, led by the code they reach.

Each target takes a document or a stored chunk as it would come from a store. Nothing may come of it but an
answer that holds together, or a `RecordingFormatError`. Most targets put checksums right, as a forger would:
otherwise nothing behind them would ever be reached.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import atheris
import numcodecs
import numpy as np

with atheris.instrument_imports(include=["recorder", "analysis.kernels"]):
    from analysis.kernels.selecting import trial_table
    from recorder.format import (
        ChunkPlan,
        LayerCommit,
        RecordingFormatError,
        RecordingMetadata,
        arrays,
        chunks,
        segments,
        shards,
    )
    from recorder.format.columns import decode_categories, encode_categories
    from recorder.format.documents import expected_documents
    from recorder.format.parsing import record
    from recorder.format.record import metadata, records
    from recorder.format.record.extents import TableCommit
    from recorder.format.record.metadata import CategoriesCommit, ColumnCommit, TrialsCommit
    from recorder.format.record.signals import SignalCommit
    from recorder.stores.files import archive
    from recorder.stores.sharded import ShardedStore
    from recorder.tape import LayerReader, TapeReader, tables
    from recorder.tape.holding import lock
    from recorder.tape.holding.holder import Holder
    from recorder.tape.layers.signal_reading import SignalReader
    from recorder.tape.trial_columns import read_columns

PLAN = ChunkPlan((5,), 64, 5, 25)
LABELS = arrays.trial_column_table("label", "int64")
SHARDS = shards.ShardPlan(2, (2,), 2)


class OneChunkStore:
    """A store of which every key has the same bytes."""

    location = "fuzzed"
    reads_under_way = 1

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, _key: str, limit_bytes: int) -> bytes | None:
        """The bytes, whatever the key."""
        return self.data if len(self.data) <= limit_bytes else None

    def read_range(self, _key: str, start: int, size: int) -> bytes | None:
        """Some of the bytes; the last ``size`` of them if ``start`` is -1."""
        return self.data[-size:] if start == -1 else self.data[start : start + size]

    def size_of(self, _key: str) -> int:
        """How many there are."""
        return len(self.data)


def sealed(data: bytes) -> bytes:
    """Bytes as a stored chunk, with a crc32c that is theirs."""
    return data + chunks.checksum(data).to_bytes(4, "little")


def fuzz_metadata(data: bytes) -> None:
    """The root document; its record comes back from JSON as it was understood."""
    parsed = record.parse_document(_resealed(data) or data, "fuzzed")
    again = record.parse_attributes(json.loads(json.dumps(records.to_attributes(parsed))), "again")
    assert again == parsed
    reader = TapeReader(OneChunkStore(b""), parsed)  # type: ignore[arg-type]
    expected_documents(parsed)
    for layer in reader.layers.values():
        assert layer.commit.lost_frames <= layer.frames
        assert 0 <= layer.plan.part_neurons * layer.plan.chunk_bytes <= metadata.MAX_CHUNK_BYTES
        for signal in layer.signals.values():
            chunk_values = signal.plan.part_neurons * signal.plan.chunk_frames
            assert 0 <= chunk_values * signal.commit.itemsize <= metadata.MAX_CHUNK_BYTES
        arrays.spikes_document(layer.plan, layer.frames)


def _resealed(data: bytes) -> bytes | None:
    """The same document with the checksum that its record should have, if it has a record."""
    try:
        root = json.loads(data)
        record = root["attributes"]["spiketape"]
        record["crc32c"] = records.record_checksum(record)
        return json.dumps(root).encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def fuzz_stored_chunk(data: bytes) -> None:
    """A stored chunk: what it decompresses to has the size that is expected."""
    assert chunks.decode_spikes(sealed(data), 5, 8).shape == (5, 8)


def fuzz_damaged_chunk(data: bytes) -> None:
    """A stored chunk whose checksum is not put right."""
    assert chunks.decode_spikes(data, 5, 8).shape == (5, 8)


def fuzz_spikes(data: bytes) -> None:
    """What a chunk decompresses to: header and trains."""
    stored = sealed(numcodecs.Zstd().encode(data))
    commit = LayerCommit("1", "", "bool", PLAN, 64, TableCommit(), TableCommit(), TableCommit(), ())
    layer = LayerReader(OneChunkStore(stored), commit)  # type: ignore[arg-type]
    layer._read["checksums"] = np.array([[chunks.stored_checksum(stored)]], np.uint32)  # noqa: SLF001
    frames = layer.frame_bits(0, 64)
    assert frames.sum() == sum(byte.bit_count() for byte in data[1:])


def fuzz_values(data: bytes) -> None:
    """What a chunk of a signal decompresses to: the values of each neuron."""
    stored = sealed(numcodecs.Zstd().encode(data))
    commit = _signal(64)
    signal = SignalReader(OneChunkStore(stored), "1", "layers/1", commit)  # type: ignore[arg-type]
    signal._read["checksums"] = np.array([[chunks.stored_checksum(stored)]], np.uint32)  # noqa: SLF001
    assert signal.values(0, 64).transpose(1, 0).tobytes() == data


def _signal(frames: int, **more: Any) -> SignalCommit:
    return SignalCommit("v", "float16", (5,), PLAN, frames, TableCommit(2, 3), TableCommit(1, 4), **more)


def fuzz_segments(data: bytes) -> None:
    """Segments, and the marks of lost frames over them."""
    rows = _rows(data, 5)
    count = len(rows) // 2
    lost, rows = rows[count:, :2], rows[:count]
    frames = int(np.clip(rows[-1, 0] if len(rows) else 0, 0, metadata.MAX_FRAMES))
    found = segments.check_segments(segments.clip_segments(rows, frames), frames, "fuzzed")
    assert found.frames == frames
    ranges = [(int(first), int(last)) for first, last in lost if 0 <= first < last <= frames]
    disjoint = [b for a, b in zip([(-1, -1), *ranges], ranges, strict=False) if a[1] < b[0]][:1]
    whole = found.whole_steps(np.array(disjoint, np.int64).reshape(-1, 2))
    assert found.without(whole).frames == frames - int((whole[:, 1] - whole[:, 0]).sum())


def fuzz_trials(data: bytes) -> None:
    """The table of trials: three columns of one stored chunk."""
    values = _rows(data, 1)[: LABELS.chunk_rows, 0]
    crc = tables.rows_checksum(values)
    kind = ("int64", "float64", "category")[len(data) % 3]
    columns = tuple(
        ColumnCommit(name, column_kind, crc, ("a", "b") if column_kind == "category" else ())
        for name, column_kind in (("trial", "int64"), ("sample", "int64"), ("label", kind))
    )
    commit = TrialsCommit(trials=len(values), rows=len(values), columns=columns)  # type: ignore[arg-type]
    store = OneChunkStore(chunks.encode_rows(values, LABELS.chunk_rows))
    assert len(trial_table.TrialRows.read(store, commit).trial) == len(values)  # type: ignore[arg-type]
    labels = trial_table.ColumnCodes.read(store, commit, "label")  # type: ignore[arg-type]
    assert len(labels.code) == len(values)
    assert labels.code.max(initial=-1) < max(len(labels.values), 1)
    assert all(len(column) == len(values) for column in read_columns(store, commit).values())  # type: ignore[arg-type]


def fuzz_categories(data: bytes) -> None:
    """The array of the categories of a column."""
    values = decode_categories(data, data.count(b"\n"))
    assert len(values) == data.count(b"\n")
    assert decode_categories(encode_categories(values), len(values)) == values


def fuzz_lock(data: bytes) -> None:
    """The lock of a writer."""
    holder = lock.read_holder(OneChunkStore(data))  # type: ignore[arg-type]
    assert holder is not None
    holder.describe()
    holder.state(holder.since)


def fuzz_shard(data: bytes) -> None:
    """A shard: what its index says of the chunks in it."""
    index, rest = data[: SHARDS.index_bytes - 4], data[SHARDS.index_bytes - 4 :]
    index = index.ljust(SHARDS.index_bytes - 4, b"\0")
    shard = rest + index + chunks.checksum(index).to_bytes(4, "little")
    store = ShardedStore(OneChunkStore(shard), {"a": SHARDS})  # type: ignore[arg-type]
    for key in SHARDS.chunk_keys("a", 0):
        assert len(store.read(key, 100) or b"") <= 100


def fuzz_archive(data: bytes) -> None:
    """A zip archive: names, sizes, and bytes of what is in it."""
    kept = archive.Archive(OneChunkStore(data), "fuzzed.zip")  # type: ignore[arg-type]
    for key in list(kept.keys()):
        assert len(kept.read(key, 1000) or b"") <= 1000


def _rows(data: bytes, columns: int) -> Any:
    size = len(data) // (8 * columns) * 8 * columns
    return np.frombuffer(data[:size], "<i8").astype(np.int64).reshape(-1, columns)


def _seeds(target: str) -> Iterator[bytes]:
    """Sound inputs to begin with."""
    layer = LayerCommit(
        "1",
        "Neuron",
        "float32",
        PLAN,
        70,
        TableCommit(),
        TableCommit(2, 3),
        TableCommit(1, 4),
        (5,),
        ((0, 3),),
        signals=(_signal(70, tail=(6,), every=3, samples=2, lost=((0, 3),)),),
    )
    columns = tuple(ColumnCommit(name, "int64", 4) for name in ("trial", "sample"))
    columns += (ColumnCommit("label", "category", 5, ("cat", 3, True, 0.5)), ColumnCommit("x", "float64", 6))
    columns += (ColumnCommit("id", "category", 7, (), CategoriesCommit(3, TableCommit(20, 8))),)
    record = RecordingMetadata(
        "recording", "abc", "2026", "2026", 4, (layer,), TrialsCommit(2, 9, columns), {"network": {"ä": [1]}}
    )
    document = {"zarr_format": 3, "node_type": "group", "attributes": records.to_attributes(record)}
    trains = np.arange(40, dtype=np.uint8).reshape(5, 8)
    stored = chunks.encode_spikes(trains)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("zarr.json", b"{}")
        file.writestr("layers/1/spikes/c/0", stored)
    places = np.array([[0, 4], [4, 6], [2**64 - 1, 2**64 - 1], [10, 1]], "<u8")
    rows = np.array([[0, 0, 3, 10, 0], [30, 5, 40, 1, -1], [70, 0, 0, 0, 0], [10, 30, 0, 0, 0]], "<i8")
    yield {
        "metadata": json.dumps(document).encode(),
        "stored_chunk": stored[:-4],
        "damaged_chunk": stored,
        "spikes": b"\0" + trains.tobytes(),
        "values": np.arange(320, dtype="<f2").tobytes(),
        "segments": rows.tobytes(),
        "trials": np.zeros(1, "<i8").tobytes(),
        "categories": encode_categories(["ä", 1, 1.5, True, 'a "text"\n']),
        "shard": places.tobytes() + b"some chunks",
        "archive": zipped.getvalue(),
        "lock": json.dumps(vars(Holder.this_process())).encode(),
    }[target]


TARGETS: dict[str, Callable[[bytes], None]] = {
    name.removeprefix("fuzz_"): target for name, target in list(globals().items()) if name.startswith("fuzz_")
}


def main() -> None:
    """Fuzz one target, until something is found or the given number of tries or seconds is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument(
        "--runs", type=int, default=-1, help="tries; as many as there is time for if left out"
    )
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="folder where what reaches new code is kept")
    parser.add_argument(
        "input", type=Path, nargs="?", help="only this file, such as one that was found before"
    )
    arguments = parser.parse_args()
    target = TARGETS[arguments.target]
    warnings.simplefilter("error")

    def try_one(data: bytes) -> None:
        with contextlib.suppress(RecordingFormatError):
            target(data)

    with tempfile.TemporaryDirectory() as scratch:
        corpus = arguments.corpus or Path(scratch)
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(_seeds(arguments.target)):
            target(seed)  # a seed that is refused would lead nowhere
            (corpus / f"seed{number}").write_bytes(seed)
        limits = [f"-runs={arguments.runs}", f"-max_total_time={arguments.seconds}", "-max_len=8192"]
        limits += ["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"]
        what = [str(arguments.input)] if arguments.input else [str(corpus)]
        atheris.Setup([sys.argv[0], *limits, *what], try_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
