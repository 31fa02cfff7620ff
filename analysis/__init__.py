"""Lazy statistics over recordings of spikes: firing rates, silent ratios, and the spikes themselves.

    >>> import analysis
    >>> recording = analysis.open_recording("run.zarr")  # doctest: +SKIP
    >>> recording.firing_rate(per="layer").compute()  # doctest: +SKIP

Everything is loaded on first use, so that the command line can say what is missing where dask and xarray are
not installed. Torch is never needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.arguments import QuestionError
    from analysis.asking.rounds import compute
    from analysis.comparison import compare
    from analysis.layer import Layer
    from analysis.members import JointRecordingError, RecordingReplacedError
    from analysis.opening.recordings import open_recording
    from analysis.questions import (
        ManyUnitsWarning,
        PooledPartsWarning,
        UncoveredOperationsWarning,
        UnknownLayerError,
    )
    from analysis.recording import Recording
    from recorder.format import (
        LostFramesWarning,
        RecordingFormatError,
        RecordingNotFoundError,
        UnknownRunWarning,
    )

__all__ = [
    "JointRecordingError",
    "Layer",
    "LostFramesWarning",
    "ManyUnitsWarning",
    "PooledPartsWarning",
    "QuestionError",
    "Recording",
    "RecordingFormatError",
    "RecordingNotFoundError",
    "RecordingReplacedError",
    "UncoveredOperationsWarning",
    "UnknownLayerError",
    "UnknownRunWarning",
    "compare",
    "compute",
    "open_recording",
]

_MODULES = {
    "JointRecordingError": "analysis.members",
    "Layer": "analysis.layer",
    "LostFramesWarning": "recorder.format",
    "ManyUnitsWarning": "analysis.questions",
    "PooledPartsWarning": "analysis.questions",
    "QuestionError": "analysis.arguments",
    "Recording": "analysis.recording",
    "RecordingFormatError": "recorder.format",
    "RecordingNotFoundError": "recorder.format",
    "RecordingReplacedError": "analysis.members",
    "UncoveredOperationsWarning": "analysis.questions",
    "UnknownLayerError": "analysis.questions",
    "UnknownRunWarning": "recorder.format",
    "compare": "analysis.comparison",
    "compute": "analysis.asking.rounds",
    "open_recording": "analysis.opening.recordings",
}
_EXTRA = ("dask", "xarray", "pandas")


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    try:
        value = getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        raise ModuleNotFoundError(
            f"analysis needs {package}, which is not installed: pip install 'spiketape[analysis]'",
            name=package,
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
