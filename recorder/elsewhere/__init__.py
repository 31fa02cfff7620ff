"""Recordings of what did not run here: arrays, lists of steps and tables of events become one.

Users enter by `recorder.write_recording`, the command line also by `files`. Torch is not needed, and the
promises are those of `recorder.tape`.
"""

from recorder.elsewhere.events import EventTable
from recorder.elsewhere.writing import write_recording

__all__ = ["EventTable", "write_recording"]
