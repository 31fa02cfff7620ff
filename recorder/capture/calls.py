"""Calls of a layer: what is noted about one until it is known to count, and those that are alike."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recorder.capture.host.host_packing import HostPacker

# Outputs that are gathered at most, to be packed together.
GATHER_BYTES: Final = 256 * 1024
GATHER_CALLS: Final = 1024


class Call(NamedTuple):
    """Notes about an output, to be written down once it is known to hold zeros and ones only."""

    step: int
    steps: int
    batch: int
    trial: int


class UnsureCalls:
    """Calls whose outputs were pushed on an accelerator, in order, until it is known what is in them.

    A call is noted before it is pushed. An exception from outside may come in between; so whoever goes on
    says first how many were pushed.

    Attributes
    ----------
    calls : deque of Call
    is_pushing : bool
        Whether the newest one may not have been pushed.
    """

    def __init__(self) -> None:
        self.calls: deque[Call] = deque()
        self.is_pushing = False

    @property
    def frames(self) -> int:
        """Frames in all of them."""
        return sum(call.steps * call.batch for call in self.calls)

    @property
    def last_step(self) -> int:
        """The step after the last one of them; 0 if there are none."""
        return self.calls[-1].step + self.calls[-1].steps if self.calls else 0

    def note(self, call: Call) -> None:
        """Note a call that is pushed next."""
        self.is_pushing = True
        self.calls += (call,)

    def keep(self, pushed: int) -> None:
        """Forget what was noted and not pushed, where so many were."""
        while len(self.calls) > pushed:
            self.calls.pop()
        self.is_pushing = False


@dataclass
class Alike:
    """Single-step outputs in host memory that follow each other and have all of this in common.

    Attributes
    ----------
    packer : HostPacker
    shape : tuple of int
        ``(N, *neuron)``.
    dtype : torch.dtype
    trial : int
    next_step : int
        The step that the next of them is.
    calls : int
        Outputs that are in no segment yet.
    is_small : bool
        Whether they are gathered once there have been many.
    limit : int
        How many those may become.
    gathered : array, shape [limit, N, *neuron], or None
        Where they wait to be looked at; None where each is at once.
    """

    packer: HostPacker
    shape: torch.Size
    dtype: torch.dtype
    trial: int
    next_step: int
    is_small: bool
    calls: int = 0
    limit: int = sys.maxsize
    gathered: NDArray[np.generic] | None = None

    @property
    def batch(self) -> int:
        """Samples in each of them."""
        return self.shape[0]

    def gather(self) -> None:
        """Have the outputs that follow copied, to be packed later."""
        self.limit = min(GATHER_BYTES // (self.shape.numel() * self.dtype.itemsize), GATHER_CALLS)
        self.gathered = torch.empty((self.limit, *self.shape), dtype=self.dtype).numpy()
