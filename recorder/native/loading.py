"""Have the compiled pass once it pays: numba takes time and memory to import, and seconds to compile.

Most recordings are too small to gain by that. So plain numpy packs until it has taken about as long as
loading does, and the pass is loaded by a thread of its own: no step of a network waits for it, though all
threads of Python share one lock meanwhile, and steps take longer.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pack: TypeAlias = Callable[[NDArray[Any], NDArray[np.uint8], int, Any, Any, Any], tuple[bool, bool]]

# numpy takes 0.3 to 0.5 s for so many.
LOAD_AFTER_SLOTS: Final = 2**30
_logger = logging.getLogger("recorder")


class Word(NamedTuple):
    """How the values of a data type are told apart by their bits.

    Attributes
    ----------
    dtype : dtype
        Unsigned, of the size of a value.
    one, zero : scalars of that type
        The bits of 1 and of 0.
    significant : scalar of that type
        The bits that must be 0 in a value that is 0: all but a sign.
    """

    dtype: np.dtype[Any]
    one: Any
    zero: Any
    significant: Any

    @classmethod
    def of(cls, size: int, one: int = 1, *, has_sign: bool = False) -> Word:
        """Words of ``size`` bytes."""
        dtype = np.dtype(f"u{size}")
        return cls(dtype, *map(dtype.type, (one, 0, (1 << (8 * size - has_sign)) - 1)))


# Of each data type that layers may put out. Of a boolean, any byte but 0 is true, see `NativePacker`.
WORDS: Final = {
    "bool": Word.of(1),
    "uint8": Word.of(1),
    "int8": Word.of(1),
    "int16": Word.of(2),
    "int32": Word.of(4),
    "int64": Word.of(8),
    "float16": Word.of(2, 0x3C00, has_sign=True),
    "bfloat16": Word.of(2, 0x3F80, has_sign=True),
    "float32": Word.of(4, 0x3F80_0000, has_sign=True),
    "float64": Word.of(8, 0x3FF0_0000_0000_0000, has_sign=True),
}


class CompiledPass:
    """The compiled pass for words of each size, where it is there.

    Parameters
    ----------
    load_after_slots : int
        How many slots numpy is to pack, of all recordings of this process, before any is loaded.
    """

    def __init__(self, load_after_slots: int = LOAD_AFTER_SLOTS) -> None:
        self._load_after_slots = load_after_slots
        self._slots = 0
        self._ready: dict[int, Pack] = {}
        self._asked: set[int] = set()
        self._has_failed = False

    def ready(self, dtype: str) -> Pack | None:
        """The pass for values of a data type; None while it is not there."""
        return self._ready.get(WORDS[dtype].dtype.itemsize)

    def note(self, slots: int, dtype: str) -> None:
        """Note that numpy has packed values of a data type, which may begin to load the pass."""
        self._slots += slots
        if self._slots < self._load_after_slots or self._has_failed:
            return
        size = WORDS[dtype].dtype.itemsize
        if size in self._asked:
            return
        self._asked.add(size)
        if find_spec("numba") is None:
            self._has_failed = True
            _logger.info(
                "spikes are packed by numpy, as numba is not installed; with it the network would wait less: "
                "pip install 'spiketape[fast]'"
            )
            return
        # Not a daemon: a compiler that goes on while the interpreter ends may crash it.
        threading.Thread(target=self.load, args=(dtype,), name="spiketape-compiler").start()

    def load(self, dtype: str) -> None:
        """Load the pass for values of a data type, and wait for that; say so if it is in vain."""
        word, started = WORDS[dtype], time.monotonic()
        try:
            pack: Pack = import_module("recorder.native.packing_loops").pack_frames
            row = np.zeros((1, 1), np.uint8)
            # Compiled by the first call with words of a type.
            pack(np.zeros((1, 1), word.dtype), row, 0, word.one, word.zero, word.significant)
        except Exception as error:  # noqa: BLE001 - whatever it is, numpy does as well
            self._has_failed = True
            _logger.warning(
                "spikes are packed by numpy, as the compiled loop cannot be loaded: %s: %s. What is recorded "
                "is the same; the network waits longer",
                *(type(error).__name__, error),
            )
            return
        self._ready[word.dtype.itemsize] = pack
        seconds = time.monotonic() - started
        _logger.info("spikes of %s are packed by a compiled loop now, loaded in %.1f s", dtype, seconds)

    def forget_loading(self) -> None:
        """Forget what was asked for: in a forked child, no thread loads it, and numba may be half there."""
        self._has_failed = len(self._asked) > len(self._ready)


# Of this process.
PASS: Final = CompiledPass()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PASS.forget_loading)
