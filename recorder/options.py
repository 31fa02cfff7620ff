"""Check what a user passes to `Monitor`; errors say what was expected."""

from __future__ import annotations

import itertools
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn


def check_options(
    net: Any,
    backend: Any,
    overwrite: bool,
    resume: bool,
    commit_interval: Any,
    last_trials: Any,
    *,
    durability: Any,
    on_error: Any,
) -> None:
    """Raise TypeError or ValueError for what `Monitor` cannot be given."""
    if not isinstance(net, nn.Module):
        raise TypeError(f"net is {net!r} ({type(net).__name__}); expected a torch.nn.Module")
    if backend not in ("numpy", "torch"):
        raise ValueError(f"backend is {backend!r}; expected 'numpy' or 'torch'")
    if overwrite and resume:
        raise ValueError("overwrite=True replaces a recording and resume=True goes on with it; choose one")
    if not _is_positive(commit_interval):
        raise ValueError(f"commit_interval is {commit_interval!r}; expected a positive number of seconds")
    if last_trials is not None and (type(last_trials) is not int or last_trials < 1):
        raise ValueError(f"last_trials is {last_trials!r}; expected a positive whole number, or None")
    if durability not in ("power", "process"):
        raise ValueError(f"durability is {durability!r}; expected 'power' or 'process'")
    if on_error not in ("raise", "warn"):
        raise ValueError(f"on_error is {on_error!r}; expected 'raise' or 'warn'")


def _is_positive(number: Any) -> bool:
    try:
        return float(number) > 0
    except (TypeError, ValueError):
        return False


def parse_device(device: str | torch.device | None) -> torch.device:
    """The device of this name; ValueError if this machine does not have it."""
    try:
        parsed = torch.device("cpu" if device is None else device)
        torch.empty(0, device=parsed)  # a device may have a name and not be there
    except (AssertionError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"device is {device!r}; expected None, a torch.device or a name such as 'cpu' or 'cuda:0', of a "
            f"device that this machine has: {error}"
        ) from error
    return parsed


def default_store() -> Path:
    """A folder in ``recordings`` that is not there yet, named by date and time."""
    stem = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    names = itertools.chain([f"{stem}.zarr"], (f"{stem}_{number}.zarr" for number in itertools.count(2)))
    return next(path for path in (Path("recordings", name) for name in names) if not path.exists())
