"""Pack outputs with other values than 0 and 1: whole multiples of one scale, as events and planes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recorder.capture.host.host_packing import (
    HostPacker,
    NotSpikesError,
    StagePool,
    describe_values,
    name_planes,
)
from recorder.format.layout import plan_chunks
from recorder.format.planes.scales import refine_scale
from recorder.format.planes.values import MAX_LEVEL, Pending, level_dtype, scale_levels
from recorder.format.record.metadata import ValuesCommit
from recorder.native.values import LEVELS_AT_ONCE, LOOPS, OpenedMark, OpenRows

# Least slots of an output that is packed at once, and of one beside frames that fill no row.
PACK_AT_ONCE_SLOTS, UNEVEN_SLOTS = 2**16, 2**19
# Most slots that are packed together, and most of their events, unless one row may have more.
PACKED_SLOTS, PACKED_EVENTS = 2**23, 2**22


def open_bytes(neurons: int) -> int:
    """Most memory for open rows: rows, events, counts of eight planes in words and bytes, and some levels.

    All but levels are there twice, so that an output can be taken back.
    """
    rows, events = max(PACKED_SLOTS // 8, neurons), max(PACKED_EVENTS, 8 * neurons)
    return 2 * (rows + events + 5 * 8 * neurons) + max(LEVELS_AT_ONCE, 8 * neurons) + 8 * neurons


class ValuePacker(HostPacker):
    """Packs the frames of a layer that puts out whole multiples of one scale.

    It does what `HostPacker` does, but a stage holds *levels*, values ÷ scale, and full stages are packed to
    events and planes. A level too large for the stage's data type makes the packer go on with a larger one.

    Large outputs are packed at once where the compiled loops do that: whole rows into *open rows*, which come
    behind ``ready`` and before the stage.

    Parameters
    ----------
    pending : bool array, or array of levels, shape [fewer than 8, neurons]
        Frames that come before those that will be pushed.
    pool : StagePool
    scale : float
    dtype : str
        Data type of the layer's outputs, in which values are given back.
    known : ValuesCommit, optional
        The range of levels so far.
    frames : int
        The layer's frames so far, pending ones included, of which the chunk follows that they are in.
    """

    def __init__(
        self,
        pending: Pending,
        pool: StagePool,
        scale: float,
        dtype: str,
        known: ValuesCommit | None = None,
        frames: int = 0,
    ) -> None:
        self.scale = scale
        self._dtype = dtype
        self._is_recorded_dtype = True
        self._range = self._range_before = (known.least, known.most) if known else (0, int(pending.any()))
        self._level_dtype = level_dtype(max(self._range[1], -self._range[0]))
        self._frames = self._frames_before = frames
        self._chunk_rows = plan_chunks(pending.shape[1:]).chunk_frames // 8
        # Memory of the open rows, if there are any, and more of it.
        self._opened: OpenRows | None = None
        self._spare: OpenRows | None = None
        self._is_open = False
        # As before an output that was packed at once: memory of the open rows, what of them is to be kept if
        # there were any, and what the stage held.
        self._before: tuple[OpenRows, OpenedMark | None, Pending] | None = None
        super().__init__(pending, pool)

    @property
    def values(self) -> ValuesCommit:
        """Scale, and range of the levels so far."""
        return ValuesCommit(self.scale, *self._range)

    def push(self, frames: torch.Tensor) -> None:
        """Add frames as `HostPacker.push` does; every value must be a whole multiple of the scale."""
        self._is_recorded_dtype = str(frames.dtype).removeprefix("torch.") == self._dtype
        try:
            super().push(frames)
        except _TooLargeError:
            self.roll_back()
            self._widen()
            super().push(frames)

    def refine(self, frames: torch.Tensor) -> bool:
        """Add frames that were refused if they are multiples of a scale that is this one but for rounding."""
        wide = frames.detach().double().numpy()
        scale = refine_scale(wide, self._dtype, self.scale, *self._range)
        if scale is None:
            return False
        known, self.scale = self.scale, scale
        try:
            self.push(frames)
        except NotSpikesError:
            self.roll_back()
            self.scale = known
            return False
        return True

    def push_levels(self, levels: torch.Tensor) -> None:
        """Add frames of levels, shape [frames, neurons], as `push` adds those of values."""
        scale, self.scale, self._is_recorded_dtype = self.scale, 1.0, True
        try:
            try:
                self._push_array(levels.numpy())
            except _TooLargeError:
                self.roll_back()
                self._widen()
                self._push_array(levels.numpy())
        finally:
            self.scale = scale

    def roll_back(self) -> None:
        """Take back what was pushed and does not count."""
        if self.undo is not None:
            self._range, self._frames = self._range_before, self._frames_before
            if self._before is not None:
                opened, mark, pending = self._before
                if self._opened is not opened:
                    self._opened, self._spare = opened, self._opened
                if mark is not None:
                    opened.restore(mark)
                self._is_open = mark is not None
                self._stage[: len(pending)] = pending
        super().roll_back()

    def drain(self) -> Any:
        """Put all whole rows into ``ready``; return the frames that fill none."""
        self.roll_back()
        self._close_rows()
        return super().drain()

    def _widen(self) -> None:
        """Go on with a stage of larger levels."""
        pending = self.drain()
        stage = self._pool.take(self._neurons, 2).view(np.int16)
        stage[: len(pending)] = pending
        self._level_dtype, self._stage = np.dtype(np.int16), stage

    def _new_stage(self) -> Any:
        return self._pool.take(self._neurons, self._level_dtype.itemsize).view(self._level_dtype)

    def _push_array(self, values: NDArray[Any]) -> None:
        if self.undo is not None:
            self.roll_back()
        self._range_before, self._frames_before, self._before = self._range, self._frames, None
        if self._is_for_loops(values):
            self._push_at_once(values)
        else:
            self._close_rows()
            super()._push_array(values)
        self._frames += len(values)

    def _is_for_loops(self, values: NDArray[Any]) -> bool:
        """Whether the loops pack values at once; to do that beside frames that fill no row takes longer."""
        is_even = self._waiting == 0 and len(values) % 8 == 0
        least = PACK_AT_ONCE_SLOTS if is_even else UNEVEN_SLOTS
        is_int8 = self._is_plain and self._level_dtype == np.int8
        return is_int8 and values.size >= least and LOOPS.can_take(values)

    def _push_at_once(self, values: NDArray[Any]) -> None:
        """Pack whole rows of the frames that wait and these into open rows; leave the others in the stage."""
        if self._waiting >= 8:
            self.drain()
        opened = self._opened = self._opened or self._new_rows()
        pending = self._stage[: self._waiting].copy()
        mark = opened.mark(-(-len(values) // 8)) if self._is_open else None
        self._before = opened, mark, pending
        self.undo = self._stage, self._waiting, len(self.ready), self.has_fired
        whole, left = divmod(len(pending) + len(values), 8)
        if whole:
            self._pack_at_once(pending, values[: len(values) - left])
            self._waiting, values = 0, values[len(values) - left :]
        if len(values):
            self._add(values)

    def _new_rows(self) -> OpenRows:
        return LOOPS.open_rows(self._neurons, max(PACKED_EVENTS, 8 * self._neurons))

    def _pack_at_once(self, pending: Pending, values: NDArray[Any]) -> None:
        first = 0
        while first < len(values):
            opened = self._begin_rows((self._frames_before + first - len(pending)) // 8)
            last = first + 8 * opened.room - len(pending)
            some = values[first:last]
            self._note(some, *opened.add(pending, some))
            first, pending = last, pending[:0]
            if not opened.room:
                self._close_rows()

    def _begin_rows(self, row: int) -> OpenRows:
        """Have open rows, which begin with this one of the layer if they are new, and end with its chunk."""
        opened, spare = self._opened or self._new_rows(), self._spare
        if not self._is_open:
            if self._before is not None and self._before[0] is opened and self._before[1] is not None:
                # What is in them is needed if the output is taken back.
                opened, spare = spare or self._new_rows(), opened
            most = max(PACKED_SLOTS // (8 * self._neurons), 1)
            opened.begin(min(most, self._chunk_rows - row % self._chunk_rows))
            # No call, at which an exception from outside could come up, in between.
            self._opened, self._spare, self._is_open = opened, spare, True
        return opened

    def _close_rows(self) -> None:
        """Put the open rows into ``ready``."""
        if self._is_open and self._opened is not None:
            packed = name_planes(*self._opened.packed())
            # No call, at which an exception from outside could come up, from here on.
            self.ready += [packed]
            self._is_open = False

    def _add(self, values: NDArray[np.generic]) -> None:
        """Write the levels of values to the stage: at once where the compiled loop does, else in pieces."""
        stage = self._stage[self._waiting : self._waiting + len(values)]
        taken = LOOPS.take_levels(values, stage) if self._is_plain else None
        if taken is None:
            super()._add(values)
            return
        self._note(values, *taken)
        self._waiting += len(values)

    def _compare(self, values: NDArray[np.generic], stage: Any) -> None:
        self._note(values, *self._take_levels(values, stage))

    def _note(self, values: NDArray[np.generic], is_given_back: bool, least: int, most: int) -> None:
        """Note the range of the levels of values, and refuse values that are no multiples of the scale."""
        if not is_given_back:
            self._refuse(values)
        self._range = min(self._range[0], least), max(self._range[1], most)
        if self._range[0] < -MAX_LEVEL:
            raise NotSpikesError(describe_values(values))

    def _take_levels(self, values: NDArray[np.generic], stage: Any) -> tuple[bool, int, int]:
        """Write the levels of values to a stage; whether they give back the values, and their range."""
        with np.errstate(invalid="ignore", over="ignore"):
            if self.scale == 1:
                np.copyto(stage, values, casting="unsafe")
            else:
                np.rint(np.divide(values, self.scale), out=stage, casting="unsafe")
            given_back = stage if self._is_plain else scale_levels(stage, self.scale, self._dtype)
        return np.array_equal(given_back, values), int(stage.min()), int(stage.max())

    @property
    def _is_plain(self) -> bool:
        """True if values are whole numbers of a type that has all levels which come."""
        return self.scale == 1 and self._is_recorded_dtype

    def _refuse(self, values: NDArray[np.generic]) -> None:
        wide = self._level_dtype.itemsize > 1
        with np.errstate(invalid="ignore", over="ignore"):
            levels = np.rint(np.divide(values, self.scale, dtype=np.float64))
            is_other = scale_levels(levels, self.scale, self._dtype) != values
            is_other |= ~(np.abs(levels) <= MAX_LEVEL)
        if is_other.any() or wide:
            raise NotSpikesError(describe_values(values[is_other.any(axis=1)]))
        raise _TooLargeError


class _TooLargeError(Exception):
    """A level does not fit the data type of the stage."""
