"""Record every spike of a spiking network that runs in PyTorch, with memory that stays flat.

Users start with `Monitor`, or with `write_recording` for spikes that are there already. The public names are
imported on first use, so that `recorder.format`, which `analysis` needs as well, and `write_recording` can be
imported without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recorder.capture import NeuronShapeError, SpikeValueError
    from recorder.capture.signals import Signal, SignalError
    from recorder.datasets.spike_dataset import SpikeDataset
    from recorder.elsewhere import EventTable, write_recording
    from recorder.frameworks import SpikeOutput
    from recorder.monitor import Monitor
    from recorder.ranks import RankError

_HOMES = {
    "EventTable": "recorder.elsewhere",
    "Monitor": "recorder.monitor",
    "NeuronShapeError": "recorder.capture",
    "RankError": "recorder.ranks",
    "Signal": "recorder.capture.signals",
    "SignalError": "recorder.capture.signals",
    "SpikeDataset": "recorder.datasets.spike_dataset",
    "SpikeOutput": "recorder.frameworks",
    "SpikeValueError": "recorder.capture",
    "write_recording": "recorder.elsewhere",
}

__all__ = [
    "EventTable",
    "Monitor",
    "NeuronShapeError",
    "RankError",
    "Signal",
    "SignalError",
    "SpikeDataset",
    "SpikeOutput",
    "SpikeValueError",
    "write_recording",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(
            "this needs PyTorch, which is not installed: pip install 'spiketape[recorder]'", name="torch"
        ) from error


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
