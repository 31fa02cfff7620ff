"""Recordings of strangers execute nothing, read nothing outside, and take no memory beyond the limits."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr.storage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.kernels.selecting.selected_frames import SelectedFrames
from analysis.kernels.selecting.selection import Selection
from analysis.kernels.selecting.trial_table import ColumnCodes, TrialRows
from damage import edit_record, write
from processes import finished, python
from recorder.format import RecordingFormatError
from recorder.format.arrays import trial_column_table
from recorder.format.chunks import checksum, decode_rows, decode_spikes
from recorder.format.layout import spikes_chunk_key
from recorder.format.parsing.record import parse_document
from recorder.format.record.metadata import MAX_FRAMES, ColumnCommit, TrialsCommit
from recorder.format.segments import check_segments, clip_segments
from recorder.stores import Folder, ZarrStore
from recorder.tape import TapeReader
from recorder.tape.tables import TableWriter
from tapes import Run, write_recording

READER = """
import json, resource, sys
# What the interpreter and numpy reserve, and a little more.
import numpy, dask, analysis
from recorder.format.errors import RecordingFormatError
analysis.open_recording
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, resource.RLIM_INFINITY))
print("ready", flush=True)
for path in sys.stdin:
    try:
        recording = analysis.open_recording(path.strip())
        with dask.config.set(scheduler="synchronous"):
            float(recording.firing_rate())
            int(recording.spike_count(per="label").sum())
            recording["wide"].spikes.compute()
            float(next(iter(recording["wide"].signals.values())).mean())
            recording.trials
        print("read", flush=True)
    except RecordingFormatError as error:
        print("refused", str(error).splitlines()[0][:300], flush=True)
"""


def sealed(data: bytes) -> bytes:
    return data + checksum(data).to_bytes(4, "little")


def bomb(path: Path) -> None:
    (path / "layers/wide/spikes/c/0/0/0").write_bytes(sealed(numcodecs.Zstd().encode(bytes(2**30))))


def table_bomb(path: Path) -> None:
    (path / "trials/trial/c/0").write_bytes(sealed(numcodecs.Zstd().encode(bytes(2**30))))


def signal_bomb(path: Path) -> None:
    (path / "layers/wide/signals/v/values/c/0/0/0").write_bytes(sealed(numcodecs.Zstd().encode(bytes(2**30))))


def huge_signal(path: Path) -> None:
    edit_record(path, lambda record: record["layers"][1]["signals"][0].update(chunk_frames=2**28))


def many_signal_chunks(path: Path) -> None:
    edit_record(path, lambda record: record["layers"][1]["signals"][0].update(frames=2**52))


def climbing_signal(path: Path) -> None:
    edit_record(path, lambda record: record["layers"][1]["signals"][0].update(name="../../../../etc"))


def huge_layer(path: Path) -> None:
    edit_record(path, lambda record: record["layers"][1].update(neuron_shape=[2**20, 2**13], part_rows=1))


def many_chunks(path: Path) -> None:
    edit_record(path, lambda record: record["layers"][1].update(frames=2**52))


def many_rows(path: Path) -> None:
    edit_record(path, lambda record: record["trials"].update(rows=2**39))


def deep(path: Path) -> None:
    (path / "zarr.json").write_text('{"attributes":{"spiketape":' + "[" * 10**6)


def long_number(path: Path) -> None:
    (path / "zarr.json").write_text('{"attributes":{"spiketape":{"format_version":' + "9" * 10**5 + "}}}")


def climbing_name(path: Path) -> None:
    edit_record(path, lambda record: record["layers"][1].update(name="../../../../etc"))


def pickled_codec(path: Path) -> None:
    """Nothing that Zarr's documents say of arrays is ever followed."""
    document = json.loads((path / "layers/wide/spikes/zarr.json").read_text())
    document["codecs"] = [{"name": "numcodecs.pickle", "configuration": {}}]
    (path / "layers/wide/spikes/zarr.json").write_text(json.dumps(document))
    canary = path.parent / "canary"
    payload = f"cbuiltins\nopen\n(V{canary}\nVw\ntR.".encode()
    (path / "layers/wide/spikes/c/0/0/0").write_bytes(payload)


def linked_chunk(path: Path) -> None:
    chunk = path / "layers/wide/spikes/c/0/0/0"
    chunk.unlink()
    chunk.symlink_to("/etc/hostname")


def linked_folder(path: Path) -> None:
    outside = path.parent / "outside"
    shutil.move(path / "layers/wide/spikes", outside)
    (path / "layers/wide/spikes").symlink_to(outside)


def fifo(path: Path) -> None:
    chunk = path / "layers/wide/spikes/c/0/0/0"
    chunk.unlink()
    os.mkfifo(chunk)


HOSTILE = (
    bomb, table_bomb, huge_layer, many_chunks, many_rows, deep, long_number, climbing_name, pickled_codec,
    linked_chunk, linked_folder, fifo, signal_bomb, huge_signal, many_signal_chunks, climbing_signal,
)  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
def test_hostile_recordings_are_refused_within_the_limits(tmp_path: Path) -> None:
    with python(READER) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for make in (None, *HOSTILE):
            path = tmp_path / (make.__name__ if make else "sound") / "run.zarr"
            path.parent.mkdir()
            write(path, "closed")
            if make:
                make(path)
            print(path, file=reader.stdin, flush=True)
            answer = reader.stdout.readline()
            assert answer.startswith("refused" if make else "read"), (make, answer)
        finished(reader)
    assert not list(tmp_path.rglob("canary"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("sound") / "run.zarr"
    write(path, "closed")
    keys = ["zarr.json", "layers/wide/spikes/c/0/0/0", "layers/1/segments/c/0/0"]
    return {key: (path / key).read_bytes() for key in keys}


mutations = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["set", "cut", "insert", "double"]), st.binary(max_size=9)),
    min_size=1,
    max_size=4,
)


