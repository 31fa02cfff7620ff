"""Pack frames on an accelerator, so that only packed bytes are copied to the host."""

from __future__ import annotations

import functools
import importlib.util
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from recorder.capture.device.gathering import DEVICE_OUTPUT_BYTES, GATHER_AFTER, Gathered
from recorder.capture.device.transfer import Transfer, TransferRing
from recorder.capture.host.host_packing import WholeRows
from recorder.format.bits import Bools, Packed, pack_frames

# Most outputs until a row is full, as a row has eight frames, and each output at least one.
OUTPUTS_IN_A_ROW = 8
# Verdict on a bad value that is not 0, but becomes 0 when it is rounded to float32.
_SMALLEST = torch.finfo(torch.float32).tiny

PackFrames = Callable[[torch.Tensor, int, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], None]
# Of each output, as int64: the bits of one of its bad values, and two numbers about them.
VERDICT_NUMBERS = 3


class Verdict(NamedTuple):
    """What a device has found out about the values of one output.

    Attributes
    ----------
    value : float
        One of those that are neither 0 nor 1, never 0 itself; 0 if there is none.
    others : int
        Number of values that are neither 0 nor 1.
    first : int
        Place of the first of them among all values of the output; 0 if there is none.
    """

    value: float
    others: int
    first: int


