"""Readers of what a user names: a recording, a run of several ranks, what a pattern matches, or a list."""

from __future__ import annotations

import gc
import glob
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from analysis.members import JointRecordingError, ranks_of
from recorder.format import RecordingNotFoundError, StoreError, UnknownRunWarning
from recorder.stores import ByteStore, StoreLike, is_url, open_store
from recorder.stores.addresses import READS_UNDER_WAY, is_web, is_zarr_store, local_path, split_query
from recorder.stores.options import options_for
from recorder.stores.rank_names import (
    RankName,
    RankRecord,
    missing_ranks,
    parse_rank_location,
    rank_location,
    rank_pattern,
)
from recorder.stores.read_ahead import call_ahead
from recorder.stores.redaction import (
    cause_without_secrets,
    secrets_of,
    secrets_of_environment,
    shown_address,
    without_secrets,
)
from recorder.tape import TapeReader
from recorder.tape.reading import read_root

_PATTERN_CHARACTERS = frozenset("*?[")
_MAX_LISTED = 10

Root = tuple[ByteStore, bytes | None]


def open_readers(
    store: StoreLike | Iterable[StoreLike], storage_options: dict[str, Any] | None = None
) -> list[TapeReader]:
    """Readers of the recordings that a user names; parameters and errors as `analysis.open_recording`."""
    is_one = isinstance(store, str | os.PathLike) or is_zarr_store(store)
    is_listed = isinstance(store, Iterable) and not is_one
    named: list[StoreLike] = [*store] if is_listed else [store]  # type: ignore[list-item, misc]
    if not named:
        raise RecordingNotFoundError("the list of recordings is empty; expected at least one path")
    readers = []
    with _without_collector():
        for each, read in zip(named, _open_each(named, storage_options), strict=True):
            readers += _open_named(each, read, storage_options, is_listed=is_listed)
    return readers


