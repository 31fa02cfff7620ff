"""Copy bytes from a device to the host while the device goes on working."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from recorder.format.bits import Packed

RING_BYTES = 32 * 2**20


class Arrival(Protocol):
    """The completion of a copy, with two of the methods of `torch.cuda.Event`."""

    def query(self) -> bool:
        """True if the copy is complete."""

    def synchronize(self) -> None:
        """Wait until the copy is complete."""


class Lane(Protocol):
    """The way in which bytes are copied from one device to the host.

    A *mark* stands for a place in the device's queue of work: all work that the thread that made it has
    queued before.
    """

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """Allocate host memory to copy to: uint8 tensor, shape [size_bytes]."""

    def mark(self) -> Any:
        """Return a mark of the work that the calling thread has queued so far."""

    def follow(self, mark: Any, *tensors: torch.Tensor) -> None:
        """Make the calling thread's next work on the device, which uses ``tensors``, run after ``mark``."""

    def copy(self, source: torch.Tensor, target: torch.Tensor, mark: Any) -> Arrival:
        """Queue a copy that runs after ``mark``; the memory of ``source`` is not reused before it is done."""


class CudaLane:
    """Copies on a side stream of a CUDA device, to pinned memory. A mark is the stream of the network."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """Allocate pinned memory: uint8 tensor, shape [size_bytes]."""
        return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)

    def mark(self) -> torch.cuda.Stream:
        """Return the current stream of the calling thread."""
        return torch.cuda.current_stream(self._device)

    def follow(self, mark: torch.cuda.Stream, *tensors: torch.Tensor) -> None:
        """Make the current stream of the calling thread wait for the stream ``mark``."""
        current = self.mark()
        if current != mark:
            current.wait_stream(mark)
            for tensor in tensors:
                tensor.record_stream(current)

    def copy(self, source: torch.Tensor, target: torch.Tensor, mark: torch.cuda.Stream) -> torch.cuda.Event:
        """Queue a copy on the side stream."""
        self._stream.wait_stream(mark)
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
        # Without this, the allocator could reuse the memory while it is being copied.
        source.record_stream(self._stream)
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event


class Arrived:
    """The completion of a copy that was made at once."""

    def query(self) -> bool:
        """Return True."""
        return True

    def synchronize(self) -> None:
        """Return at once."""


class DirectLane:
    """Copies at once and waits; for devices other than CUDA, on which side streams were never tried."""

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """Allocate ordinary memory: uint8 tensor, shape [size_bytes]."""
        return torch.empty(size_bytes, dtype=torch.uint8)

    def mark(self) -> None:
        """Return None: a mark is not needed."""

    def follow(self, mark: None, *tensors: torch.Tensor) -> None:
        """Do nothing: there is no other stream."""

    def copy(self, source: torch.Tensor, target: torch.Tensor, mark: None) -> Arrived:  # noqa: ARG002
        """Copy, and wait until the copy is complete."""
        target.copy_(source)
        return Arrived()


@dataclass
class Transfer:
    """Bytes on their way to the host.

    Attributes
    ----------
    data : uint8 array, shape [bytes]
        The bytes; valid once `arrived` is true.
    pieces : int
        Number of pieces that have not arrived yet.
    """

    data: Packed
    pieces: int

    @property
    def arrived(self) -> bool:
        """True if ``data`` is complete."""
        return self.pieces == 0


@dataclass
class _Piece:
    start: int
    size: int
    transfer: Transfer
    offset: int
    arrival: Arrival = field(repr=False)


class TransferRing:
    """A ring of host memory (pinned, for CUDA) through which bytes travel from one device.

    `send` queues a copy from the device into the ring, in pieces, and returns at once. When a piece has
    arrived, it is copied on to the ordinary memory of its `Transfer`, and its place in the ring is free.
    Pieces are taken out in the order in which they were sent.

    If the ring is full, `send` waits for the oldest piece. So memory is bounded, on the host and on the
    device. The host waits for copies only, and never for the stream of the network itself.

    Parameters
    ----------
    lane : Lane
        Way to copy from the device.
    size_bytes : int
        Size of the ring. A single transfer may be larger.
    """

    def __init__(self, lane: Lane, size_bytes: int = RING_BYTES) -> None:
        self.lane = lane
        self.size_bytes = size_bytes
        # What is made in inference mode could not be written to outside of it.
        with torch.inference_mode(mode=False):
            self._memory = lane.allocate(size_bytes)
        self._bytes = self._memory.numpy()
        self._pieces: deque[_Piece] = deque()
        self._head = 0

    def send(self, source: torch.Tensor, mark: Any) -> Transfer:
        """Queue the copy of a contiguous uint8 tensor, made before ``mark``; wait while the ring is full."""
        flat = source.view(-1)
        most = max(self.size_bytes // 4, 1)
        transfer = Transfer(np.empty(len(flat), np.uint8), -(-len(flat) // most))
        for offset in range(0, len(flat), most):
            part = flat[offset : offset + most]
            start, size = self._reserve(len(part)), len(part)
            arrival = self.lane.copy(part, self._memory[start : start + size], mark)
            piece = _Piece(start, size, transfer, offset, arrival)
            # No call, at which an exception from outside could come up, in between.
            self._pieces += (piece,)
            self._head = start + size
        return transfer

    def poll(self) -> None:
        """Take all pieces that have arrived out of the ring, without waiting."""
        while self._pieces and self._pieces[0].arrival.query():
            self._take_oldest()

    def wait(self, transfer: Transfer) -> None:
        """Wait until a transfer has arrived."""
        while not transfer.arrived:
            self._take_oldest()

    def _take_oldest(self) -> None:
        piece = self._pieces[0]
        piece.arrival.synchronize()
        end = piece.offset + piece.size
        piece.transfer.data[piece.offset : end] = self._bytes[piece.start : piece.start + piece.size]
        # As in `send`.
        piece.transfer.pieces -= 1
        del self._pieces[0]

    def _reserve(self, size: int) -> int:
        """Find room for ``size`` contiguous bytes, after the newest piece or at the start of the ring."""
        while self._pieces:
            oldest = self._pieces[0].start
            if self._head > oldest:
                if self.size_bytes - self._head >= size:
                    return self._head
                if oldest > size:
                    return 0
            elif oldest - self._head > size:
                return self._head
            self._take_oldest()
        return 0


class TransferRings:
    """The rings of one recording, one for each device; a ring is made when its device is first used."""

    def __init__(self) -> None:
        self._rings: dict[torch.device, TransferRing] = {}

    def of(self, device: torch.device) -> TransferRing:
        """Return the ring of a device."""
        if device not in self._rings:
            lane: Lane = CudaLane(device) if device.type == "cuda" else DirectLane()
            self._rings[device] = TransferRing(lane)
        return self._rings[device]

    @property
    def size_bytes(self) -> int:
        """Bytes of host memory of all rings; also the most memory on devices that copies under way hold."""
        return sum(ring.size_bytes for ring in self._rings.values())
