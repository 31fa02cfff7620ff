"""Bits of planes at events are taken out and put back as plain numpy does it with booleans."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from recorder.format import RecordingFormatError
from recorder.format.bits import count_rows
from recorder.format.chunks import encode_plane, stored_checksum
from recorder.format.planes.at_events import bits_at_events, rows_at_events
from recorder.format.planes.values import pack_levels
from recorder.format.segments import SegmentLog
from recorder.keeping.verification import check_blocks, count_blocks
from recorder.stores import Folder
from recorder.tape import LayerProgress, TapeReader
from recorder.tape.layers.levels import read_levels
from tapes import Run, write_recording

Bools = NDArray[np.bool_]


@st.composite
def events_and_planes(draw: st.DrawFn) -> tuple[Bools, list[Bools]]:
    """Booleans, [frames, neurons], whole rows of eight."""
    shape = 8 * draw(st.integers(0, 40)), draw(st.sampled_from([1, 2, 7, 8, 9, 31, 64, 65, 257]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    events = random.random(shape) < draw(st.sampled_from([0, 0.02, 0.3, 0.9, 1]))
    return events, [random.random(shape) < 0.5 for _ in range(draw(st.integers(1, 3)))]


@hypothesis.given(events_and_planes(), st.integers(0, 20))
@hypothesis.settings(max_examples=150, deadline=None)
def test_bits_at_events_are_those_that_numpy_selects(given: tuple[Bools, list[Bools]], more: int) -> None:
    events, planes = given
    rows = np.packbits(events, axis=0)
    found = bits_at_events(rows, [np.packbits(plane, axis=0) for plane in planes])
    for bits, plane in zip(found, planes, strict=True):
        np.testing.assert_array_equal(bits, np.packbits(plane[events]))
    # What comes behind them is of no matter.
    longer = [np.concatenate([bits, np.full(more, 255, np.uint8)]) for bits in found]
    spread = [np.packbits(plane & events, axis=0) for plane in planes]
    np.testing.assert_array_equal(rows_at_events(rows, longer), spread)


@pytest.mark.parametrize("rows", [0, 1, 30, 31, 32, 100])
def test_rows_are_counted_neuron_by_neuron(rows: int) -> None:
    bits = np.random.default_rng(0).random((rows * 8, 5)) < [0, 0.2, 0.5, 0.9, 1]
    np.testing.assert_array_equal(count_rows(np.packbits(bits, axis=0)), bits.sum(axis=0))


def graded(frames: int, shape: tuple[int, ...] = (9,)) -> NDArray[np.int16]:
    random = np.random.default_rng(0)
    return random.integers(-3, 4, (frames, *shape)) * (random.random((frames, *shape)) < 0.5).astype(np.int16)


def write(path: Path, levels: NDArray[Any], **options: Any) -> TapeReader:
    sizes = {"chunk_bytes": 1, "limit_bytes": 30, **options}
    write_recording(path, {"1": levels}, [Run(0, len(levels), 1)], **sizes).release()
    return TapeReader.open(Folder(path))


@pytest.mark.parametrize("newer", ["spikes", "planes", "both"])
def test_a_chunk_that_grows_fits_the_older_ones_beside_it(tmp_path: Path, newer: str) -> None:
    """As where a writer is killed between two of them, or a reader comes between them."""
    levels, path, committed = graded(190), tmp_path / "run.zarr", 77
    tape = write_recording(
        path, {"1": levels[:committed]}, [Run(0, committed, 1)], close=False, chunk_bytes=1
    )
    before = shutil.copytree(path, tmp_path / "before")
    tape.append("1", pack_levels(levels[committed // 8 * 8 : 184]))
    log = SegmentLog()
    log.extend(0, 184, 1)
    tape.commit({"1": LayerProgress(0, None, *log.look())}, [], 0, close=False)
    tape.release()
    for array in ("spikes", "planes") if newer == "both" else (newer,):
        shutil.rmtree(before / "layers/1" / array)
        shutil.copytree(path / "layers/1" / array, before / "layers/1" / array)
    layer = TapeReader.open(Folder(before)).layers["1"]
    assert layer.frames == committed
    np.testing.assert_array_equal(read_levels(layer, 0, committed), levels[:committed])
    # Nothing of this is damage.
    assert [
        problem for bits in layer.bits for problem in check_blocks(bits, 0, count_blocks(bits.commit))
    ] == []


@pytest.mark.parametrize(("chunk", "part"), [(0, 0), (1, 1), (3, 2)])
def test_bits_behind_the_events_are_refused_by_verification(tmp_path: Path, chunk: int, part: int) -> None:
    """Of full chunks and of the last one of a closed recording, in any of its parts."""
    levels, path = graded(220, (5, 3)), tmp_path / "run.zarr"
    layer = write(path, levels, chunk_bytes=50).layers["1"]
    plan, plane = layer.plan, layer.planes["0"]
    assert (plan.parts, plan.part_bytes, len(layer.checksums())) == (3, 2 * 3 * 8, 4)
    file = path / plane.chunk_key(chunk, part)
    bits = np.frombuffer(Zstd().decode(file.read_bytes()[:-4]), np.uint8).copy()
    frames = slice(chunk * 64, (chunk + 1) * 64)
    events = np.count_nonzero(levels[frames, part * 2 : (part + 1) * 2])
    assert not np.unpackbits(bits)[events:].any()
    bits[events // 8] |= 128 >> events % 8
    file.write_bytes(encode_plane(bits))
    # As somebody would who makes such a recording on purpose.
    plane.checksums()[chunk, part] = stored_checksum(file.read_bytes())
    problems = check_blocks(plane, 0, count_blocks(plane.commit))
    where = f"planes/0/c/{chunk}/{part}/0: .* has more bits than there are events, {events}"
    assert [problem.frame for problem in problems if not problem.is_redundant] == [chunk * 64]
    with pytest.raises(RecordingFormatError, match=where):
        raise RecordingFormatError(problems[0].what)
    np.testing.assert_array_equal(read_levels(layer, 0, len(levels)), levels)


def test_damaged_events_are_what_is_wrong_with_their_planes(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    layer = write(path, graded(200)).layers["1"]
    (path / layer.chunk_key(1, 0)).unlink()
    for plane in layer.planes.values():
        plane.chunk(0)
        with pytest.raises(
            RecordingFormatError, match=r"1/spikes/c/1/0: the chunk of layer '1' .* is missing"
        ):
            plane.chunk(1)
        problems = check_blocks(plane, 0, count_blocks(plane.commit))
        assert {(problem.layer, problem.frame, problem.last_frame) for problem in problems} >= {
            ("1", 64, 128)
        }
