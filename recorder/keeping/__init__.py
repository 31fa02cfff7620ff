"""Keep an existing recording: verify it, recover it, pack it, compute its digest.

`analysis` and its command line enter, the recorder never does; nothing here needs torch or dask.
"""

from recorder.keeping.pack import pack_recording
from recorder.keeping.recovery import plan_recovery, recover
from recorder.keeping.verification import Problem

__all__ = ["Problem", "pack_recording", "plan_recovery", "recover"]
