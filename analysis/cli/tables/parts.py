"""Files that hold what one shard of an answer has found out: an ``.npz`` of numbers, with a header in JSON.

Parts may come from strangers. Nothing in them is ever run: they hold numbers and text, and a list of types
says what these may stand for. They are not compressed, so that none is larger than it looks.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray

from analysis.cli.tables.asking import Asked
from analysis.display import printable
from analysis.kernels.events.interval_tally import IntervalEdge, IntervalSums
from analysis.kernels.events.lag_tally import LagSums
from analysis.kernels.events.latency_tally import LatencyEdge, LatencySums
from analysis.recording import Recording
from recorder.tape.reading import record_identity

FORMAT: Final = "spiketape part 1"
MAX_SHARDS: Final = 10**6
_HEADER: Final = "header"
_NUMBERS: Final = "biuf"
_EDGES: Final = {IntervalSums: IntervalEdge, LatencySums: LatencyEdge}
_TYPES: Final = {
    each.__name__: each for each in (IntervalSums, IntervalEdge, LatencySums, LatencyEdge, LagSums)
}


class PartError(click.ClickException):
    """A part that cannot be written, is malformed, or does not belong to the others."""


@dataclass(frozen=True)
class Commit:
    """The recording that a question was about, as of one commit; see `RecordingMetadata`.

    Attributes
    ----------
    recording_id : str
    number : int
    record : str
        Hash of the whole commit record.
    """

    recording_id: str
    number: int
    record: str


def commits_of(recording: Recording) -> tuple[Commit, ...]:
    """Commits of the recordings that were opened as one, in their order."""
    each = [one.metadata for one in recording.recordings.values()]
    return tuple(Commit(m.recording_id, m.commit_number, record_identity(m)) for m in each)


@dataclass(frozen=True, eq=False)
class Part:
    """What one shard of an answer has found out.

    Attributes
    ----------
    shard, shards : int
        Its number, from 0 on, and how many there are.
    question : Asked
    commits : tuple of Commit
    location : str
        Where the recording was, as it may be shown.
    results : mapping from str to object
        By the names of their tasks.
    """

    shard: int
    shards: int
    question: Asked
    commits: tuple[Commit, ...]
    location: str
    results: Mapping[str, Any]

    def write(self, path: Path) -> None:
        """Write a file, which is there as a whole or not at all.

        Raises
        ------
        PartError
            If a result is of no type that a part can hold.
        """
        arrays: list[NDArray[Any]] = []
        header = {
            "format": FORMAT,
            "shard": self.shard,
            "shards": self.shards,
            "question": asdict(self.question),
            "commits": [asdict(commit) for commit in self.commits],
            "location": self.location,
            "results": {name: _encoded(value, arrays) for name, value in self.results.items()},
        }
        text = np.frombuffer(json.dumps(header).encode(), np.uint8)
        entries: dict[str, Any] = {_HEADER: text} | {str(n): array for n, array in enumerate(arrays)}
        made = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with made.open("wb") as file:
                np.savez(file, **entries)
                file.flush()
                os.fsync(file.fileno())
            made.replace(path)
        finally:
            with suppress(FileNotFoundError):
                made.unlink()

    @classmethod
    def read(cls, path: Path) -> Part:
        """Read a file.

        Raises
        ------
        PartError
            If it is no part, or malformed.
        """
        try:
            with zipfile.ZipFile(path) as file:
                _check_size(file, path.stat().st_size)
                header = json.loads(_array(file, _HEADER).tobytes())
                return cls._parsed(header, file)
        except OSError as error:
            raise PartError(f"{printable(path)}: {printable(error.strerror or error)}") from error
        except (
            ValueError, TypeError, KeyError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile,
        ) as error:  # fmt: skip
            raise PartError(
                f"{printable(path)} is no part of an answer, or is damaged ({printable(error)}); expected "
                "what spiketape stats --shard writes: let that shard be computed again"
            ) from error

    @classmethod
    def _parsed(cls, header: Any, file: zipfile.ZipFile) -> Part:
        if _typed(header, dict)["format"] != FORMAT:
            raise ValueError(f"its header does not say {FORMAT!r}")
        shard, shards = (_typed(header[name], int) for name in ("shard", "shards"))
        if not 0 <= shard < shards <= MAX_SHARDS:
            raise ValueError(f"shard {shard} of {shards}")
        commits = tuple(
            Commit(_typed(c["recording_id"], str), _typed(c["number"], int), _typed(c["record"], str))
            for c in _typed(header["commits"], list)
        )
        results = _typed(header["results"], dict)
        return cls(
            shard,
            shards,
            _question(_typed(header["question"], dict)),
            commits,
            _typed(header["location"], str),
            {name: _decoded(value, file) for name, value in results.items()},
        )


def _check_size(file: zipfile.ZipFile, size: int) -> None:
    """Refuse what would become larger than the file is."""
    entries = file.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("it is compressed")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its entries overlap")


def _typed(value: Any, kind: type[Any]) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r:.50} where {kind.__name__} was expected")
    return value


def _question(words: Mapping[str, Any]) -> Asked:
    given: dict[str, Any] = {}
    for name, value in words.items():
        several = isinstance(value, list)
        for each in value if several else [value]:
            _typed(each, str)
        given[name] = tuple(value) if several else value
    question = Asked(**given)
    kinds = {each.name: type(getattr(question, each.name)).__name__ for each in fields(Asked)}
    if any(not str(each.type).startswith(kinds[each.name]) for each in fields(Asked)):
        raise ValueError("its question is malformed")
    return question


def _encoded(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """A result as JSON; its numbers are put behind the others."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _NUMBERS:
        arrays.append(np.asarray(value, order="C"))
        return {"array" if isinstance(value, np.ndarray) else "number": len(arrays) - 1}
    name = type(value).__name__
    if _TYPES.get(name) is not type(value):
        of = f" of {value.dtype}" if isinstance(value, np.ndarray) else ""
        raise PartError(
            f"a task gave {type(value).__module__}.{name}{of}, which a part of an answer cannot hold: ask "
            "without --shard, on one machine or with --cluster"
        )
    return {name: {each.name: _encoded(getattr(value, each.name), arrays) for each in fields(value)}}


def _decoded(value: Any, file: zipfile.ZipFile) -> Any:
    ((name, content),) = _typed(value, dict).items()
    if name in ("array", "number"):
        array = _array(file, str(_typed(content, int)))
        if name == "array":
            return array
        if array.shape:
            raise ValueError("several numbers where one was expected")
        return array[()]
    kind = _TYPES[name]
    given = {key: _field(kind, key, each, file) for key, each in _typed(content, dict).items()}
    return kind(**given)


def _field(kind: type[Any], name: str, value: Any, file: zipfile.ZipFile) -> Any:
    if name == "kind" and kind is IntervalSums and value in ("moments", "histogram", "cv2", "lv"):
        return value
    if name == "edge" and value is None:
        return None
    found = _decoded(value, file)
    if type(found) is not (_EDGES[kind] if name == "edge" else np.ndarray):
        raise ValueError(f"{name} of {kind.__name__} is a {type(found).__name__}")
    return found


def _array(file: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An entry of the archive; it must be as long as it says itself, before any room is made for it."""
    with file.open(f"{name}.npy") as entry:
        if np.lib.format.read_magic(entry) != (1, 0):
            raise ValueError("unknown version of .npy")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(entry)
        content = entry.read()
    is_fitting = dtype.kind in _NUMBERS and len(content) == math.prod(shape) * dtype.itemsize
    if is_fortran or not is_fitting:
        raise ValueError(f"an array of {dtype} {shape} in {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape)
