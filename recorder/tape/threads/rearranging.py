"""Rearrange the rows of a chunk and count its spikes: by numpy, and by a compiled loop once that pays."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from recorder.format.bits import Counts, Packed, count_per_neuron, rows_to_trains

# numpy takes half a second for so many. To import numba, and to compile or find the loop, takes a few.
LOAD_AFTER_BYTES: Final = 2**28
_logger = logging.getLogger("recorder")


class Rearranging:
    """The compiled loop, where it is there.

    Parameters
    ----------
    load_after_bytes : int
        Packed bytes that numpy rearranges, of all recordings of this process, before the loop is loaded.
    """

    def __init__(self, load_after_bytes: int = LOAD_AFTER_BYTES) -> None:
        self._load_after_bytes = load_after_bytes
        self._bytes = 0
        self._loop: Callable[..., None] | None = None
        self._is_asked = False

    def rearrange(self, rows: Packed, trains: Packed) -> Counts:
        """Rearrange rows, uint8 [n, neurons], to ``trains``, uint8 [neurons, n]; the spikes of each neuron.

        Called in any thread; ``n`` is a multiple of 8.
        """
        if self._loop is not None:
            counts = np.empty(len(trains), np.int64)
            self._loop(rows, trains.view(np.uint64), counts)
            return counts
        self._bytes += rows.nbytes
        if self._bytes >= self._load_after_bytes and not self._is_asked:
            self._is_asked = True
            if find_spec("numba") is not None:
                # Not a daemon: a compiler that goes on while the interpreter ends may crash it.
                threading.Thread(target=self.load, name="spiketape-compiler").start()
        return count_per_neuron(rows_to_trains(rows, trains))

    def load(self) -> None:
        """Load the loop, and wait for that; say so if it is in vain."""
        try:
            loop: Any = import_module("recorder.native.rearranging_loops").rearrange
            # Compiled by the first call.
            loop(np.zeros((8, 1), np.uint8), np.zeros((1, 1), np.uint64), np.zeros(1, np.int64))
        except Exception as error:  # noqa: BLE001 - whatever it is, numpy does as well
            _logger.warning(
                "chunks are rearranged by numpy, as the compiled loop cannot be loaded: %s: %s. What is "
                "recorded is the same",
                *(type(error).__name__, error),
            )
            return
        self._loop = loop

    def forget_loading(self) -> None:
        """Load none in a forked child, where no thread goes on with it, and numba may be half there."""
        self._is_asked = True


# Of this process.
REARRANGING: Final = Rearranging()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=REARRANGING.forget_loading)
