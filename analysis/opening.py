"""Open a recording, or several as one."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from zarr.abc.store import Store

from analysis.recording import Recording
from recorder.format import LostFramesWarning, RecordingNotFoundError, StoreError
from recorder.stores import StoreLike, open_store
from recorder.stores.rank_names import missing_ranks, parse_rank_location, rank_location, rank_pattern
from recorder.tape import TapeReader

_PATTERN_CHARACTERS = frozenset("*?[")
_MAX_LISTED = 10


def open_recording(
    store: StoreLike | Iterable[StoreLike],
    *,
    storage_options: dict[str, Any] | None = None,
    use_counts: bool = True,
) -> Recording:
    """Open a finished, interrupted or still growing recording, or several as one; only metadata is read.

    Parameters
    ----------
    store : str, path or zarr.abc.store.Store, or several
        What was passed to ``Monitor(store=...)``: a path, a URL such as ``s3://bucket/run.zarr``, or a Zarr
        store. Of a distributed run, whose ranks each have a recording of their own, that opens all of them. A
        pattern such as ``"runs/*.zarr"`` opens all recordings that it matches, a list those listed. Also what
        ``spiketape pack`` has made: a folder, a URL, or a ``.zip`` file, on a disk or behind a URL, web
        servers included.
    storage_options : dict, optional
        For URLs, passed to fsspec: credentials, endpoint.
    use_counts : bool
        Take whole blocks of frames from the stored spike counts. False counts every spike again from the
        bits: slower, with the same results; for benchmarks and cross-checks.

    Returns
    -------
    Recording
        As of the newest commit; ``recording.refresh()`` sees what was committed since. Of several recordings
        it has the frames of all; see `Recording` for what is pooled.

    Warns
    -----
    LostFramesWarning
        If frames were damaged and ``spiketape recover --mark-lost`` has marked them lost. They are a gap in
        their layer, as if it had not been called in these steps: no figure has their spikes or their slots.

    Raises
    ------
    RecordingNotFoundError
        If there is nothing at the store, or if ranks of a run are missing. To look at some ranks only, list
        them.
    RecordingFormatError
        If it is not a recording, of an unknown version, or malformed.
    JointRecordingError
        If several recordings do not have the same layers, or one is listed twice.
    StoreAccessError
        If what is behind a URL does not answer, or refuses.
    StoreError
        If a package is missing that the URL needs; it says what to install.
    TypeError
        If ``store`` is none of these.
    """
    readers = open_readers(store, storage_options)
    for reader in readers:
        _warn_of_lost_frames(reader)
    location = os.fspath(store) if isinstance(store, str | os.PathLike) else None
    return Recording(readers, use_counts=use_counts, location=location)


def _warn_of_lost_frames(reader: TapeReader) -> None:
    lost = {layer.name: layer.lost_frames for layer in reader.metadata.layers if layer.lost_frames}
    if lost:
        warnings.warn(
            f"{reader.store.location}: {sum(lost.values())} frames were damaged and are marked lost, in "
            f"layers {', '.join(map(repr, lost))}; figures are about the frames that remain",
            LostFramesWarning,
            stacklevel=3,
        )


def open_readers(
    store: StoreLike | Iterable[StoreLike], storage_options: dict[str, Any] | None = None
) -> list[TapeReader]:
    """Readers of the recordings that a user names; parameters and errors as `open_recording`."""
    if isinstance(store, str | os.PathLike | Store) or not isinstance(store, Iterable):
        return list(_open_named(store, storage_options))
    readers = [reader for each in store for reader in _open_named(each, storage_options)]
    if not readers:
        raise RecordingNotFoundError("the list of recordings is empty; expected at least one path")
    return readers


def _open_named(store: StoreLike, storage_options: dict[str, Any] | None) -> Iterator[TapeReader]:
    """What a path, a run, a pattern or a Zarr store stands for."""
    try:
        yield TapeReader.open(open_store(store, read_only=True, storage_options=storage_options))
    except RecordingNotFoundError:
        found = [] if isinstance(store, Store) else _matching(os.fspath(store), storage_options)
        if not found:
            raise
    else:
        return
    _check_ranks(found)
    for location in found:
        yield TapeReader.open(open_store(location, read_only=True, storage_options=storage_options))


def _matching(text: str, storage_options: dict[str, Any] | None) -> list[str]:
    """Locations that a pattern matches, or those of the ranks of a run, ascending."""
    if _PATTERN_CHARACTERS & set(text):
        return _glob(text, storage_options)
    ranks = (
        (parse_rank_location(location), location) for location in _glob(rank_pattern(text), storage_options)
    )
    return [location for name, location in ranks if name is not None]


def _glob(pattern: str, storage_options: dict[str, Any] | None) -> list[str]:
    if "://" not in pattern:
        return sorted(glob.glob(pattern))  # noqa: PTH207 - a pattern may be absolute
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - comes with what opens URLs
    except ImportError as error:
        raise StoreError(f"{pattern} cannot be looked for, as a package is missing: {error}") from error
    files, path = url_to_fs(pattern, **(storage_options or {}))
    try:
        return sorted(files.unstrip_protocol(location) for location in files.glob(path))
    except (NotImplementedError, OSError):
        return []  # plain HTTP lists nothing


def _check_ranks(locations: Sequence[str]) -> None:
    """Raise RecordingNotFoundError if these are some, but not all ranks of a run."""
    names = [name for name in map(parse_rank_location, locations) if name is not None]
    sizes: dict[str, set[int]] = {}
    for name in names:
        sizes.setdefault(name.run, set()).add(name.ranks)
    for run, missing in missing_ranks(names).items():
        otherwise = "To look at those that are there, list their paths"
        if len(sizes[run]) > 1:
            runs = " and ".join(f"one of {ranks} ranks" for ranks in sorted(sizes[run]))
            raise RecordingNotFoundError(f"{run} stands for several runs: {runs}. {otherwise}")
        if missing:
            (ranks,) = sizes[run]
            expected = ", ".join(rank_location(run, rank, ranks) for rank in missing[:_MAX_LISTED])
            more = ", …" if len(missing) > _MAX_LISTED else ""
            raise RecordingNotFoundError(
                f"{len(missing)} of the {ranks} ranks of {run} are missing: {expected}{more}. {otherwise}"
            )
