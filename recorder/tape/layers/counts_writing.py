"""Write the counts of a layer of which only these are kept: of each neuron in each sample of each run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recorder.format import RecordingFormatError
from recorder.format.arrays import LayerTables
from recorder.format.bits import Bools, Counts, Packed, unpack_rows
from recorder.format.layout import ChunkPlan
from recorder.format.record.extents import TableCommit
from recorder.format.segments import Rows, no_rows
from recorder.tape.layers.bits_writing import BitsExtent
from recorder.tape.layers.counts_reading import CountsReader
from recorder.tape.layers.layer_reading import LayerReader
from recorder.tape.tables import TableWriter, rows_checksum
from recorder.tape.threads.side_by_side import KeyWriter

# Frames that are added up at once, as booleans, and steps of which the sum fits a byte.
_UNPACKED_BYTES = 2**20
_BYTE_STEPS = 255


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
        self._spikes = Samples(0, plan.neurons)
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
        self._spikes = Samples(batch, self._plan.neurons)

    def _add(self, last: int, pending_row: Packed | None) -> None:
        """Add the frames from the first uncounted one to ``last`` (exclusive) to the run."""
        first_of_run, _, batch, _ = self._run or (0, 0, 1, 0)
        whole = self.frames
        at_once = max(_UNPACKED_BYTES // max(self._plan.neurons, 1) // 8, 1)
        while self._counted < min(last, whole):
            rows, first_frame = self._waiting[0], whole - sum(map(len, self._waiting)) * 8
            row = (self._counted - first_frame) // 8
            some = rows[row : row + at_once]
            begin = first_frame + row * 8
            bits = unpack_rows(some)[self._counted - begin : last - begin]
            self._spikes.add(bits, (self._counted - first_of_run) % batch)
            self._counted += len(bits)
            if self._counted >= first_frame + len(rows) * 8:
                del self._waiting[0]
        if pending_row is not None and self._counted < last:
            bits = unpack_rows(pending_row[None])[self._counted - whole : last - whole]
            self._spikes.add(bits, (self._counted - first_of_run) % batch)
            self._ahead += np.count_nonzero(bits, axis=0)
            self._counted += len(bits)

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
            bits = unpack_rows(rows)[max(self._counted - first, 0) :]
            total = total + np.count_nonzero(bits, axis=0)
            first += len(rows) * 8
        return total

    def commit(self, pending_row: Packed | None, frames: int, *, close: bool) -> BitsExtent:  # noqa: ARG002
        """Write the small arrays; return what a commit may then promise. All of it must be counted."""
        self._counts.flush()
        return BitsExtent(self._counts_checksums.flush(), TableCommit(), ())


class Samples:
    """Spikes of each neuron in each sample of a batch, added up step by step.

    They are added up in bytes, which is a good deal faster, and now and then from there to whole numbers.
    """

    def __init__(self, batch: int, neurons: int) -> None:
        self._counts: Counts = np.zeros((batch, neurons), np.int64)
        self._bytes = np.zeros((batch, neurons), np.uint8)
        # Most that a byte may hold.
        self._most = 0

    def add(self, bits: Bools, sample: int) -> None:
        """Add frames, [frames, neurons], which begin with a sample."""
        batch = len(self._bytes)
        values: NDArray[np.uint8] = bits.view(np.uint8)
        lead = min(-sample % batch, len(values))
        self._room(1)
        self._bytes[sample : sample + lead] += values[:lead]
        steps = (len(values) - lead) // batch
        whole = values[lead : lead + steps * batch].reshape(steps, batch, values.shape[1])
        for first in range(0, steps, _BYTE_STEPS):
            some = whole[first : first + _BYTE_STEPS]
            self._room(len(some))
            self._bytes += some[0] if len(some) == 1 else some.sum(axis=0, dtype=np.uint8)
        rest = values[lead + steps * batch :]
        self._room(1)
        self._bytes[: len(rest)] += rest

    def _room(self, steps: int) -> None:
        """Have room for so many steps in the bytes."""
        if self._most + steps > _BYTE_STEPS:
            self._counts += self._bytes
            self._bytes[:], self._most = 0, 0
        self._most += steps

    def counts(self) -> Counts:
        """Spikes of each neuron in each sample, int64 [batch, neurons]."""
        return self._counts + self._bytes

    def of_neurons(self) -> Counts:
        """Spikes of each neuron, int64 [neurons]."""
        total: Counts = self.counts().sum(axis=0)
        return total
