"""What was recorded, where and with what, as JSON values. Never environment variables."""

from __future__ import annotations

import platform
import socket
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import nn

_PACKAGES = (
    "spiketape",
    "torch",
    "numpy",
    "zarr",
    "numcodecs",
    "spikingjelly",
    "snntorch",
    "norse",
    "sinabs",
)


def describe_run(network: nn.Module, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Provenance of a recording of ``network``; ``metadata`` is the user's own.

    Raises
    ------
    TypeError
        If ``metadata`` does not consist of JSON values.
    """
    return {
        "network": class_name(network),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "command": sys.argv[0],
        "packages": _versions(),
        "metadata": _as_json(dict(metadata or {}), "metadata"),
    }


def class_name(module: nn.Module) -> str:
    """Qualified name of a module's class, of at most 1024 characters."""
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}"[-1024:]


def _versions() -> dict[str, str]:
    """Versions of the packages that shape a recording, of frameworks only if they are in use."""
    versions = {}
    for package in _PACKAGES:
        if package in sys.modules or package == "spiketape":
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                versions[package] = "unknown: not installed as a package"
    return versions


def _as_json(value: Any, place: str) -> Any:
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, float):
        # JSON has no NaN and no infinities.
        return value if value - value == 0 else repr(value)
    if isinstance(value, Mapping):
        return {str(key): _as_json(item, f"{place}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if hasattr(value, "tolist"):
        return _as_json(value.tolist(), place)
    raise TypeError(
        f"{place} is {value!r} ({type(value).__name__}); expected what JSON can hold: text, numbers, "
        "booleans, None, lists and dicts of these"
    )
