"""Carries bytes from a device to the host while the device goes on working.

A `TransferRing` owns one piece of pinned host memory. What is sent is copied into it on a stream of its own,
in order, and copied on to ordinary memory as soon as its event says that it has arrived; its place in the
ring is free again then. When the ring is full, sending waits for the oldest, so that memory stays bounded on
both sides. The stream on which the network runs is never waited for by the host.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from recorder.format.bits import Packed

RING_BYTES = 32 * 2**20


class Arrival(Protocol):
    """Tells whether a copy has arrived, as `torch.cuda.Event` does."""

    def query(self) -> bool:
        """Whether it has."""

    def synchronize(self) -> None:
        """Return once it has."""


class Lane(Protocol):
    """How bytes leave one device."""

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """Host memory to copy to: uint8 tensor, shape [size_bytes]."""

    def mark(self) -> Any:
        """The place in the device's work where the calling thread is now."""

    def follow(self, mark: Any, *tensors: torch.Tensor) -> None:
        """Let the calling thread's next work on the device, which uses ``tensors``, come behind ``mark``."""

    def copy(self, source: torch.Tensor, target: torch.Tensor, mark: Any) -> Arrival:
        """Begin to copy behind ``mark``; the memory of ``source`` is not used again before that is done."""


class CudaLane:
    """A side stream of a CUDA device, and pinned memory. A mark is the stream that the network runs on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """Pinned memory: uint8 tensor, shape [size_bytes]."""
        return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)

    def mark(self) -> torch.cuda.Stream:
        """The calling thread's stream."""
        return torch.cuda.current_stream(self._device)

    def follow(self, mark: torch.cuda.Stream, *tensors: torch.Tensor) -> None:
        """Let the calling thread's stream wait for another one."""
        current = self.mark()
        if current != mark:
            current.wait_stream(mark)
            for tensor in tensors:
                tensor.record_stream(current)

    def copy(self, source: torch.Tensor, target: torch.Tensor, mark: torch.cuda.Stream) -> torch.cuda.Event:
        """Begin to copy on the side stream."""
        self._stream.wait_stream(mark)
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
        # Or the allocator would hand the memory out again while it is being copied.
        source.record_stream(self._stream)
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event


class Arrived:
    """A copy that was made at once."""

    def query(self) -> bool:
        """It has arrived."""
        return True

    def synchronize(self) -> None:
        """There is nothing to wait for."""


class DirectLane:
    """Copies at once, for devices with whose streams we have no experience."""

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """Ordinary memory: uint8 tensor, shape [size_bytes]."""
        return torch.empty(size_bytes, dtype=torch.uint8)

    def mark(self) -> None:
        """Nothing to mark."""

    def follow(self, mark: None, *tensors: torch.Tensor) -> None:
        """Nothing to follow."""

    def copy(self, source: torch.Tensor, target: torch.Tensor, mark: None) -> Arrived:  # noqa: ARG002
        """Copy."""
        target.copy_(source)
        return Arrived()


@dataclass
class Transfer:
    """Bytes on their way; ``data``, uint8 [bytes], holds them once `arrived`."""

    data: Packed
    pieces: int = 0

    @property
    def arrived(self) -> bool:
        """Whether ``data`` is complete."""
        return self.pieces == 0


@dataclass
class _Piece:
    start: int
    size: int
    transfer: Transfer
    offset: int
    arrival: Arrival = field(repr=False)


class TransferRing:
    """See the module.

    Parameters
    ----------
    lane : Lane
    size_bytes : int
        Of the ring; a transfer may be larger.
    """

    def __init__(self, lane: Lane, size_bytes: int = RING_BYTES) -> None:
        self.lane = lane
        self.size_bytes = size_bytes
        self._memory = lane.allocate(size_bytes)
        self._bytes = self._memory.numpy()
        self._pieces: deque[_Piece] = deque()
        self._head = 0

    def send(self, source: torch.Tensor, mark: Any) -> Transfer:
        """Begin to copy a contiguous uint8 tensor, made before ``mark``; waits while the ring is full."""
        flat = source.view(-1)
        transfer = Transfer(np.empty(len(flat), np.uint8))
        most = max(self.size_bytes // 4, 1)
        for offset in range(0, len(flat), most):
            part = flat[offset : offset + most]
            start = self._reserve(len(part))
            arrival = self.lane.copy(part, self._memory[start : start + len(part)], mark)
            self._pieces.append(_Piece(start, len(part), transfer, offset, arrival))
            transfer.pieces += 1
            self._head = start + len(part)
        return transfer

    def poll(self) -> None:
        """Take out what has arrived."""
        while self._pieces and self._pieces[0].arrival.query():
            self._take_oldest()

    def wait(self, transfer: Transfer) -> None:
        """Return once a transfer has arrived."""
        while not transfer.arrived:
            self._take_oldest()

    def _take_oldest(self) -> None:
        piece = self._pieces[0]
        piece.arrival.synchronize()
        end = piece.offset + piece.size
        piece.transfer.data[piece.offset : end] = self._bytes[piece.start : piece.start + piece.size]
        piece.transfer.pieces -= 1
        self._pieces.popleft()

    def _reserve(self, size: int) -> int:
        """Find room for ``size`` bytes in one piece: behind the newest, or at the beginning again."""
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
    """The rings of one recording, one for each device, made when it is first used."""

    def __init__(self) -> None:
        self._rings: dict[torch.device, TransferRing] = {}

    def of(self, device: torch.device) -> TransferRing:
        """Ring of a device."""
        if device not in self._rings:
            lane: Lane = CudaLane(device) if device.type == "cuda" else DirectLane()
            self._rings[device] = TransferRing(lane)
        return self._rings[device]

    @property
    def size_bytes(self) -> int:
        """Pinned host memory of all rings, and the most that they keep on devices."""
        return sum(ring.size_bytes for ring in self._rings.values())
