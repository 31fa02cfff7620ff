"""Have the compiled pass once it pays: numba takes time and memory to import, and seconds to compile.

Most recordings are too small to gain by that. So plain numpy packs until it has taken about as long as
loading does, and the pass is loaded by a thread of its own: no step of a network waits for it, though all
threads of Python share one lock meanwhile, and steps take longer.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pack: TypeAlias = Callable[[NDArray[Any], NDArray[np.uint8], int, Any, Any, Any], tuple[bool, bool]]

# numpy takes 0.3 to 0.5 s for so many.
LOAD_AFTER_SLOTS: Final = 2**30
# Likewise of values: 0.5 to 1 s.
LOAD_LOOPS_AFTER_SLOTS: Final = 2**27
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


class Loading:
    """Loads compiled loops, once numpy has done enough without them.

    Parameters
    ----------
    load_after_slots : int
        For how many slots numpy is to do the work, in all of this process, before any are loaded.
    what : str
        What is done by them, as messages say.
    who : str
        Who waits for that.
    """

    def __init__(self, load_after_slots: int, what: str, who: str = "the network") -> None:
        self._load_after_slots, self._what, self._who = load_after_slots, what, who
        self._slots = 0
        self._asked: set[str] = set()
        self._loaded = 0
        self._has_failed = False

    def note_slots(self, slots: int, name: str, load: Callable[[], None]) -> None:
        """Note that numpy has worked on so many slots, which may begin to load the loop of this name."""
        self._slots += slots
        if self._slots < self._load_after_slots or self._has_failed or name in self._asked:
            return
        self._asked.add(name)
        if find_spec("numba") is None:
            self._has_failed = True
            _logger.info(
                "%s by numpy, as numba is not installed; with it %s would wait less: "
                "pip install 'spiketape[fast]'",
                *(self._what, self._who),
            )
            return
        # Not a daemon: a compiler that goes on while the interpreter ends may crash it.
        threading.Thread(target=load, name="spiketape-compiler").start()

    def try_to_load(self, module: str, compile_loops: Callable[[Any], None]) -> Any:
        """Import loops and compile them; None, and a warning, if it is in vain."""
        started = time.monotonic()
        try:
            loops = import_module(f"recorder.native.{module}")
            compile_loops(loops)
        except Exception as error:  # noqa: BLE001 - whatever it is, numpy does as well
            self._has_failed = True
            _logger.warning(
                "%s by numpy, as the compiled loop cannot be loaded: %s: %s. What comes of it is the same; "
                "%s waits longer",
                *(self._what, type(error).__name__, error, self._who),
            )
            return None
        self._loaded += 1
        seconds = time.monotonic() - started
        _logger.info("%s by a compiled loop now, loaded in %.1f s", self._what, seconds)
        return loops

    def forget_loading(self) -> None:
        """Forget what was asked for: in a forked child, no thread loads it, and numba may be half there."""
        self._has_failed = len(self._asked) > self._loaded


class Loops(Loading):
    """The loops of one module, where they are there: all are loaded together.

    Parameters
    ----------
    load_after_slots, what, who
        As of `Loading`.
    module : str
        Name of the module.
    compile_loops : callable
        Calls each of its loops once.
    """

    def __init__(
        self,
        load_after_slots: int,
        what: str,
        module: str,
        compile_loops: Callable[[Any], None],
        who: str = "the network",
    ) -> None:
        super().__init__(load_after_slots, what, who)
        self._module, self._compile = module, compile_loops
        self._loops: Any = None

    def are_ready(self, slots: int) -> bool:
        """Whether the loops are loaded; if not, numpy has to do the work for so many slots."""
        if self._loops is None:
            self.note_slots(slots, "all", self.load)
        return self._loops is not None

    def load(self) -> None:
        """Load the loops, and wait for that; say so if it is in vain."""
        loops = self.try_to_load(self._module, self._compile)
        # Their words have the first byte in the lowest bits.
        self._loops = loops if sys.byteorder == "little" else None


def is_plain(array: NDArray[Any]) -> bool:
    """Whether an array is of the kind that loops are compiled for: in C order, and to be written."""
    return array.flags.c_contiguous and array.flags.writeable


class CompiledPass(Loading):
    """The compiled pass for words of each size, where it is there.

    Parameters
    ----------
    load_after_slots : int
        How many slots numpy is to pack, of all recordings of this process, before any is loaded.
    """

    def __init__(self, load_after_slots: int = LOAD_AFTER_SLOTS) -> None:
        super().__init__(load_after_slots, "spikes are packed")
        self._ready: dict[int, Pack] = {}

    def ready(self, dtype: str) -> Pack | None:
        """The pass for values of a data type; None while it is not there."""
        return self._ready.get(WORDS[dtype].dtype.itemsize)

    def note(self, slots: int, dtype: str) -> None:
        """Note that numpy has packed values of a data type, which may begin to load the pass."""
        self.note_slots(slots, f"{WORDS[dtype].dtype.itemsize}", partial(self.load, dtype))

    def load(self, dtype: str) -> None:
        """Load the pass for values of a data type, and wait for that; say so if it is in vain."""
        word = WORDS[dtype]

        def compile_pass(loops: Any) -> None:
            row = np.zeros((1, 1), np.uint8)
            # Compiled by the first call with words of a type.
            loops.pack_frames(np.zeros((1, 1), word.dtype), row, 0, word.one, word.zero, word.significant)

        loops = self.try_to_load("packing_loops", compile_pass)
        if loops is not None:
            self._ready[word.dtype.itemsize] = loops.pack_frames


# Of this process.
PASS: Final = CompiledPass()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PASS.forget_loading)
