"""Check what a user passes to `Monitor`; errors say what was expected."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recorder.format import (
    RecordingExistsError,
    RecordingFormatError,
    RecordingInUseError,
    RecordingWriteError,
)
from recorder.format.metadata import MAX_NAME_LENGTH
from recorder.stores import ByteStore
from recorder.stores.redaction import without_secrets


def check_options(
    net: Any,
    backend: Any,
    overwrite: bool,
    resume: bool,
    commit_interval: Any,
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
    if durability not in ("power", "process"):
        raise ValueError(f"durability is {durability!r}; expected 'power' or 'process'")
    if on_error not in ("raise", "warn"):
        raise ValueError(f"on_error is {on_error!r}; expected 'raise' or 'warn'")


def check_names(layers: Iterable[str]) -> None:
    """Raise ValueError for names of layers that no recording can hold."""
    for name in layers:
        if len(name) > MAX_NAME_LENGTH:
            raise ValueError(
                f"the name of layer '{name[:40]}…' has {len(name)} characters, a recording holds at most "
                f"{MAX_NAME_LENGTH}. Give the modules that it lies in shorter names, or leave it out with "
                "layers="
            )
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"the name of layer {name!r} holds half a character (a surrogate), which cannot be stored. "
                "Give the module another name, or leave it out with layers="
            ) from None


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


@contextmanager
def write_errors(store: ByteStore) -> Iterator[None]:
    """Say of which store an error of the operating system is, and what to do."""
    try:
        yield
    except (RecordingExistsError, RecordingInUseError, RecordingFormatError):
        raise
    except OSError as error:
        raise RecordingWriteError(
            f"cannot record to {store.location}: {without_secrets(error)}. Make it writable, or choose "
            "another store"
        ) from error