@contextmanager
def _without_collector() -> Iterator[None]:
    """Let Python's collector of cycles wait.

    The records of a thousand recordings are a million objects without a cycle, and to look through them again
    and again takes a third of the time that it takes to open them.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _open_each(
    stores: Sequence[StoreLike], storage_options: dict[str, Any] | None
) -> Iterator[Callable[[], TapeReader]]:
    """Functions that return the reader of each store, or raise what is wrong with it; opened side by side."""
    calls = (_reading(store, storage_options) for store in stores)
    # They are read in threads, and parsed in this one: threads that only compute would wait for each other.
    for read in call_ahead(calls, min(len(stores), READS_UNDER_WAY)):
        yield partial(_parsed, read)


def _parsed(read: Callable[[], Root]) -> TapeReader:
    return TapeReader.parse(*read())


def _reading(store: StoreLike, storage_options: dict[str, Any] | None) -> Callable[[], Root]:
    """Function that reads the root document of a store, or raises what is wrong with its name.

    The store is made at once, as fsspec makes a file system, with its connections, for each thread. What is
    wrong is told when it is this store's turn, and so of several errors always the first in their order.
    """
    try:
        return partial(read_root, open_store(store, read_only=True, storage_options=storage_options))
    except Exception as error:  # noqa: BLE001 - raised in its turn
        return partial(_raise, error)


def _raise(error: Exception) -> NoReturn:
    raise error


def _open_named(
    store: StoreLike,
    read: Callable[[], TapeReader],
    storage_options: dict[str, Any] | None,
    *,
    is_listed: bool,
) -> list[TapeReader]:
    """Readers for a path, a run, a pattern or a Zarr store; in a list, a path stands for itself first.

    ``read`` returns the reader of the recording of that very name.
    """
    try:
        reader = read()
    except RecordingNotFoundError:
        found = _matching(os.fspath(store), storage_options) if isinstance(store, str | os.PathLike) else []
        if not found:
            raise
    else:
        if isinstance(store, str | os.PathLike) and not is_listed:
            _refuse_run_beside(os.fspath(store), storage_options)
        return [reader]
    _check_ranks(found)
    readers = [read() for read in _open_each(found, storage_options)]
    _check_runs(found, readers)
    return readers


def _refuse_run_beside(text: str, storage_options: dict[str, Any] | None) -> None:
    """Raise JointRecordingError if a name is that of a recording, and also of a run of several ranks."""
    if is_web(text) or parse_rank_location(text) is not None:
        return
    ranks = _ranks_of(text, storage_options)
    if ranks:
        text = text.rstrip("/")
        alone = f"{glob.escape(text[:-1])}[{text[-1]}]"
        raise JointRecordingError(
            f"{without_secrets(text)} stands for two: a recording of one process, and a run of several, such "
            f"as {without_secrets(ranks[0])}. Give a pattern for one of them, {without_secrets(alone)} or "
            f"{without_secrets(rank_pattern(text))}, or move one elsewhere"
        )


def _matching(text: str, storage_options: dict[str, Any] | None) -> list[str]:
    """Locations of the ranks of a run, or those that a pattern matches, ascending.

    A name may hold what patterns are made of, as ``run[lr=0.1].zarr`` does. So it is a pattern only where
    there is nothing of that name, and no rank of it.
    """
    if is_web(text) and split_query(text)[1]:
        return []  # who may see one address may not see what is beside it
    ranks = _ranks_of(text, storage_options)
    if ranks or _PATTERN_CHARACTERS.isdisjoint(text):
        return ranks
    if _is_there(text, storage_options):
        return ranks
    return _glob(text, storage_options)


def _ranks_of(run: str, storage_options: dict[str, Any] | None) -> list[str]:
    """Locations of the ranks of a run, ascending."""
    return [place for place in _glob(rank_pattern(run), storage_options) if parse_rank_location(place)]


def _is_there(text: str, storage_options: dict[str, Any] | None) -> bool:
    """True if there is something of that name, which then is no pattern."""
    try:
        return not open_store(text, read_only=True, storage_options=storage_options).is_empty()
    except (NotImplementedError, OSError, RecordingNotFoundError):
        return False  # plain HTTP lists nothing


def _glob(pattern: str, storage_options: dict[str, Any] | None) -> list[str]:
    if not is_url(pattern) or pattern.startswith("file://"):
        return sorted(glob.glob(local_path(pattern)))  # noqa: PTH207 - a pattern may be absolute
    secrets = (*secrets_of(pattern, storage_options), *secrets_of_environment())
    shown = shown_address(pattern)
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - comes with what opens URLs
    except ImportError as error:
        raise StoreError(f"{shown} cannot be looked for, as a package is missing: {error}") from error
    try:
        files, path = url_to_fs(pattern, **options_for(pattern, storage_options))
        return sorted(files.unstrip_protocol(location) for location in files.glob(path))
    except (NotImplementedError, OSError):
        return []  # plain HTTP lists nothing
    except Exception as error:  # noqa: BLE001 - of whatever package; it may show the address
        raise StoreError(
            f"{shown} cannot be looked for: {without_secrets(error, secrets)}"
        ) from cause_without_secrets(error, secrets)


def _check_ranks(locations: Sequence[str]) -> None:
    """Raise RecordingNotFoundError if these are some, but not all ranks of a run."""
    names = [name for name in map(parse_rank_location, locations) if name is not None]
    sizes: dict[str, set[int]] = {}
    for name in names:
        sizes.setdefault(name.run, set()).add(name.ranks)
    for run, missing in missing_ranks(names).items():
        shown = shown_address(run)
        otherwise = "To look at those that are there, list their paths"
        if len(sizes[run]) > 1:
            runs = " and ".join(f"one of {ranks} ranks" for ranks in sorted(sizes[run]))
            raise RecordingNotFoundError(f"{shown} stands for several runs: {runs}. {otherwise}")
        if missing:
            (ranks,) = sizes[run]
            expected = ", ".join(rank_location(shown, rank, ranks) for rank in missing[:_MAX_LISTED])
            more = ", …" if len(missing) > _MAX_LISTED else ""
            raise RecordingNotFoundError(
                f"{len(missing)} of the {ranks} ranks of {shown} are missing: {expected}{more}. {otherwise}"
            )


def _check_runs(locations: Sequence[str], readers: Sequence[TapeReader]) -> None:
    """Raise JointRecordingError if recordings named like the ranks of one run are not; warn if none can tell.

    A run that was begun again leaves ranks of the one before, where it has not come to replace them.
    """
    runs: dict[str, list[tuple[RankName, TapeReader]]] = {}
    for location, reader in zip(locations, readers, strict=True):
        name = parse_rank_location(location)
        if name is not None:
            runs.setdefault(name.run, []).append((name, reader))
    for run, members in runs.items():
        shown, ranks = without_secrets(run), ranks_of([reader for _, reader in members])
        if [(name.rank, name.ranks) for name, _ in members] != [(one.rank, one.ranks) for one in ranks or ()]:
            said = list(dict.fromkeys(_origin(name, reader) for name, reader in members))
            more = ["…"] if len(said) > _MAX_LISTED else []
            raise JointRecordingError(
                f"{shown}: its recordings are named like the ranks of one run, and are not: "
                f"{'; '.join(said[:_MAX_LISTED] + more)}. Remove those that another run has left, or, to "
                "look at some of them as they are, list their paths"
            )
        if ranks and not ranks[0].run:
            warnings.warn(
                f"{shown}: its ranks had no way to agree on an identifier of their run when they were "
                "recorded; that they are of one run is known by their names only",
                UnknownRunWarning,
                stacklevel=4,
            )


def _origin(name: RankName, reader: TapeReader) -> str:
    """The run that a recording says it is of, and its rank where its name says another."""
    metadata = reader.metadata
    record = RankRecord.from_provenance(metadata.provenance)
    if record is None:
        return f"rank {name.rank} was recorded by no rank"
    run = f"run {record.run!r}" if record.run else "a run without an identifier"
    if (record.rank, record.ranks) != (name.rank, name.ranks):
        return f"rank {name.rank} of {name.ranks} is rank {record.rank} of {record.ranks} of {run}"
    return f"some are of {run}"
