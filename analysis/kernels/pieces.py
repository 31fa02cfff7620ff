"""Runs of frames that belong together, with all that a loop over events must know of each frame.

A *lane* is one sample of one neuron. A *sequence* is a run of steps of a lane without a break: no interval, lag
or latency reaches from one into another.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.grouping import count_up
from recorder.format.bits import Integers

# Stands where there is no step yet; every sequence starts behind it.
NEVER: Final = -1
# A frame's place behind the first frame of its piece's first step is below 2 to this power.
_PLACE_BITS = 31


@dataclass(frozen=True, eq=False)
class Pieces:
    """Runs of frames of a chunk, each within one segment.

    Frame ``f`` of a piece has place ``q = skipped + f - begin``, step ``first_step + q // batch`` and sample
    ``q % batch``. Its group is the code of its step plus the code of its sample; if either is negative, it is
    in no group, but its events still end intervals and begin others. Frames in no piece do not exist: a lane's
    next sequence must start behind them.

    Attributes
    ----------
    begin, end : int64 array, shape [pieces]
        Frames within the chunk; ascending, disjoint, not empty.
    first_step : int64 array, shape [pieces]
        Step of frame ``begin``.
    skipped : int64 array, shape [pieces]
        Sample of frame ``begin``.
    batch : int64 array, shape [pieces]
    step_at, sample_at, start_at : int64 array, shape [pieces]
        Where the piece's own part of ``step_codes``, of ``sample_codes``, of ``starts`` and ``ends`` begins.
        The first two parts hold a code for each step from ``first_step`` and for each sample, the last a
        sequence for each sample.
    time_offset : int64 array, shape [pieces]
        Steps from the first step of the trial to the start of the piece's sequences, added to latencies.
    counts_latency : bool array, shape [pieces]
        Whether the piece's sequences are the first of their presentations.
    step_codes, sample_codes : int64 array
    starts, ends : int64 array
        First step of a sequence, at least 0 and not behind its first frame in the piece; step behind its last.
    """

    begin: Integers
    end: Integers
    first_step: Integers
    skipped: Integers
    batch: Integers
    step_at: Integers
    sample_at: Integers
    start_at: Integers
    time_offset: Integers
    counts_latency: NDArray[np.bool_]
    step_codes: Integers
    sample_codes: Integers
    starts: Integers
    ends: Integers

    def __len__(self) -> int:
        return len(self.begin)

    def walk(self) -> Walk:
        """The pieces as the compiled loops take them."""
        # ceil(2 ** shift / batch): multiplying by it and shifting divides exactly, since batch ≤ 2 ** (shift - 31).
        shift = _PLACE_BITS + np.frexp(self.batch - 1.0)[1].astype(np.int64)
        multiplier = -(-(np.int64(1) << shift) // self.batch)
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        return Walk(**contiguous, multiplier=multiplier, shift=shift)

    def grouped_frames(self) -> tuple[Integers, Integers]:
        """Every frame that is in a group, ascending, and its group: int64 [frames]."""
        lengths = self.end - self.begin
        inside = count_up(lengths)
        piece = np.repeat(np.arange(len(self), dtype=np.int64), lengths)
        step, sample = np.divmod(self.skipped[piece] + inside, self.batch[piece])
        of_step, of_sample = (
            self.step_codes[self.step_at[piece] + step],
            self.sample_codes[self.sample_at[piece] + sample],
        )
        grouped = (of_step >= 0) & (of_sample >= 0)
        return (self.begin[piece] + inside)[grouped], (of_step + of_sample)[grouped]

    def lanes(self) -> LaneRuns:
        """Steps of each sample in each piece, piece after piece."""
        covered = np.minimum(self.batch, self.end - self.begin)
        piece = np.repeat(np.arange(len(self), dtype=np.int64), covered)
        place = self.skipped[piece] + count_up(covered)
        batch = self.batch[piece]
        sample = place % batch
        last_place = (self.skipped + self.end - self.begin - 1)[piece]
        sequence = self.start_at[piece] + sample
        return LaneRuns(
            piece,
            sample,
            first=self.first_step[piece] + place // batch,
            last=self.first_step[piece] + (last_place - sample) // batch,
            start=self.starts[sequence],
            end=self.ends[sequence],
        )


class Walk(NamedTuple):
    """The arrays of `Pieces`, C-contiguous, and ``q // batch`` as ``q * multiplier >> shift``."""

    begin: Integers
    end: Integers
    first_step: Integers
    skipped: Integers
    batch: Integers
    step_at: Integers
    sample_at: Integers
    start_at: Integers
    time_offset: Integers
    counts_latency: NDArray[np.bool_]
    step_codes: Integers
    sample_codes: Integers
    starts: Integers
    ends: Integers
    multiplier: Integers
    shift: Integers


@dataclass(frozen=True, eq=False)
class LaneRuns:
    """Steps ``first`` to ``last`` (inclusive) of a sample in a piece, and its sequence; int64 [runs]."""

    piece: Integers
    sample: Integers
    first: Integers
    last: Integers
    start: Integers
    end: Integers
