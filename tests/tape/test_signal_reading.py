"""Values of a signal are those that the commit names, or an error that says which are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recorder.format import RecordingFormatError
from recorder.format.chunks import encode_values
from recorder.stores import Folder
from recorder.tape import TapeReader, TapeWriter
from recorder.tape.layers.signal_reading import SignalReader
from recorder.tape.layers.signal_writing import SignalProgress
from tapes import Made, Run, write_recording

FRAMES, SHAPE = 50, (5, 3)


def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(FRAMES, *SHAPE))


@pytest.fixture(params=[400, 100], ids=["whole", "in parts"])
def signal(tmp_path: Path, request: pytest.FixtureRequest) -> SignalReader:
    """Chunks of three frames, the last of two; or of one frame in parts, of which the last is padded."""
    sizes = {"chunk_bytes": request.param, "limit_bytes": 100 if request.param == 100 else 2**24}
    made = {("a", "v"): Made(values())}
    write_recording(
        tmp_path, {"a": values() > 0}, [Run(0, FRAMES, 1)], signals=made, close=False, **sizes
    ).release()
    return TapeReader.open(Folder(tmp_path)).layers["a"].signals["v"]


def path_of(signal: SignalReader, chunk: int, part: int = 0) -> Path:
    return Path(signal.store.location) / signal.chunk_key(chunk, part)


def again(signal: SignalReader) -> SignalReader:
    return SignalReader(signal.store, signal.layer, "layers/a", signal.commit)


def test_values_are_read_in_any_range(signal: SignalReader) -> None:
    for first, last in ((0, FRAMES), (0, 1), (2, 4), (7, 31), (48, 50)):
        assert np.array_equal(signal.values(first, last), values()[first:last])
    assert signal.values(5, 5).shape == (0, *SHAPE)


def test_swapped_chunks_are_refused(signal: SignalReader) -> None:
    one, other = path_of(signal, 1), path_of(signal, 2)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    with pytest.raises(
        RecordingFormatError, match=r"signal 'v' of layer 'a' .*: altered, cut short or swapped"
    ):
        again(signal).values(0, FRAMES)
    assert np.array_equal(
        again(signal).values(0, signal.plan.chunk_frames), values()[: signal.plan.chunk_frames]
    )


def test_other_values_in_the_last_chunk_are_refused(signal: SignalReader) -> None:
    last = signal.chunks - 1
    path = path_of(signal, last)
    wrong = np.ones((signal.plan.part_neurons, signal.plan.chunk_frames))
    path.write_bytes(encode_values(wrong))
    with pytest.raises(
        RecordingFormatError, match=r"does not begin with the frames|altered, cut short or swapped"
    ):
        again(signal).values(FRAMES - 1, FRAMES)


def test_a_missing_chunk_is_no_zeros(signal: SignalReader) -> None:
    path_of(signal, 3).unlink()
    with pytest.raises(RecordingFormatError, match="is missing; absent values are not zeros"):
        again(signal).values(0, FRAMES)


def test_values_behind_a_commit_change_nothing_of_it(signal: SignalReader) -> None:
    """The last chunk grows, and the reader of an earlier commit sees its own frames."""
    before = signal.values(0, FRAMES)
    writer = TapeWriter.resume(Folder(signal.store.location))
    writer.append_signal("a", "v", np.full((40, 15), 7.0))
    assert np.array_equal(again(signal).values(0, FRAMES), before)
    writer.release()


def test_frames_without_steps_are_refused_by_the_writer(signal: SignalReader) -> None:
    writer = TapeWriter.resume(Folder(signal.store.location))
    writer.append_signal("a", "v", np.full((1, 15), 7.0))
    progress = writer.last_progress("a")
    assert isinstance(progress.signals["v"], SignalProgress)
    with pytest.raises(RuntimeError, match="signal 'v' of layer 'a' and their steps do not fit"):
        writer.commit({"a": progress}, [], 0)
    writer.release()
