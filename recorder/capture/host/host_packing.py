"""Pack tensors in host memory to rows of bits; for those on accelerators, see `device_packing`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from recorder.format.bits import Bools, Packed, pack_whole_rows
from recorder.format.planes.at_events import PlaneAtEvents
from recorder.format.planes.values import SIGN, PackedValues, Pending, of_neurons, pack_levels
from recorder.native.values import LOOPS, Planes

# Frames that wait to be packed: booleans, or levels of a layer with values.
Stage: TypeAlias = NDArray[Any]

# Size of a stage, unless eight frames of the layer are larger.
STAGE_BYTES = 2**20
# Most bytes of full stages that one push leaves to be packed by others. It packs further stages itself.
PUT_BYTES = 4 * 2**20
# Most memory of unused stages that a pool keeps.
SPARE_BYTES = 8 * 2**20
# Bytes of values that are compared at once, so that they are still in the cache when they are counted.
COMPARE_BYTES = 2**20

# Planes by the bit of |level| - 1 in an int8.
_NAMES = {-1: SIGN, **{place: f"{place}" for place in range(7)}}

# Most slots of an output that is copied by one thread.
LONE_COPY_SLOTS = 2**20

# Dtypes that are widened to float32: numpy has no bfloat16, and compares float16 slowly.
_WIDENED = (torch.float16, torch.bfloat16)
# Integer dtype as which values are viewed, to count those whose bits are not all zero. This is faster than to
# compare floats, and counts every byte of a boolean that is not 0 once.
_BITS: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.float32): np.dtype(np.int32),
    np.dtype(np.float64): np.dtype(np.int64),
    np.dtype(np.bool_): np.dtype(np.uint8),
}


class NotSpikesError(ValueError):
    """A layer's output holds values other than 0 and 1, or than multiples of the layer's scale."""


def stage_bytes(neurons: int, itemsize: int = 1) -> int:
    """Bytes of a stage for a layer of ``neurons`` neurons; it has room for at least eight frames."""
    return max(STAGE_BYTES, 8 * neurons * itemsize)


def stage_frames(neurons: int, itemsize: int = 1) -> int:
    """Frames that a stage has room for, a multiple of eight."""
    return stage_bytes(neurons, itemsize) // (neurons * itemsize) // 8 * 8


class StagePool:
    """Memory for stages that is used again, because fresh memory is slow: the system has to clear it.

    Used by several threads, without a lock: a signal handler that waits for another thread could come while
    the thread that it interrupts holds it. Each change is one call that nothing comes in between of.
    """

    def __init__(self) -> None:
        self._spare: dict[int, list[Bools]] = {}

    def take(self, neurons: int, itemsize: int = 1) -> Bools:
        """Get a stage: bool array, shape [frames, neurons * itemsize], with a multiple of eight frames."""
        size, frames = stage_bytes(neurons, itemsize), stage_frames(neurons, itemsize)
        neurons *= itemsize
        try:
            # The memory that was given back last is most likely to be in a cache.
            memory = self._spare.setdefault(size, []).pop()
        except IndexError:
            memory = np.empty(size, np.bool_)
        return memory[: frames * neurons].reshape(frames, neurons)

    def give_back(self, stage: Stage) -> None:
        """Return the memory of a stage that is not used any more to the pool; from any thread."""
        memory = stage.base
        if memory is not None:
            spare_bytes = sum(size * len(spare) for size, spare in [*self._spare.items()])
            if spare_bytes + memory.nbytes <= SPARE_BYTES:
                self._spare.setdefault(memory.nbytes, []).append(memory)


class FullStage(NamedTuple):
    """A full stage, to be packed once, in any thread.

    Attributes
    ----------
    frames : bool array, or array of levels, shape [8 x rows, neurons]
        Frames to pack.
    pool : StagePool
        Pool that gets the memory of ``frames`` back.
    """

    frames: Stage
    pool: StagePool

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the stage holds until it is packed."""
        return stage_bytes(self.frames.shape[1], self.frames.itemsize)

    def pack(self) -> Packed | PackedValues:
        """Pack the frames to rows, [rows, neurons]."""
        return _pack_stage(self.frames)

    def give_back(self) -> None:
        """Give the memory back, once it is packed and will not be packed again."""
        self.pool.give_back(self.frames)


