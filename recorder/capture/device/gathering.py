"""Gather small outputs on their device, so that they are packed many at a time.

To pack an output, and to begin two copies, takes a dozen calls of the device's driver, which cost the host
more than all else. To copy an output takes one.
"""

from __future__ import annotations

from typing import Final

import torch

from recorder.capture.device.transfer import Lane

# The largest outputs that are gathered, and after how many that are alike.
DEVICE_OUTPUT_BYTES: Final = 2**17
GATHER_AFTER: Final = 8
# How many bytes wait at most, and how many outputs.
DEVICE_GATHER_BYTES: Final = 2**20
_MOST_OUTPUTS: Final = 1024


class Gathered:
    """Small outputs that wait on their device to be packed together: copies, as the network goes on.

    Parameters
    ----------
    like : tensor
        One of them; the others have its shape and data type.
    lane : Lane
        Of their device.

    Attributes
    ----------
    memory : tensor, shape [most, ...]
    count : int
        How many there are.
    """

    def __init__(self, like: torch.Tensor, lane: Lane) -> None:
        most = min(DEVICE_GATHER_BYTES // like.nbytes, _MOST_OUTPUTS)
        self.memory = torch.empty((most, *like.shape), dtype=like.dtype, device=like.device)
        self.count = 0
        # What is no spike is found when they are packed: early in a run as soon as ever.
        self._limit = min(GATHER_AFTER, most)
        self._places = [*map(torch.Tensor.detach, self.memory)]
        self._shape, self._dtype, self._device = like.shape, like.dtype, like.device
        self._lane, self._mark = lane, lane.mark()

    @property
    def is_behind(self) -> bool:
        """True if what the calling thread queues on the device comes behind all that was queued here."""
        return bool(self._lane.mark() == self._mark)

    def put(self, output: torch.Tensor) -> bool:
        """Copy an output, which counts once ``count`` is one more.

        False if it is not like the others, or there is no room, and nothing was done.
        """
        if (
            self.count == self._limit
            or output.shape != self._shape
            or output.dtype is not self._dtype
            or output.device != self._device
            or not self.is_behind
        ):
            return False
        self._places[self.count].copy_(output.detach() if output.requires_grad else output)
        return True

    def outputs(self) -> torch.Tensor:
        """The outputs, for what the calling thread queues next."""
        self._lane.follow(self._mark, self.memory)
        if self.count == self._limit:
            self._limit = min(2 * self.count, len(self.memory))
        return self.memory[: self.count]
