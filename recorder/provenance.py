"""Describe what was recorded, where and with what, as JSON values.

Anything that may hold a secret is left out: environment variables, arguments and folder of the command, the
address of the store. Users who want to keep arguments pass them as ``metadata``.
"""

from __future__ import annotations

import json
import platform
import re
import socket
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from torch import nn
from torch.nn.parameter import UninitializedParameter

from recorder.format.metadata import MAX_PROVENANCE_BYTES

# The description is written with every commit, so it must stay small.
MAX_MODULES: Final = 2000

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
    "braincog",
    "bindsnet",
    "rockpool",
    "matterhorn_pytorch",
)


def describe_run(
    network: nn.Module,
    metadata: Mapping[str, Any] | None = None,
    *,
    dt: float | None = None,
    dt_unit: str | None = None,
    licence: str | None = None,
    citation: str | None = None,
) -> dict[str, Any]:
    """Describe a recording of ``network``; the other parameters are those of `recorder.Monitor`.

    Raises
    ------
    TypeError
        If ``metadata`` does not consist of JSON values, or one of ``dt_unit``, ``licence`` and ``citation``
        is no text.
    ValueError
        If only one of ``dt`` and ``dt_unit`` is given, ``dt`` is not positive, or the description is too
        large.
    """
    modules = list(network.named_modules())
    described = {
        "network": class_name(network),
        # Of nn.Module itself: rockpool's method of that name returns a dict.
        "parameters": _count(nn.Module.parameters(network)),
        "modules": [_describe_module(name, module) for name, module in modules[:MAX_MODULES]],
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "command": _command(),
        "git_commit": find_git_commit(_program_folder()),
        "packages": _versions(),
        "dt": _check_dt(dt, dt_unit),
        "dt_unit": _text(dt_unit, "dt_unit"),
        "licence": _text(licence, "licence"),
        "citation": _text(citation, "citation"),
    }
    if len(modules) > MAX_MODULES:
        described["modules_left_out"] = len(modules) - MAX_MODULES
    described = {name: value for name, value in described.items() if value is not None}
    described["metadata"] = _as_json(dict(metadata or {}), "metadata")
    size = len(json.dumps(described))
    if size > MAX_PROVENANCE_BYTES:
        raise ValueError(
            f"metadata, licence and citation make a description of {size} bytes; at most "
            f"{MAX_PROVENANCE_BYTES} can be kept. Put what is large into a file beside the recording"
        )
    return described


def _describe_module(name: str, module: nn.Module) -> dict[str, Any]:
    """Describe a module and its own parameters, without those of its submodules."""
    own = {
        key: parameter
        for key, parameter in nn.Module.named_parameters(module, recurse=False)
        if _is_known(parameter)
    }
    described: dict[str, Any] = {"name": name, "class": class_name(module)}
    if own:
        described["parameters"] = _count(own.values())
        described["shapes"] = {key: list(parameter.shape) for key, parameter in own.items()}
    return described


def _count(parameters: Iterable[nn.Parameter]) -> int:
    """Number of elements in parameters; lazy parameters, which have no shape yet, do not count."""
    return sum(parameter.numel() for parameter in parameters if _is_known(parameter))


def _is_known(parameter: nn.Parameter) -> bool:
    return not isinstance(parameter, UninitializedParameter)


def _program_folder() -> Path:
    program = Path(sys.argv[0])
    return program.resolve().parent if program.is_file() else Path.cwd()


def _command() -> str:
    """Name of the program without its folder; of a module ``-m`` and its name, of code ``-c``."""
    program = sys.argv[0] if sys.argv else ""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__" and program == getattr(main, "__file__", None):
        return f"-m {spec.name.removesuffix('.__main__')}"
    return Path(program).name


def _check_dt(dt: float | None, dt_unit: str | None) -> float | None:
    if (dt is None) != (dt_unit is None):
        raise ValueError(
            f"dt is {dt!r} and dt_unit is {dt_unit!r}; a duration needs both, such as dt=0.5, dt_unit='ms'"
        )
    if dt is None:
        return None
    if not 0 < float(dt) < float("inf"):
        raise ValueError(f"dt is {dt!r}; expected the duration of a step, a positive number")
    return float(dt)


def _text(value: str | None, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is {value!r} ({type(value).__name__}); expected text")
    return value


def class_name(module: nn.Module) -> str:
    """Qualified name of a module's class; only its last 1024 characters if it is longer."""
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}"[-1024:]


def _versions() -> dict[str, str]:
    """Versions of the packages that influence a recording, if they are imported."""
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


_COMMIT: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_LIMIT_BYTES: Final = 2**24


def find_git_commit(place: Path) -> str | None:
    """Find the commit that is checked out in the Git repository around ``place``; None if there is none.

    Changes that were not committed are ignored.
    """
    try:
        for folder in (place, *place.parents):
            if (folder / ".git").exists():
                return _head(folder / ".git")
    except (OSError, UnicodeDecodeError):
        pass
    return None


def _head(git: Path) -> str | None:
    if git.is_file():  # in a linked work tree or a submodule, .git is a file
        git = git.parent / _read(git).removeprefix("gitdir:").strip()
    shared = git / "commondir"
    common = git / _read(shared).strip() if shared.is_file() else git
    head = _read(git / "HEAD").strip()
    if not head.startswith("ref:"):
        return _commit(head)
    reference = head.removeprefix("ref:").strip()
    for folder in (git, common):
        if (folder / reference).is_file():
            return _commit(_read(folder / reference).strip())
    if not (common / "packed-refs").is_file():
        return None  # nothing has been committed yet
    lines = (line.split(" ") for line in _read(common / "packed-refs").splitlines())
    return next((_commit(line[0]) for line in lines if line[1:] == [reference]), None)


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(_LIMIT_BYTES)


def _commit(text: str) -> str | None:
    return text if _COMMIT.fullmatch(text) else None