WholeRows = Packed | PackedValues | FullStage


def _pack_stage(frames: Stage) -> Packed | PackedValues:
    return pack_whole_rows(frames) if frames.dtype == np.bool_ else _pack_levels(frames)


def _pack_levels(levels: Stage) -> PackedValues:
    found = LOOPS.pack_levels(levels)
    if found is None:
        return pack_levels(levels)
    return name_planes(*found)


def name_planes(rows: Packed, events: int, of_places: Planes) -> PackedValues:
    """Rows that the loops have packed, with the names of their planes."""
    planes = {
        _NAMES[place]: PlaneAtEvents(bits, of_neurons(counts, 8 * len(rows)))
        for place, (bits, counts) in of_places.items()
    }
    return PackedValues(rows, planes, events)


def pack_whole(rows: WholeRows) -> Packed | PackedValues:
    """Pack rows unless they are packed already, for the last time; [rows, neurons]."""
    if not isinstance(rows, FullStage):
        return rows
    packed = rows.pack()
    rows.give_back()
    return packed


class HostPacker:
    """Packs the frames of one layer to rows: eight frames in a byte, the first in the most significant bit.

    `push` takes an output of the layer in host memory. It compares all values with 1 and puts the result, as
    booleans, into a *stage*, a piece of memory for some thousand frames. A full stage is put into ``ready``,
    and later packed by whoever took it, usually the background thread.

    At every moment ``ready`` and the stage hold, in order, the frames that were pushed and not taken, and
    each of them was checked to be 0 or 1. An output with other values is refused as a whole.

    What was pushed counts once somebody has written down what it is, and says so by ``undo = None``. Until
    then it is taken back when the packer is used again. So a call that was cut short, as by Ctrl-C, leaves
    no trace.

    Parameters
    ----------
    pending : bool array, shape [fewer than 8, neurons]
        Frames that come before those that will be pushed; they filled no row before.
    pool : StagePool
        Pool of memory for stages.

    Attributes
    ----------
    ready : list of FullStage or uint8 array, shape [rows, neurons]
        Whole rows in order, for somebody to take.
    undo : tuple, or None
        The stage, its number of frames, the number of rows in ``ready``, and ``has_fired``, as before what
        was pushed last; None if that counts.
    has_fired : bool
        Whether anything but silence was pushed.
    neurons : int
        Neurons of the layer.
    """

    # Frames in a row of the stage.
    _frames_each = 1

    def __init__(self, pending: Pending, pool: StagePool) -> None:
        self.ready: list[WholeRows] = []
        self.undo: tuple[Any, int, int, bool] | None = None
        self.has_fired = bool(pending.any())
        self._pool = pool
        self.neurons = self._neurons = pending.shape[1]
        self._stage = self._new_stage()
        self._waiting = len(pending)
        self._begin(pending)
        self._one: NDArray[Any] = np.ones((), np.bool_)
        self._bits = self._one.dtype

    def _new_stage(self) -> Any:
        return self._pool.take(self._neurons)

    def _begin(self, pending: Pending) -> None:
        self._stage[: len(pending)] = pending

    def push(self, frames: torch.Tensor) -> None:
        """Add frames, which do not count before ``undo`` is set to None.

        Parameters
        ----------
        frames : tensor, shape [..., *neuron]
            Frames in logical order, of any real dtype; every value must be 0 or 1.

        Raises
        ------
        NotSpikesError
            If any value is neither 0 nor 1. Then none of ``frames`` has been added.
        """
        self._push_array(as_array(frames).reshape(-1, self._neurons))

    def _push_array(self, values: NDArray[Any]) -> None:
        if values.dtype is not self._one.dtype:
            self._one = np.ones((), values.dtype)
            self._bits = _BITS.get(values.dtype, values.dtype)
        if self.undo is not None:
            self.roll_back()
        total = len(values)
        mark = len(self.ready)
        self.undo = self._stage, self._waiting, mark, self.has_fired
        room = len(self._stage) * self._frames_each
        if total < room - self._waiting:
            self._add(values)
            return
        first = 0
        while first < total:
            taken = min(room - self._waiting, total - first)
            self._add(values[first : first + taken])
            first += taken
            if self._waiting == room:
                left_bytes = (len(self.ready) - mark) * stage_bytes(self._neurons)
                self._put_full(leave=left_bytes < PUT_BYTES)

    def roll_back(self) -> None:
        """Take back what was pushed and does not count."""
        if self.undo is not None:
            # The first stage that became full was not packed (see ``leave``). So the stage that was current
            # before still holds its frames, and becomes current again.
            stage, waiting, mark, has_fired = self.undo
            self.ready = self.ready[:mark]
            self._stage, self._waiting, self.has_fired, self.undo = stage, waiting, has_fired, None

    def drain(self) -> Any:
        """Put the whole rows that wait in the stage into ``ready``; return the frames that fill no row.

        Returns
        -------
        bool array, or array of levels, shape [fewer than 8, neurons]
            These frames, which stay in the stage.
        """
        self.roll_back()
        whole = self._waiting // 8 * 8
        pending = self._stage[whole : self._waiting].copy()
        if whole:
            rows, waiting = _pack_stage(self._stage[:whole]), len(pending)
            # No call, at which an exception from outside could come up, from here on.
            self._stage[:waiting] = pending
            self._waiting = waiting
            self.ready += [rows]
        return pending

    def _put_full(self, *, leave: bool) -> None:
        """Put the full stage into ``ready``, and begin an empty one; pack it unless ``leave`` is true."""
        stage = self._stage
        if leave:
            full, empty = FullStage(stage, self._pool), self._new_stage()
            self.ready += [full]
            self._stage, self._waiting = empty, 0
        else:
            rows = _pack_stage(stage)
            self.ready += [rows]
            self._waiting = 0

    def _add(self, values: NDArray[np.generic]) -> None:
        ones = self._stage[self._waiting : self._waiting + len(values)]
        if values.nbytes <= COMPARE_BYTES:
            self._compare(values, ones)
        else:
            at_once = max(COMPARE_BYTES // (self._neurons * values.itemsize), 1)
            for first in range(0, len(values), at_once):
                self._compare(values[first : first + at_once], ones[first : first + at_once])
        self._waiting += len(values)

    def _compare(self, values: NDArray[np.generic], ones: Any) -> None:
        """Write ``values == 1`` to ``ones``, and refuse other values than 0 and 1.

        If as many values are 1 as are not 0, no other values can be there.
        """
        np.equal(values, self._one, out=ones)
        fired = np.count_nonzero(ones)
        if np.count_nonzero(values.view(self._bits)) != fired:
            refuse_others(values, ones)
        if fired:
            self.has_fired = True


def as_array(spikes: torch.Tensor) -> NDArray[np.generic]:
    """View a tensor in host memory as a C-contiguous array; copied only if that is impossible.

    Half precision becomes float32.
    """
    if spikes.requires_grad:
        spikes = spikes.detach()
    if spikes.dtype in _WIDENED:
        spikes = spikes.float()
    array: NDArray[np.generic] = contiguous(spikes).numpy()
    return array


def contiguous(values: torch.Tensor) -> torch.Tensor:
    """Values in host memory in the order of their axes, of a type that numpy has, copied if need be.

    torch wakes all of its threads for a copy. Where others want the cores, these wait for each other, at full
    load, many times as long as one of them takes. So small values are copied by numpy.
    """
    if values.is_contiguous() or values.numel() > LONE_COPY_SLOTS:
        return values.contiguous()
    return torch.from_numpy(np.ascontiguousarray(values.numpy()))


def refuse_others(values: NDArray[np.generic], ones: Bools) -> None:
    """Raise NotSpikesError if any value is neither 0 nor 1. Minus zero, which has a bit set, is 0."""
    is_other = (values != 0) ^ ones
    if is_other.any():
        raise NotSpikesError(describe_values(values[is_other.any(axis=1)]))


def describe_values(values: NDArray[np.generic]) -> str:
    """Text with the range and dtype of values that were found where spikes were expected."""
    least, most = float(values.min()), float(values.max())
    if math.isnan(least):
        return f"NaN among values of dtype {values.dtype}"
    return f"values from {least:g} to {most:g}, dtype {values.dtype}"
