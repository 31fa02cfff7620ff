"""Open a recording, or several as one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import Any

from analysis.opening.readers import open_readers
from analysis.recording import Recording
from recorder.format import LostFramesWarning
from recorder.stores import StoreLike
from recorder.stores.redaction import shown_address
from recorder.tape import TapeReader


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
        pattern such as ``"runs/*.zarr"`` opens all recordings that it matches, unless there is a recording,
        or a run, of that very name; a list opens those listed. Also what ``spiketape pack`` has made: a
        folder, a URL, or a ``.zip`` file, on a disk or behind a URL, web servers included. Their links may
        have any name, lead on to others, and carry a query, which goes behind each key that is asked for.
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
    UnknownRunWarning
        If ranks that were recorded without an identifier of their run are taken for one run by their names.
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
        If several recordings do not have the same layers, or one is listed twice; if the name is that of a
        recording and of a run of several ranks, or that of a run whose ranks are of several runs. In a list,
        a path stands for the recording of that very name.
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
    location = shown_address(os.fspath(store)) if isinstance(store, str | os.PathLike) else None
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
