"""What is done to a recording that exists: verify, recover, pack, digest.

The command line and `analysis` enter, the recorder never does. Nothing in here needs torch or dask.
"""

from recorder.keeping.pack import pack_recording
from recorder.keeping.recovery import plan_recovery, recover
from recorder.keeping.verification import Problem

__all__ = ["Problem", "pack_recording", "plan_recovery", "recover"]
