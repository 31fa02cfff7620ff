"""Runs of frames that belong together, with all that a loop over events must know of each frame.

A *lane* is one sample of one neuron. A *sequence* is a run of steps of a lane without a break: no interval,
lag or latency reaches from one into another.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.kernels.selecting.grouping import count_up
from recorder.format.bits import Integers

# Stands where there is no step yet; every sequence starts behind it.
NEVER: Final = -1
# A frame's place behind the first frame of its piece's first step is below 2 to this power.
_PLACE_BITS = 31


@dataclass(frozen=True, eq=False)
class Pieces:
    """Runs of frames of a chunk, each within one segment.

    Frame ``f`` of a piece has place ``q = skipped + f - begin``, step ``first_step + q // batch`` and sample
    ``q % batch``. Its group is the code of its step plus the code of its sample; if either is negative, it
    is in no group, but its events still end intervals and begin others. Frames in no piece do not exist: a
    lane's next sequence must start behind them.

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
        First step of a sequence, from 0 to its first frame in the piece; step behind its last.
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

    def check(self, frames: int, groups: int) -> None:
        """Refuse pieces beyond a chunk of so many frames, or codes beyond so many groups.

        Compiled loops write where pieces and codes say, and look at no bounds.

        Raises
        ------
        IndexError
        """
        if len(self) == 0:
            return
        if (
            self.begin[0] < 0
            or self.end[-1] > frames
            or (self.begin >= self.end).any()
            or (self.begin[1:] < self.end[:-1]).any()
        ):
            raise IndexError(
                f"pieces must be of frames 0 to {frames} of the chunk, ascending and apart, but go from"
                f" {self.begin.tolist()[:8]} to {self.end.tolist()[:8]}; they must be made for this chunk"
            )
        if (self.batch < 1).any() or (self.skipped < 0).any() or (self.skipped >= self.batch).any():
            raise IndexError("a piece must begin at one of the samples of its batch")
        largest = int(self.step_codes.max(initial=-1)) + int(self.sample_codes.max(initial=-1))
        if largest >= groups:
            raise IndexError(
                f"codes of steps and samples add up to group {largest}, but there are {groups} groups, from 0"
                " on; codes must be places along the axes that the groups are of"
            )

    def walk(self, is_open: NDArray[np.bool_] | None = None) -> Walk:
        """The pieces as loops take them; ``is_open`` as in `Walk`, by default False."""
        # Multiplying by ceil(2 ** shift / batch) and shifting divides exactly, as batch <= 2 ** (shift - 31).
        shift = _PLACE_BITS + np.frexp(self.batch - 1.0)[1].astype(np.int64)
        arrays = {field.name: np.ascontiguousarray(getattr(self, field.name)) for field in fields(self)}
        return Walk(
            **arrays,
            multiplier=-(-(np.int64(1) << shift) // self.batch),
            shift=shift,
            lane_at=np.cumsum(self.batch) - self.batch,
            is_open=np.zeros(len(self), np.bool_) if is_open is None else is_open,
        )

    def lanes(self) -> LaneRuns:
        """Steps of each sample in each piece, piece after piece."""
        covered = np.minimum(self.batch, self.end - self.begin)
        piece = np.repeat(np.arange(len(self), dtype=np.int64), covered)
        place = self.skipped[piece] + count_up(covered)
        batch = self.batch[piece]
        sample = place % batch
        last_place = (self.skipped + self.end - self.begin - 1)[piece]
        sequence = self.start_at[piece] + sample
        first, last = place // batch, (last_place - sample) // batch
        step_code = self.step_codes[self.step_at[piece] + first]
        sample_code = self.sample_codes[self.sample_at[piece] + sample]
        # Steps with another code than the step before, from the first step code on.
        changes = np.concatenate([[0], np.cumsum(np.diff(self.step_codes) != 0)])
        return LaneRuns(
            piece,
            sample,
            first=self.first_step[piece] + first,
            last=self.first_step[piece] + last,
            start=self.starts[sequence],
            end=self.ends[sequence],
            group=np.where((step_code >= 0) & (sample_code >= 0), step_code + sample_code, -1),
            stays=changes[self.step_at[piece] + first] == changes[self.step_at[piece] + last],
        )


class Runs(NamedTuple):
    """Runs of frames, each within one segment, as loops take them that list events.

    Frame ``f`` of a run has place ``q = skipped + f - begin``, step ``first_step + q // batch`` and sample
    ``q % batch``. All samples of a run are meant where its ``chosen_at`` is negative; otherwise sample ``s``
    is if ``chosen[chosen_at + s]``. Int64 arrays of shape [runs], but for ``chosen``, which is of booleans.
    """

    begin: Integers
    end: Integers
    first_step: Integers
    skipped: Integers
    batch: Integers
    chosen_at: Integers
    chosen: NDArray[np.bool_]


class Walk(NamedTuple):
    """The arrays of `Pieces`, contiguous, and what follows from them for each piece.

    ``q // batch`` is ``q * multiplier >> shift``; ``lane_at`` is the number of lanes of a neuron in pieces
    before; ``is_open`` says whether a sequence of the piece began before the task.
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
    multiplier: Integers
    shift: Integers
    lane_at: Integers
    is_open: NDArray[np.bool_]

    def select(self, chosen: NDArray[np.bool_]) -> Walk:
        """Some of the pieces, bool [pieces]; what they have in common stays."""
        if chosen.all():
            return self
        parts = {name: array for name, array in self._asdict().items() if name not in _IN_COMMON}
        return self._replace(**{name: array[chosen] for name, array in parts.items()})


_IN_COMMON: Final = ("step_codes", "sample_codes", "starts", "ends")


@dataclass(frozen=True, eq=False)
class LaneRuns:
    """Steps ``first`` to ``last`` (inclusive) of each sample in each piece, piece after piece; arrays [runs].

    ``start`` and ``end`` are those of its sequence, ``group`` is the group of its first frame or -1, and
    ``stays`` says whether its other frames are in the same group.
    """

    piece: Integers
    sample: Integers
    first: Integers
    last: Integers
    start: Integers
    end: Integers
    group: Integers
    stays: NDArray[np.bool_]

    def before(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Order in which runs of a sample follow each other, and for each the place of its sample's first."""
        order = np.argsort(self.sample, kind="stable")
        sample = self.sample[order]
        is_first = np.concatenate([[True], sample[1:] != sample[:-1]])[: len(sample)]
        return order, np.maximum.accumulate(np.where(is_first, np.arange(len(sample)), 0))
