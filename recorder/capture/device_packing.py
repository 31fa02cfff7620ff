"""Packs frames on an accelerator; only packed bytes travel to the host, and nobody waits for them.

A `DevicePacker` does its work on the stream on which the network runs. A row of eight frames leaves through a
`TransferRing` as soon as it is full, and with it a *verdict* on each output: zero, or one of the values in it
that are neither 0 nor 1. Rows are given back when they have arrived and every verdict on
them is good. An output with a bad verdict is taken out again, frame by frame; that takes its time, but nobody
has to wait for verdicts on good ones.
"""

from __future__ import annotations

import functools
import importlib.util
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recorder.capture.transfer import Transfer, TransferRing
from recorder.format.bits import Bools, Packed, pack_frames

# An output that ends in a row that is not full may be followed by seven more until it is.
OUTPUTS_IN_A_ROW = 8
# For values that are not zero, until they are rounded to single precision.
_SMALLEST = torch.finfo(torch.float32).tiny

PackFrames = Callable[
    [torch.Tensor, int, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    None,
]


def pack_with_torch(
    frames: torch.Tensor,
    waiting: int,
    before: torch.Tensor,
    rows: torch.Tensor,
    after: torch.Tensor,
    verdict: torch.Tensor,
) -> None:
    """Pack frames behind those that are waiting, with what every device of torch can do.

    Parameters
    ----------
    frames : tensor, shape [frames, neurons]
        Any real dtype.
    waiting : int
        Frames, fewer than 8, that are waiting in ``before``.
    before : uint8 tensor, shape [neurons]
        The row begun, with zeros where frames are to come; not looked at if ``waiting`` is 0.
    rows : uint8 tensor, shape [whole rows, neurons]
        Takes the rows that are full now.
    after : uint8 tensor, shape [neurons]
        Takes the row begun then, if there is one.
    verdict : float32 tensor, 0-d
        Zero; takes a value that is neither 0 nor 1, if there is one.
    """
    total, neurons = frames.shape
    ones = frames == 1
    is_bad = ones != (frames != 0)
    found = frames.float()
    found = torch.where(found == 0, _SMALLEST, found)
    first = is_bad.flatten().view(torch.uint8).argmax(keepdim=True)
    # Not by indexing, for which the host would have to know the index.
    verdict.copy_(torch.where(is_bad, found, 0).flatten().gather(0, first)[0])
    places = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=frames.device)
    count = -(-(waiting + total) // 8)
    eights = torch.zeros((count * 8, neurons), dtype=torch.uint8, device=frames.device)
    eights[waiting : waiting + total] = ones
    # In uint8: the places of a byte are disjoint, so that their sum is their union.
    packed = (eights.view(count, 8, neurons) * places.view(8, 1)).sum(dim=1, dtype=torch.uint8)
    if waiting:
        packed[0] |= before
    rows.copy_(packed[: len(rows)])
    if count > len(rows):
        after.copy_(packed[-1])


@functools.cache
def choose_packing(device_type: str) -> PackFrames:
    """The compiled kernel where it runs, otherwise the same in plain torch."""
    if device_type == "cuda" and importlib.util.find_spec("triton") is not None:
        from recorder.capture.packing_kernel import pack_with_triton  # noqa: PLC0415 - takes a second

        return pack_with_triton
    return pack_with_torch


@dataclass
class _Batch:
    """Outputs whose verdicts travel together, and the rows that were full by then."""

    waiting: int
    outputs: list[int]
    verdicts: Transfer
    rows: Transfer | None


class DevicePacker:
    """Packs the frames of one layer on the device where they are.

    Parameters
    ----------
    pending : bool array, shape [fewer than 8, neurons]
        Frames to begin with.
    device : torch.device
    ring : TransferRing
        Of that device.
    pack : callable, optional
        `pack_with_torch` or another that does the same.
    """

    def __init__(
        self, pending: Bools, device: torch.device, ring: TransferRing, pack: PackFrames | None = None
    ) -> None:
        self._neurons = pending.shape[1]
        self._device = device
        self._ring = ring
        self._pack = pack or choose_packing(device.type)
        self._batches: deque[_Batch] = deque()
        # The outputs since verdicts were last sent off, and what was waiting before them.
        self._outputs: list[int] = []
        self._verdicts: torch.Tensor | None = None
        self._waiting_at_start = self._waiting = 0
        self._mark: Any = None
        self._row = torch.empty(0)
        self._begin(pending)

    def push(self, frames: torch.Tensor) -> None:
        """Add frames, at least one: tensor, shape [..., *neuron], in logical order, any real dtype.

        What becomes of them, `collect` says, for each push in turn.
        """
        with torch.inference_mode(mode=False), torch.no_grad(), _current(self._device):
            frames = frames.reshape(-1, self._neurons)
            verdicts = self._verdicts
            if verdicts is None:
                verdicts = torch.zeros(OUTPUTS_IN_A_ROW, dtype=torch.float32, device=self._device)
            self._ring.lane.follow(self._mark, self._row, verdicts)
            whole, waiting = divmod(self._waiting + len(frames), 8)
            rows = torch.empty((whole, self._neurons), dtype=torch.uint8, device=self._device)
            # Never the same memory as before: a part of the kernel may still be reading that.
            after = torch.empty_like(self._row)
            self._pack(frames, self._waiting, self._row, rows, after, verdicts[len(self._outputs)])
            self._mark = self._ring.lane.mark()
            self._row, self._waiting, self._verdicts = after, waiting, verdicts
            self._outputs.append(len(frames))
            if whole:
                self._send(rows)

    def collect(self, *, wait: bool) -> tuple[list[Packed], list[float]]:
        """Take the rows that have arrived.

        Parameters
        ----------
        wait : bool
            For everything pushed so far.

        Returns
        -------
        rows : list of uint8 arrays, shape [rows, neurons]
        verdicts : list of float
            One for each of the next pushes: zero, or a value that is neither 0 nor 1; none of that push's
            frames is then in any row.
        """
        if wait:
            self._send(None)
        else:
            self._ring.poll()
        rows: list[Packed] = []
        verdicts: list[float] = []
        while self._batches and (wait or self._has_arrived(self._batches[0])):
            batch = self._batches[0]
            found = self._wait_for_verdicts(batch)
            if any(found):
                more, found = self._leave_out_bad()
                return [*rows, *more], [*verdicts, *found]
            verdicts += found
            if batch.rows is not None:
                rows.append(self._wait_for_rows(batch.rows))
            self._batches.popleft()
        return rows, verdicts

    def drain(self) -> tuple[Packed, Bools]:
        """Look at the frames that fill no row; everything else has been collected.

        Returns
        -------
        rows : uint8 array, shape [0, neurons]
        pending : bool array, shape [fewer than 8, neurons]
            They go on waiting.
        """
        return np.empty((0, self._neurons), np.uint8), self._pending()

    def _begin(self, pending: Bools) -> None:
        """Put frames that fill no row on the device."""
        packed = pack_frames(pending)[0] if len(pending) else np.zeros(self._neurons, np.uint8)
        self._row = torch.from_numpy(packed).to(self._device)
        self._waiting = self._waiting_at_start = len(pending)
        self._mark = self._ring.lane.mark()

    def _send(self, rows: torch.Tensor | None) -> None:
        """Send off the verdicts so far, and the rows that are full."""
        if self._verdicts is None:
            return
        verdicts = self._ring.send(self._verdicts.view(torch.uint8), self._mark)
        sent = None if rows is None else self._ring.send(rows, self._mark)
        self._batches.append(_Batch(self._waiting_at_start, self._outputs, verdicts, sent))
        self._outputs, self._verdicts, self._waiting_at_start = [], None, self._waiting

    def _has_arrived(self, batch: _Batch) -> bool:
        return batch.verdicts.arrived and (batch.rows is None or batch.rows.arrived)

    def _wait_for_verdicts(self, batch: _Batch) -> list[float]:
        self._ring.wait(batch.verdicts)
        found: list[float] = batch.verdicts.data.view(np.float32)[: len(batch.outputs)].tolist()
        return found

    def _wait_for_rows(self, rows: Transfer) -> Packed:
        self._ring.wait(rows)
        return rows.data.reshape(-1, self._neurons)

    def _pending(self) -> Bools:
        if self._waiting == 0:
            return np.empty((0, self._neurons), np.bool_)
        row = self._ring.send(self._row, self._mark)
        self._ring.wait(row)
        return np.unpackbits(row.data[None], axis=0, count=self._waiting).view(np.bool_)

    def _leave_out_bad(self) -> tuple[list[Packed], list[float]]:
        """Wait for everything pushed so far and pack it anew, without the outputs with a bad verdict."""
        self._send(None)
        batches, self._batches = self._batches, deque()
        verdicts = [verdict for batch in batches for verdict in self._wait_for_verdicts(batch)]
        pieces = [self._wait_for_rows(batch.rows) for batch in batches if batch.rows is not None]
        pieces.append(np.empty((0, self._neurons), np.uint8))
        frames = np.unpackbits(np.concatenate(pieces), axis=0).view(np.bool_)
        frames = np.concatenate([frames, self._pending()])
        outputs = [output for batch in batches for output in batch.outputs]
        is_good = np.repeat([verdict == 0 for verdict in verdicts], outputs)
        good = frames[np.concatenate([np.ones(batches[0].waiting, np.bool_), is_good])]
        whole = len(good) // 8 * 8
        self._begin(good[whole:])
        return [pack_frames(good[:whole])], verdicts


def _current(device: torch.device) -> torch.cuda.device:
    # Triton launches on the current device. Any other kind of device: changes nothing.
    return torch.cuda.device(device.index if device.type == "cuda" else -1)
