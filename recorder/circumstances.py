"""Describe where and with what something was recorded, as JSON values; torch is not needed for it.

Anything that may hold a secret is left out: environment variables, arguments and folder of the command, the
address of the store. Users who want to keep arguments pass them as ``metadata``.
"""

from __future__ import annotations

import json
import platform
import re
import socket
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from recorder.format.record.metadata import MAX_PROVENANCE_BYTES

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


# What is one for all steps of a recording, and what whoever goes on with it may leave unsaid.
_KEPT: Final = ("dt", "dt_unit", "licence", "citation")


def describe(
    recorded: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *,
    dt: float | None = None,
    dt_unit: str | None = None,
    licence: str | None = None,
    citation: str | None = None,
) -> dict[str, Any]:
    """Describe a recording; ``recorded`` is what there is to say of what was recorded.

    Raises
    ------
    TypeError
        If ``metadata`` does not consist of JSON values, or one of ``dt_unit``, ``licence`` and ``citation``
        is no text.
    ValueError
        If only one of ``dt`` and ``dt_unit`` is given, ``dt`` is not positive, or the description is too
        large.
    """
    described = {
        **recorded,
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
    described = {name: value for name, value in described.items() if value is not None}
    described["metadata"] = _as_json(dict(metadata or {}), "metadata")
    size = len(json.dumps(described))
    if size > MAX_PROVENANCE_BYTES:
        raise ValueError(
            f"metadata, licence and citation make a description of {size} bytes; at most "
            f"{MAX_PROVENANCE_BYTES} can be kept. Put what is large into a file beside the recording"
        )
    return described


def refuse_others(described: Mapping[str, Any], known: Mapping[str, Any], place: str, who: str) -> None:
    """Raise ValueError if ``described`` says otherwise how long a step is, or how it may be used.

    Parameters
    ----------
    described : mapping
        Provenance of what is going to be recorded.
    known : mapping
        Provenance of the recording that is gone on with.
    place, who : str
        The recording, and who goes on with it, for the error.
    """
    for name in _KEPT:
        if name in described and described[name] != known.get(name):
            before = repr(known[name]) if name in known else "nothing"
            raise ValueError(
                f"{place} has {before} as its {name}, and {who} says {name}={described[name]!r}, which would "
                f"hold for what was recorded before, too. Leave {name} out to go on with what the recording "
                "has, or record to another store"
            )


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


def _versions() -> dict[str, str]:
    """Versions of the packages that influence a recording, if they are imported."""
    versions = {}
    for package in _PACKAGES:
        if package in sys.modules or package == "spiketape":
            try:
                versions[package] = _version(package)
            except PackageNotFoundError:
                versions[package] = "unknown: not installed as a package"
    return versions


# The library reads all that a package says of itself each time, a millisecond long.
_version = cache(version)


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
