"""A device that works late, for machines without one: copies arrive when somebody waits, or after a while."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
import torch

from recorder.capture.device.transfer import CudaLane, Lane, TransferRing

cuda = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))
DEVICES = ["late", cuda]


class LateLane:
    """Begins to copy only when it is waited for, or on being asked for the third time."""

    def __init__(self) -> None:
        self.begun: deque[LateArrival] = deque()
        self.most_bytes_on_the_way = 0

    def allocate(self, size_bytes: int) -> torch.Tensor:
        # What is read before its time is not what was sent.
        return torch.full((size_bytes,), 0xA5, dtype=torch.uint8)

    def mark(self) -> None:
        pass

    def follow(self, mark: None, *tensors: torch.Tensor) -> None:
        pass

    def copy(self, source: torch.Tensor, target: torch.Tensor, mark: None) -> LateArrival:
        self.begun.append(LateArrival(self, source, target))
        on_the_way = sum(arrival.source.nbytes for arrival in self.begun)
        self.most_bytes_on_the_way = max(self.most_bytes_on_the_way, on_the_way)
        return self.begun[-1]


class LateArrival:
    def __init__(self, lane: LateLane, source: torch.Tensor, target: torch.Tensor) -> None:
        self._lane = lane
        self.source = source
        self._target = target
        self._asked = 0

    def query(self) -> bool:
        self._asked += 1
        if self._asked == 3:
            self.synchronize()
        return self._asked >= 3

    def synchronize(self) -> None:
        begun = self._lane.begun
        while self in begun:
            arrival = begun.popleft()
            arrival._target.copy_(arrival.source)


def make_ring(device: str, size_bytes: int) -> tuple[TransferRing, Any]:
    """A ring on a device of `DEVICES`, and the torch device where its tensors are."""
    if device == "late":
        return TransferRing(LateLane(), size_bytes), torch.device("cpu")
    where = torch.device("cuda", torch.cuda.current_device())
    lane: Lane = CudaLane(where)
    return TransferRing(lane, size_bytes), where