def pack_with_torch(
    frames: torch.Tensor,
    waiting: int,
    before: torch.Tensor,
    rows: torch.Tensor,
    after: torch.Tensor,
    verdicts: torch.Tensor,
) -> None:
    """Pack frames after those in an unfinished row, with operations that every torch device supports.

    Parameters
    ----------
    frames : tensor, shape [frames, neurons]
        Frames to pack, of any real dtype: those of one output, or of several with as many frames each.
    waiting : int
        Number of frames in ``before``, fewer than 8.
    before : uint8 tensor, shape [neurons]
        Input: the unfinished row, with zeros in the bits of missing frames. Ignored if ``waiting`` is 0.
    rows : uint8 tensor, shape [whole rows, neurons]
        Output: the rows that are full now.
    after : uint8 tensor, shape [neurons]
        Output: the new unfinished row. Not written if the last row is full.
    verdicts : int64 tensor, shape [outputs, 3], contiguous
        Output, of each output that has values which are neither 0 nor 1: one of them, never 0 itself, as
        float32 in the first half of the first number; how many there are; and the number of values from the
        first of them on. The caller passes zeros.
    """
    total, neurons = frames.shape
    ones = frames == 1
    is_bad = ones != (frames != 0)
    found = frames.float()
    found = torch.where(found == 0, _SMALLEST, found)
    of_output = is_bad.reshape(len(verdicts), -1)
    first = of_output.view(torch.uint8).argmax(dim=1, keepdim=True)
    # With gather and not by indexing, for which the host would have to wait for the index.
    verdicts.view(torch.float32)[:, :1] = torch.where(is_bad, found, 0).view_as(of_output).gather(1, first)
    bad_values = of_output.sum(dim=1, keepdim=True)
    verdicts[:, 1:2] = bad_values
    verdicts[:, 2:] = torch.where(bad_values > 0, of_output.shape[1] - first, 0)
    places = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=frames.device)
    count = -(-(waiting + total) // 8)
    eights = torch.zeros((count * 8, neurons), dtype=torch.uint8, device=frames.device)
    eights[waiting : waiting + total] = ones
    # A sum in uint8 cannot overflow here, because each frame has a bit of its own.
    packed = (eights.view(count, 8, neurons) * places.view(8, 1)).sum(dim=1, dtype=torch.uint8)
    if waiting:
        packed[0] |= before
    rows.copy_(packed[: len(rows)])
    if count > len(rows):
        after.copy_(packed[-1])


@functools.cache
def choose_packing(device_type: str) -> PackFrames:
    """Return the Triton kernel for CUDA devices if Triton is installed, `pack_with_torch` otherwise."""
    if device_type == "cuda" and importlib.util.find_spec("triton") is not None:
        from recorder.capture.device.kernel import pack_with_triton  # noqa: PLC0415 - takes a second

        return pack_with_triton
    return pack_with_torch


@dataclass
class _Batch:
    """Outputs whose verdicts are copied to the host together, with the rows that were full after them.

    Attributes
    ----------
    waiting : int
        Frames in the unfinished row before the first of these outputs.
    outputs : list of int
        Number of frames in each output.
    verdicts : Transfer
        Verdicts on the outputs: int64 [outputs, 3], as bytes; the first is a float32.
    rows : Transfer or None
        Rows that became full with the last output; None if none did.
    """

    waiting: int
    outputs: list[int]
    verdicts: Transfer
    rows: Transfer | None


class DevicePacker:
    """Packs the frames of one layer on the device where they are, and copies packed rows to the host.

    `push` queues work on the stream of the network, and does not wait for it. Small outputs are only copied,
    and packed many at a time. Rows of eight frames are copied through a `TransferRing` as soon as they are
    full. With them goes a `Verdict` on each output. `collect` puts the rows that have arrived into ``ready``.

    `collect` does so with a row only when all outputs in it hold zeros and ones only. If one does not, all
    that was pushed so far is fetched, the frames of bad outputs are taken out, and the rest is packed anew.
    So an output is in the rows as a whole or not at all. Frames that fill no row stay on the device.

    An exception from outside, such as that of Ctrl-C, comes up where a call begins, or has ended. So what
    belongs together changes at once, where nothing is called: an output was pushed, or it was not.

    Parameters
    ----------
    pending : bool array, shape [fewer than 8, neurons]
        Frames that come before those that will be pushed; they filled no row before.
    device : torch.device
        Device on which the layer puts out its spikes.
    ring : TransferRing
        Ring of this device.
    pack : callable, optional
        `pack_with_torch` or a function that does the same; by default the result of `choose_packing`.

    Attributes
    ----------
    ready : list of uint8 array, shape [rows, neurons]
        Whole rows in order, without frames of bad outputs, for somebody to take.
    verdicts : deque of Verdict
        What was found about outputs, in order, for somebody to take. Of one with other values than 0 and 1,
        no frame is in any row.
    """

    def __init__(
        self, pending: Bools, device: torch.device, ring: TransferRing, pack: PackFrames | None = None
    ) -> None:
        self.ready: list[WholeRows] = []
        self.verdicts: deque[Verdict] = deque()
        self._neurons = pending.shape[1]
        self._device = device
        self._ring = ring
        self._pack = pack or choose_packing(device.type)
        self._batches: deque[_Batch] = deque()
        # Frames in each output since verdicts were last sent, these verdicts, the rows that are full with the
        # last of them, and how many frames were in the unfinished row before those outputs.
        self._outputs: list[int] = []
        self._verdicts: torch.Tensor | None = None
        self._rows: torch.Tensor | None = None
        # Whether a verdict is being made, which was not if that is still so when the next one is made.
        self._is_judging = False
        # Outputs that wait to be packed; the shape of the newest ones, and how many have come since another.
        self._gathered: Gathered | None = None
        self._like: tuple[torch.Size, torch.dtype] | None = None
        self._alike = 0
        # The unfinished row, the work that makes it, and how many frames are in it.
        self._row, self._mark, self._waiting = self._row_of(pending)
        self._waiting_at_start = self._waiting

    @property
    def undecided(self) -> int:
        """How many outputs were pushed about which nothing was taken from ``verdicts``."""
        sent = sum(len(batch.outputs) for batch in self._batches)
        gathered = 0 if self._gathered is None else self._gathered.count
        return len(self.verdicts) + sent + len(self._outputs) + gathered

    def push(self, frames: torch.Tensor) -> None:
        """Add the frames of one output, without waiting for the device; `collect` returns the verdict.

        Parameters
        ----------
        frames : tensor, shape [..., *neuron]
            At least one frame, in logical order, of any real dtype.
        """
        if self._gather(frames):
            return
        self._pack_gathered()
        # Where there was no room, there is some now.
        if self._gather(frames):
            return
        like = frames.shape, frames.dtype
        self._alike = self._alike + 1 if like == self._like else 1
        self._like = like
        # Before the output counts, as memory may be short.
        if self._alike >= GATHER_AFTER and frames.nbytes <= DEVICE_OUTPUT_BYTES:
            with torch.inference_mode(mode=False), torch.no_grad(), on_device(self._device):
                self._gathered = Gathered(frames, self._ring.lane)
        self._push(frames, 1)

    def _gather(self, frames: torch.Tensor) -> bool:
        """Put the frames of one output among those that wait; False if they are not like these."""
        if self._gathered is None or not self._gathered.put(frames):
            return False
        self._gathered.count += 1
        self._alike = 0
        return True

    def _pack_gathered(self) -> None:
        """Pack the outputs that wait."""
        gathered = self._gathered
        if gathered is None:
            return
        if gathered.count:
            self._push(gathered.outputs(), gathered.count, gathered)
        if not gathered.is_behind:
            # Those that follow would be written before these are read.
            self._gathered, self._alike = None, 0

    def _push(self, frames: torch.Tensor, outputs: int, gathered: Gathered | None = None) -> None:
        """Pack the frames of so many outputs, each of which has as many; there is a verdict on each.

        If they were ``gathered``, none is any more.
        """
        with torch.inference_mode(mode=False), torch.no_grad(), on_device(self._device):
            frames = frames.reshape(-1, self._neurons)
            is_full = self._verdicts is not None and len(self._outputs) + outputs > len(self._verdicts)
            if is_full or self._rows is not None:
                self._send()
            verdicts = self._verdicts
            if verdicts is None:
                shape = max(outputs, OUTPUTS_IN_A_ROW), VERDICT_NUMBERS
                verdicts = torch.zeros(shape, dtype=torch.int64, device=self._device)
            self._ring.lane.follow(self._mark, self._row, verdicts)
            whole, waiting = divmod(self._waiting + len(frames), 8)
            rows = torch.empty((whole, self._neurons), dtype=torch.uint8, device=self._device)
            # Not the memory of self._row, which other programs of the same kernel may still read.
            after = torch.empty_like(self._row)
            begun, each = len(self._outputs), len(frames) // outputs
            its_verdicts = verdicts[begun : begun + outputs]
            if self._is_judging:
                its_verdicts.zero_()
            self._is_judging = True
            self._pack(frames, self._waiting, self._row, rows, after, its_verdicts)
            mark = self._ring.lane.mark()
            self._row, self._mark, self._waiting = after, mark, waiting
            self._rows = rows if whole else None
            self._verdicts, self._is_judging = verdicts, False
            self._outputs += [each] * outputs
            if gathered is not None:
                gathered.count = 0
            if whole:
                self._send()

    def collect(self, *, wait: bool) -> None:
        """Put the rows that have arrived since the last call into ``ready``, and verdicts into ``verdicts``.

        Parameters
        ----------
        wait : bool
            Wait for everything pushed so far.
        """
        if wait:
            self._pack_gathered()
            self._send()
        else:
            self._ring.poll()
        while self._batches and (wait or self._has_arrived(self._batches[0])):
            batch = self._batches[0]
            found = self._wait_for_verdicts(batch)
            if any(verdict.others for verdict in found):
                self._leave_out_bad()
                return
            rows = [] if batch.rows is None else [self._wait_for_rows(batch.rows)]
            self.ready += rows
            self.verdicts += found
            del self._batches[0]

    def drain(self) -> Bools:
        """Return the frames that fill no row, which stay on the device; all else has been collected before.

        Returns
        -------
        bool array, shape [fewer than 8, neurons]
        """
        if self._waiting == 0:
            return np.empty((0, self._neurons), np.bool_)
        row = self._ring.send(self._row, self._mark)
        self._ring.wait(row)
        return np.unpackbits(row.data[None], axis=0, count=self._waiting).view(np.bool_)

    def _row_of(self, pending: Bools) -> tuple[torch.Tensor, Any, int]:
        """Frames that fill no row, copied to the device; what makes them, and how many there are."""
        packed = pack_frames(pending)[0] if len(pending) else np.zeros(self._neurons, np.uint8)
        return torch.from_numpy(packed).to(self._device), self._ring.lane.mark(), len(pending)

    def _send(self) -> None:
        """Begin to copy the verdicts so far, and the rows that are full, to the host."""
        if self._verdicts is None:
            return
        verdicts = self._ring.send(self._verdicts.view(torch.uint8), self._mark)
        rows = None if self._rows is None else self._ring.send(self._rows, self._mark)
        batch = _Batch(self._waiting_at_start, self._outputs, verdicts, rows)
        self._batches += (batch,)
        self._outputs, self._verdicts, self._rows = [], None, None
        self._waiting_at_start = self._waiting

    def _has_arrived(self, batch: _Batch) -> bool:
        return batch.verdicts.arrived and (batch.rows is None or batch.rows.arrived)

    def _wait_for_verdicts(self, batch: _Batch) -> list[Verdict]:
        self._ring.wait(batch.verdicts)
        numbers = np.frombuffer(batch.verdicts.data.tobytes(), np.int64).reshape(-1, VERDICT_NUMBERS)
        values = numbers.view(np.float32)[:, 0]
        return [
            Verdict(float(value), int(others), size * self._neurons - int(behind) if others else 0)
            for value, (_, others, behind), size in zip(values, numbers, batch.outputs, strict=False)
        ]

    def _wait_for_rows(self, rows: Transfer) -> Packed:
        self._ring.wait(rows)
        return rows.data.reshape(-1, self._neurons)

    def _leave_out_bad(self) -> None:
        """Wait for everything packed so far, and pack it anew without the outputs whose verdict is bad."""
        self._send()
        batches, none = self._batches, deque[_Batch]()
        verdicts = [verdict for batch in batches for verdict in self._wait_for_verdicts(batch)]
        pieces = [self._wait_for_rows(batch.rows) for batch in batches if batch.rows is not None]
        pieces.append(np.empty((0, self._neurons), np.uint8))
        frames = np.unpackbits(np.concatenate(pieces), axis=0).view(np.bool_)
        frames = np.concatenate([frames, self.drain()])
        outputs = [output for batch in batches for output in batch.outputs]
        is_good = np.repeat([verdict.others == 0 for verdict in verdicts], outputs)
        good = frames[np.concatenate([np.ones(batches[0].waiting, np.bool_), is_good])]
        whole = len(good) // 8 * 8
        rows = [pack_frames(good[:whole])]
        row, mark, waiting = self._row_of(good[whole:])
        self.ready += rows
        self.verdicts += verdicts
        self._batches = none
        self._row, self._mark, self._waiting = row, mark, waiting
        self._waiting_at_start = waiting


def on_device(device: torch.device) -> torch.cuda.device:
    """Make a device the current one inside a ``with`` block."""
    # Triton launches kernels on the current device. For other devices, index -1 changes nothing.
    return torch.cuda.device(device.index if device.type == "cuda" else -1)
