"""Record every spike of a spiking network that runs in PyTorch, with memory that stays flat.

`Monitor` is the front door. It is loaded on first use, so that ``recorder.format``, which the analysis of
recordings needs too, can be imported without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recorder.layer_recorder import NeuronShapeError, SpikeValueError
    from recorder.monitor import Monitor
    from recorder.ranks import RankError
    from recorder.spiking_layers import SpikeOutput

_HOMES = {
    "Monitor": "recorder.monitor",
    "NeuronShapeError": "recorder.layer_recorder",
    "RankError": "recorder.ranks",
    "SpikeOutput": "recorder.spiking_layers",
    "SpikeValueError": "recorder.layer_recorder",
}

__all__ = ["Monitor", "NeuronShapeError", "RankError", "SpikeOutput", "SpikeValueError"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(
            "recording needs PyTorch, which is not installed: pip install 'spiketape[recorder]'", name="torch"
        ) from error


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
