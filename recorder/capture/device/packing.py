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

from recorder.capture.device.transfer import Transfer, TransferRing
from recorder.capture.host.host_packing import WholeRows
from recorder.format.bits import Bools, Packed, pack_frames

# Most outputs until a row is full, as a row has eight frames, and each output at least one.
OUTPUTS_IN_A_ROW = 8
# Verdict on a bad value that is not 0, but becomes 0 when it is rounded to float32.
_SMALLEST = torch.finfo(torch.float32).tiny

PackFrames = Callable[
    [torch.Tensor, int, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    None,
]
# Of each output, as int64: one of its bad values, and two numbers about them.
_VERDICT_NUMBERS = 3


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
    verdict: torch.Tensor,
    others: torch.Tensor,
) -> None:
    """Pack frames after those in an unfinished row, with operations that every torch device supports.

    Parameters
    ----------
    frames : tensor, shape [frames, neurons]
        Frames to pack, of any real dtype.
    waiting : int
        Number of frames in ``before``, fewer than 8.
    before : uint8 tensor, shape [neurons]
        Input: the unfinished row, with zeros in the bits of missing frames. Ignored if ``waiting`` is 0.
    rows : uint8 tensor, shape [whole rows, neurons]
        Output: the rows that are full now.
    after : uint8 tensor, shape [neurons]
        Output: the new unfinished row. Not written if the last row is full.
    verdict : float32 tensor, 0-d
        Output: a value of ``frames`` that is neither 0 nor 1, never 0 itself. Unless there is one, it becomes
        or stays 0: the caller passes 0.
    others : int64 tensor, shape [2]
        Output: the number of such values, and the number of values from the first of them on. The caller
        passes zeros.
    """
    total, neurons = frames.shape
    ones = frames == 1
    is_bad = ones != (frames != 0)
    found = frames.float()
    found = torch.where(found == 0, _SMALLEST, found)
    first = is_bad.flatten().view(torch.uint8).argmax(keepdim=True)
    # With gather and not by indexing, for which the host would have to wait for the index.
    verdict.copy_(torch.where(is_bad, found, 0).flatten().gather(0, first)[0])
    bad_values = is_bad.sum()
    others.copy_(torch.stack([bad_values, torch.where(bad_values > 0, is_bad.numel() - first[0], 0)]))
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

    `push` queues work on the stream of the network, and does not wait for it. Rows of eight frames are copied
    through a `TransferRing` as soon as they are full. With them goes a `Verdict` on each output. `collect`
    puts the rows that have arrived into ``ready``.

    `collect` does so with a row only when all outputs in it hold zeros and ones only. If one does not, all
    that was pushed so far is fetched, the frames of bad outputs are taken out, and the rest is packed anew.
    So an output is in the rows as a whole or not at all. Frames that fill no row stay on the device.

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
    """

    def __init__(
        self, pending: Bools, device: torch.device, ring: TransferRing, pack: PackFrames | None = None
    ) -> None:
        self.ready: list[WholeRows] = []
        self._neurons = pending.shape[1]
        self._device = device
        self._ring = ring
        self._pack = pack or choose_packing(device.type)
        self._batches: deque[_Batch] = deque()
        # Frames in each output since verdicts were last sent, these verdicts, and how many frames were in the
        # unfinished row before those outputs, and are in it now.
        self._outputs: list[int] = []
        self._verdicts: torch.Tensor | None = None
        self._waiting_at_start = self._waiting = 0
        self._mark: Any = None
        self._row = torch.empty(0)
        self._begin(pending)

    def push(self, frames: torch.Tensor) -> None:
        """Add the frames of one output, without waiting for the device; `collect` returns the verdict.

        Parameters
        ----------
        frames : tensor, shape [..., *neuron]
            At least one frame, in logical order, of any real dtype.
        """
        with torch.inference_mode(mode=False), torch.no_grad(), on_device(self._device):
            frames = frames.reshape(-1, self._neurons)
            verdicts = self._verdicts
            if verdicts is None:
                shape = OUTPUTS_IN_A_ROW, _VERDICT_NUMBERS
                verdicts = torch.zeros(shape, dtype=torch.int64, device=self._device)
            self._ring.lane.follow(self._mark, self._row, verdicts)
            whole, waiting = divmod(self._waiting + len(frames), 8)
            rows = torch.empty((whole, self._neurons), dtype=torch.uint8, device=self._device)
            # Not the memory of self._row, which other programs of the same kernel may still read.
            after = torch.empty_like(self._row)
            verdict = verdicts[len(self._outputs)]
            value = verdict[:1].view(torch.float32)[0]
            self._pack(frames, self._waiting, self._row, rows, after, value, verdict[1:])
            self._mark = self._ring.lane.mark()
            self._row, self._waiting, self._verdicts = after, waiting, verdicts
            self._outputs.append(len(frames))
            if whole:
                self._send(rows)

    def collect(self, *, wait: bool) -> list[Verdict]:
        """Put the rows that have arrived since the last call into ``ready``; return the verdicts.

        Parameters
        ----------
        wait : bool
            Wait for everything pushed so far.

        Returns
        -------
        list of Verdict
            Verdicts on the next pushes, in order. Of a push with other values than 0 and 1, no frame is in
            any row.
        """
        if wait:
            self._send(None)
        else:
            self._ring.poll()
        verdicts: list[Verdict] = []
        while self._batches and (wait or self._has_arrived(self._batches[0])):
            batch = self._batches[0]
            found = self._wait_for_verdicts(batch)
            if any(verdict.others for verdict in found):
                return [*verdicts, *self._leave_out_bad()]
            verdicts += found
            if batch.rows is not None:
                self.ready.append(self._wait_for_rows(batch.rows))
            self._batches.popleft()
        return verdicts

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

    def _begin(self, pending: Bools) -> None:
        """Copy frames that fill no row to the device, as the unfinished row."""
        packed = pack_frames(pending)[0] if len(pending) else np.zeros(self._neurons, np.uint8)
        self._row = torch.from_numpy(packed).to(self._device)
        self._waiting = self._waiting_at_start = len(pending)
        self._mark = self._ring.lane.mark()

    def _send(self, rows: torch.Tensor | None) -> None:
        """Begin to copy the verdicts so far, and the rows that are full (None: none), to the host."""
        if self._verdicts is None:
            return
        verdicts = self._ring.send(self._verdicts.view(torch.uint8), self._mark)
        sent = None if rows is None else self._ring.send(rows, self._mark)
        self._batches.append(_Batch(self._waiting_at_start, self._outputs, verdicts, sent))
        self._outputs, self._verdicts, self._waiting_at_start = [], None, self._waiting

    def _has_arrived(self, batch: _Batch) -> bool:
        return batch.verdicts.arrived and (batch.rows is None or batch.rows.arrived)

    def _wait_for_verdicts(self, batch: _Batch) -> list[Verdict]:
        self._ring.wait(batch.verdicts)
        numbers = np.frombuffer(batch.verdicts.data.tobytes(), np.int64).reshape(-1, _VERDICT_NUMBERS)
        values = numbers.view(np.float32)[:, 0]
        return [
            Verdict(float(value), int(others), size * self._neurons - int(behind) if others else 0)
            for value, (_, others, behind), size in zip(values, numbers, batch.outputs, strict=False)
        ]

    def _wait_for_rows(self, rows: Transfer) -> Packed:
        self._ring.wait(rows)
        return rows.data.reshape(-1, self._neurons)

    def _leave_out_bad(self) -> list[Verdict]:
        """Wait for everything pushed so far, and pack it anew without the outputs whose verdict is bad."""
        self._send(None)
        batches, self._batches = self._batches, deque()
        verdicts = [verdict for batch in batches for verdict in self._wait_for_verdicts(batch)]
        pieces = [self._wait_for_rows(batch.rows) for batch in batches if batch.rows is not None]
        pieces.append(np.empty((0, self._neurons), np.uint8))
        frames = np.unpackbits(np.concatenate(pieces), axis=0).view(np.bool_)
        frames = np.concatenate([frames, self.drain()])
        outputs = [output for batch in batches for output in batch.outputs]
        is_good = np.repeat([verdict.others == 0 for verdict in verdicts], outputs)
        good = frames[np.concatenate([np.ones(batches[0].waiting, np.bool_), is_good])]
        whole = len(good) // 8 * 8
        self._begin(good[whole:])
        self.ready.append(pack_frames(good[:whole]))
        return verdicts


def on_device(device: torch.device) -> torch.cuda.device:
    """Make a device the current one inside a ``with`` block."""
    # Triton launches kernels on the current device. For other devices, index -1 changes nothing.
    return torch.cuda.device(device.index if device.type == "cuda" else -1)