def mutate(data: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    for share, how, new in changes:
        place = int(share * len(data))
        if how == "set":
            data = data[:place] + new + data[place + len(new) :]
        elif how == "cut":
            data = data[:place] + data[place + len(new) :]
        elif how == "insert":
            data = data[:place] + new + data[place:]
        else:
            data = data[:place] + data[place // 2 :]
    return data


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations)
def test_a_mutated_root_document_is_the_same_or_one_error(sound: dict[str, bytes], changes: Any) -> None:
    data = mutate(sound["zarr.json"], changes)
    try:
        parsed = parse_document(data, "zarr.json")
    except RecordingFormatError:
        return
    assert parsed == parse_document(sound["zarr.json"], "zarr.json")


numbers = st.one_of(st.integers(-2, 70), st.sampled_from([-(2**63), 2**62, 2**63 - 1, 2**53, 2**31]))


@settings(max_examples=300)
@given(st.lists(st.tuples(*[numbers] * 5), max_size=5), numbers, st.data())
def test_forged_segments_hold_together_or_are_refused(rows: Any, frames: int, data: st.DataObject) -> None:
    """With every checksum put right, as a forger would."""
    frames = min(max(frames, 0), MAX_FRAMES)
    table = np.array(rows, np.int64).reshape(-1, 5)
    try:
        segments = check_segments(clip_segments(table, frames), frames, "forged")
    except RecordingFormatError:
        return
    assert segments.frames == frames
    first, last = sorted(data.draw(st.tuples(st.integers(0, 2**54), st.integers(0, 2**54))))
    inside = SelectedFrames(segments, Selection(steps=(first, last)))
    assert 0 <= inside.frames <= frames


@settings(max_examples=300)
@given(
    st.lists(st.tuples(numbers, numbers, numbers), max_size=6),
    st.booleans(),
    st.sampled_from(["int64", "float64", "category"]),
)
def test_forged_trials_hold_together_or_are_refused(rows: Any, in_order: bool, kind: Any) -> None:
    table = np.array(rows, np.int64).reshape(-1, 3)
    if in_order:
        table[:, 0], table[:, 1] = np.arange(len(table)) // 2, np.arange(len(table)) % 2
    label = table[:, 2].view(np.float64) if kind == "float64" else table[:, 2]
    store = ZarrStore(zarr.storage.MemoryStore())
    columns = []
    for name, values in (("trial", table[:, 0]), ("sample", table[:, 1]), ("label", label)):
        of_kind = kind if name == "label" else "int64"
        writer = TableWriter(store, trial_column_table(name, of_kind))
        writer.append(values)
        categories = ("a", "b") if of_kind == "category" else ()
        columns.append(ColumnCommit(name, of_kind, writer.flush().crc32c, categories))
    try:
        commit = TrialsCommit(len(table), len(table), tuple(columns))
        assert len(TrialRows.read(store, commit).trial) == len(table)
        labels = ColumnCodes.read(store, commit, "label")
    except RecordingFormatError:
        return
    assert len(labels.code) == len(table)
    assert labels.code.min(initial=-1) >= -1
    assert labels.code.max(initial=-1) < max(len(labels.values), 1)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations, st.booleans())
def test_a_mutated_chunk_is_of_the_right_size_or_one_error(
    sound: dict[str, bytes], changes: Any, seal_again: bool
) -> None:
    for key, decode in (
        ("layers/wide/spikes/c/0/0/0", lambda data: decode_spikes(data, 45, 8)),
        ("layers/1/segments/c/0/0", lambda data: decode_rows(data, 4096, (5,), "int64")),
    ):
        data = mutate(sound[key], changes)
        try:
            decoded = decode(sealed(data[:-4]) if seal_again else data)
        except RecordingFormatError:
            continue
        assert decoded.shape in {(45, 8), (4096, 5)}


@pytest.mark.parametrize("kind", ["FIFO", "link", "folder", "too long"])
def test_a_chunk_that_is_no_plain_file_is_named_with_its_layer_and_frames(tmp_path: Path, kind: str) -> None:
    write_recording(tmp_path / "run.zarr", {"1": np.ones((200, 3), bool)}, [Run(0, 200, 1)])
    layer = TapeReader.open(Folder(tmp_path / "run.zarr")).layers["1"]
    chunk = tmp_path / "run.zarr" / spikes_chunk_key(layer.folder, layer.plan, 0, 0)
    stored = chunk.read_bytes()
    chunk.unlink()
    if kind == "FIFO":
        os.mkfifo(chunk)
    elif kind == "link":
        chunk.symlink_to("/etc/hostname")
    elif kind == "folder":
        chunk.mkdir()
    else:
        chunk.write_bytes(stored + bytes(2**26))
    with pytest.raises(
        RecordingFormatError, match=r"spikes/c/0.*: the chunk of layer '1' with frames 0 to 199"
    ):
        layer.chunk(0)
