"""Rows of many small arrays, read together, are those that each of them gives alone."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recorder.format import RecordingFormatError
from recorder.format.arrays import TableLayout
from recorder.stores import Folder
from recorder.tape.tables import TableWriter, read_all_rows, read_rows

# Of one row in a chunk, of several chunks, of a chunk that is mostly padding, and without any.
ROWS = {"wide": ((2**18,), 3), "long": ((), 9000), "short": ((64,), 5), "none": ((3, 5), 0)}


def layout_of(name: str) -> TableLayout:
    shape = ROWS[name][0]
    return TableLayout(name, "uint32", ("row", *(f"neuron_{axis}" for axis in range(len(shape)))), shape)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Folder, dict[str, NDArray[np.uint32]]]:
    store, numbers = Folder(tmp_path, durability="process"), np.random.default_rng(0)
    made = {}
    for name, (shape, rows) in ROWS.items():
        made[name] = numbers.integers(0, 2**32, (rows, *shape), np.uint32)
        table = TableWriter(store, layout_of(name))
        table.append(made[name])
        table.flush()
    return store, made


def test_many_tables_are_those_of_one_each(stored: tuple[Folder, dict[str, NDArray[np.uint32]]]) -> None:
    store, made = stored
    names = [*made, "long", "short"] * 20
    read = read_all_rows([(store, layout_of(name), len(made[name])) for name in names])
    for name, rows in zip(names, read, strict=True):
        assert np.array_equal(rows, made[name])
        assert np.array_equal(rows, read_rows(store, layout_of(name), 0, len(made[name])))
        # The rest of a chunk is not kept in memory.
        assert rows.base is None or rows.base.nbytes == rows.nbytes
    assert read_all_rows([]) == []


@pytest.mark.parametrize("is_missing", [True, False])
def test_what_is_damaged_is_named(
    stored: tuple[Folder, dict[str, NDArray[np.uint32]]], is_missing: bool
) -> None:
    store, made = stored
    path = Path(store.location) / layout_of("long").chunk_key(1)
    if is_missing:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    wanted = [(store, layout_of(name), len(made[name])) for name in ("short", "long", "wide")]
    with pytest.raises(RecordingFormatError, match=r"long/c/1 is (missing|damaged)"):
        read_all_rows(wanted)


class Meeting(Folder):
    """A store whose reads wait for each other, as many as may be under way."""

    reads_under_way = 3

    def __init__(self, path: Path) -> None:
        super().__init__(path, durability="process")
        self.met = threading.Barrier(self.reads_under_way, timeout=30)

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        self.met.wait()
        return super().read(key, limit_bytes)


def test_distant_tables_are_read_side_by_side(
    stored: tuple[Folder, dict[str, NDArray[np.uint32]]], tmp_path: Path
) -> None:
    made = stored[1]
    read = read_all_rows([(Meeting(tmp_path), layout_of("short"), len(made["short"]))] * 6)
    assert len(read) == 6
    assert all(np.array_equal(rows, made["short"]) for rows in read)
