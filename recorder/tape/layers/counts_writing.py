"""Write the counts of a layer of which only these are kept: of each neuron in each sample of each run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format import RecordingFormatError
from recorder.format.arrays import LayerTables
from recorder.format.bits import Counts, Packed, count_rows, unpack_rows
from recorder.format.layout import ChunkPlan
from recorder.format.record.extents import TableCommit
from recorder.format.segments import Rows, no_rows
from recorder.tape.layers.bits_writing import BitsExtent
from recorder.tape.layers.counts_reading import CountsReader
from recorder.tape.layers.layer_reading import LayerReader
from recorder.tape.tables import TableWriter, rows_checksum
from recorder.tape.threads.side_by_side import KeyWriter


class CountsWriter:
    """Counts the spikes of a layer, in place of writing bits; it takes the place of a `BitsWriter`.

    Appended rows wait, packed, until it is known which steps and samples their frames are. Then they are
    added up, neuron by neuron, and forgotten. A *run* is what is added up to one row of counts for each
    sample: a segment, or the part of one between two commits, as what a commit promises cannot grow.

    Parameters
    ----------
    store : KeyWriter
    tables : LayerTables
        Layouts of the small arrays.
    plan : ChunkPlan
        Whose neurons there are.
    """

    def __init__(self, store: KeyWriter, tables: LayerTables, plan: ChunkPlan) -> None:
        self._plan = plan
        self._counts = TableWriter(store, tables.counts)
        self._counts_checksums = TableWriter(store, tables.counts_checksums)
        # Rows of eight frames that wait, the number of rows appended so far, and of frames counted so far.
        self._waiting: list[Packed] = []
        self._rows = self._counted = 0
        # The run that is being counted: first frame, first step, batch, trial; the spikes of its samples.
        self._run: tuple[int, int, int, int] | None = None
        self._spikes = Samples(0, 1, plan.neurons)
        self._finished: list[tuple[int, int, int, int, int]] = []
        # Spikes in all finished runs; and in counted frames that fill no row yet, which will come again.
        self._total = np.zeros(plan.neurons, np.int64)
        self._ahead = np.zeros(plan.neurons, np.int64)

    def resume(self, kept: LayerReader) -> None:
        """Go on after the committed frames that a reader sees."""
        if not isinstance(kept, CountsReader):
            raise TypeError("counts go on behind counts")
        self._rows, self._counted = kept.frames // 8, kept.frames
        names = kept.counts_checksums()
        unfinished = len(names) // self._counts.chunk_rows * self._counts.chunk_rows
        try:
            rows = kept.counts(unfinished, len(names))
        except RecordingFormatError:
            if not kept.are_lost(unfinished, len(names)):
                raise
            rows = np.zeros((len(names) - unfinished, *self._plan.neuron_shape), np.uint32)
        self._counts.resume(rows, 0, unfinished)
        self._counts_checksums.resume(names, rows_checksum(names))
        self._total += kept.totals()[1]

    @property
    def promised(self) -> BitsExtent:
        """Extent of a recording that is resumed."""
        return BitsExtent(self._counts_checksums.committed, TableCommit(), ())

    @property
    def frames(self) -> int:
        """Frames appended so far, in whole rows."""
        return self._rows * 8

    def append(self, rows: Packed) -> None:
        """Append rows of eight frames, uint8 [rows, neurons]."""
        if len(rows):
            self._waiting.append(rows)
            self._rows += len(rows)
            self._ahead[:] = 0

    def count(self, segments: Rows, frames: int, pending_row: Packed | None = None) -> None:
        """Count the frames before ``frames``, as far as their rows are here.

        Parameters
        ----------
        segments : int64 array, shape [segments, 5]
            What these frames are; earlier ones may be among them.
        frames : int
        pending_row : uint8 array, shape [neurons], or None
            The newest frames, which fill no row.
        """
        here = frames if pending_row is not None else min(frames, self.frames)
        for first, first_step, steps, batch, trial in segments.tolist():
            last = min(first + steps * batch, here)
            if last > self._counted:
                self._enter(first, first_step, batch, trial)
                self._add(last, pending_row)

    def _enter(self, first: int, first_step: int, batch: int, trial: int) -> None:
        """Go on with the run, or begin one, for the first uncounted frame, given the segment it lies in."""
        if self._run is not None:
            run_first, run_step, run_batch, run_trial = self._run
            follows = (first - run_first) == (first_step - run_step) * batch
            if follows and (batch, trial) == (run_batch, run_trial):
                return
            self._finish_run()
        # The segment may have begun before the newest commit; it was counted up to the end of a step.
        steps = max(self._counted - first, 0) // batch
        self._run = first + steps * batch, first_step + steps, batch, trial
        self._spikes = Samples(self._run[0], batch, self._plan.neurons)

    def _add(self, last: int, pending_row: Packed | None) -> None:
        """Add the frames from the first uncounted one to ``last`` (exclusive) to the run."""
        whole = self.frames
        while self._counted < min(last, whole):
            rows, first_frame = self._waiting[0], whole - sum(map(len, self._waiting)) * 8
            end = min(last, first_frame + len(rows) * 8)
            self._spikes.add(rows, first_frame, self._counted, end)
            self._counted = end
            if end == first_frame + len(rows) * 8:
                del self._waiting[0]
        if pending_row is not None and self._counted < last:
            self._spikes.add(pending_row[None], whole, self._counted, last)
            self._ahead += np.bitwise_count(pending_row & _mask(self._counted - whole, last - whole))
            self._counted = last

    def _finish_run(self) -> None:
        """Make rows of the run, which does not grow any more."""
        if self._run is None:
            return
        first, first_step, batch, trial = self._run
        self._total += self._spikes.of_neurons()
        rows = self._spikes.counts().astype(np.uint32).reshape(batch, *self._plan.neuron_shape)
        self._counts.append(rows)
        self._counts_checksums.append(np.array([rows_checksum(row) for row in rows], np.uint32))
        self._finished.append((first, first_step, (self._counted - first) // batch, batch, trial))
        self._run = None

    def end_runs(self) -> Rows:
        """Finish the run that is being counted, for a commit; segments of all runs since the last time."""
        self._finish_run()
        runs, self._finished = self._finished, []
        return np.array(runs, np.int64) if runs else no_rows()

    def totals(self) -> Counts:
        """Number of spikes of each neuron, int64 [neurons], in the rows appended so far."""
        total: Counts = self._total - self._ahead
        if self._run is not None:
            total = total + self._spikes.of_neurons()
        first = self.frames - sum(map(len, self._waiting)) * 8
        for rows in self._waiting:
            row, counted = divmod(max(self._counted - first, 0), 8)
            if row < len(rows):
                behind = rows[row] & _mask(counted, 8)
                total = total + np.bitwise_count(behind) + count_rows(rows[row + 1 :])
            first += len(rows) * 8
        return total

    def commit(self, pending_row: Packed | None, frames: int, *, close: bool) -> BitsExtent:  # noqa: ARG002
        """Write the small arrays; return what a commit may then promise. All of it must be counted."""
        self._counts.flush()
        return BitsExtent(self._counts_checksums.flush(), TableCommit(), ())


class Samples:
    """Spikes of each neuron in each sample of a run, added up eight frames at a time, as they are packed.

    Frames of one sample come again after a *period*, the least number of rows in which whole steps fit. So
    rows that have the same place in their periods are added up bit by bit. A sum of bits needs more of these:
    bits of *level* k, which count 2ᵏ each, are in bytes of their own. Of three bytes of a level become one,
    the lowest bits of the eight sums, and one of the next level, the carries (a carry-save adder, as in
    Hacker's Delight, 2nd edition, 5-1). So each row takes five operations for all of its frames.

    Parameters
    ----------
    first_frame : int
        With which the run begins.
    batch, neurons : int
    """

    def __init__(self, first_frame: int, batch: int, neurons: int) -> None:
        self._first_frame, self._batch = first_frame, batch
        self._period = batch // math.gcd(batch, 8)
        # Of each level, at most two: uint8 [few, period, neurons].
        self._levels: list[Packed] = [np.empty((0, self._period, neurons), np.uint8)]

    def add(self, rows: Packed, rows_frame: int, first: int, last: int) -> None:
        """Add frames ``first`` to ``last`` (exclusive), given rows, uint8 [rows, neurons], that have them.

        ``rows_frame`` is the frame with which rows begin.
        """
        begin, end = first // 8, -(-last // 8)
        inside = rows[begin - rows_frame // 8 : end - rows_frame // 8]
        if first % 8 or last % 8:
            inside = inside.copy()
            inside[0] &= _mask(first % 8, 8)
            inside[-1] &= _mask(0, (last - 1) % 8 + 1)
        period = self._period
        lead = min(-begin % period, len(inside))
        whole = (len(inside) - lead) // period * period + lead
        self._add_periods(inside[lead:whole].reshape(-1, period, rows.shape[1]))
        for some, place in ((inside[:lead], begin % period), (inside[whole:], 0)):
            if len(some):
                padded = np.zeros((1, period, rows.shape[1]), np.uint8)
                padded[0, place : place + len(some)] = some
                self._add_periods(padded)

    def _add_periods(self, periods: Packed) -> None:
        level = 0
        while len(periods):
            if level == len(self._levels):
                self._levels.append(periods[:0])
            added, carried = _add_up(periods)
            self._levels[level], more = _add_up(np.concatenate([self._levels[level], added]))
            periods, level = np.concatenate([carried, more]), level + 1

    def counts(self) -> NDArray[np.integer[Any]]:
        """Spikes of each neuron in each sample, integers [batch, neurons]."""
        bits, carried = [], self._levels[0][:0]
        for some in self._levels:
            rows, more = _add_up(np.concatenate([some, carried]), left=1)
            bits.append(rows)
            carried = more
        while len(carried):
            rows, carried = _add_up(carried, left=1)
            bits.append(rows)
        neurons = self._levels[0].shape[2]
        counts = np.zeros((8 * self._period, neurons), np.min_scalar_type(2 ** len(bits) - 1))
        for rows in reversed(bits):
            counts += counts
            for row in rows:
                counts += unpack_rows(row).view(np.uint8)
        in_order = np.roll(counts, -self._first_frame, axis=0).reshape(-1, self._batch, neurons)
        summed: NDArray[np.integer[Any]] = in_order[0]
        # A sample has several bits of a period where there are fewer than eight samples.
        for more in in_order[1:]:
            summed = summed + more.astype(np.int64)
        return summed

    def of_neurons(self) -> Counts:
        """Spikes of each neuron, int64 [neurons]."""
        neurons = self._levels[0].shape[2]
        total = np.zeros(neurons, np.int64)
        for level, rows in enumerate(self._levels):
            total += count_rows(rows.reshape(-1, neurons)) << level
        return total


def _add_up(rows: Packed, left: int = 2) -> tuple[Packed, Packed]:
    """Add up bits of several arrays, uint8 [arrays, ...]: at most ``left`` of them; and what is carried."""
    carried = [rows[:0]]
    while len(rows) > 2:
        third = len(rows) // 3
        one, two, three = rows[:third], rows[third : 2 * third], rows[2 * third : 3 * third]
        differ = one ^ two
        carried.append((one & two) | (differ & three))
        rows = np.concatenate([differ ^ three, rows[3 * third :]])
    if len(rows) > left:
        carried.append(rows[:1] & rows[1:])
        rows = rows[:1] ^ rows[1:]
    return rows, np.concatenate(carried)


def _mask(first: int, last: int) -> np.uint8:
    """Bits of frames ``first`` to ``last`` (exclusive) of the eight in a byte."""
    return np.uint8((0xFF >> first) & (0xFF00 >> last) & 0xFF)
