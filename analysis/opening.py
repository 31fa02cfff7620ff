"""Open a recording."""

from __future__ import annotations

from typing import Any

from analysis.recording import Recording
from recorder.format.reading import TapeReader
from recorder.format.stores import StoreLike, open_store


def open_recording(
    store: StoreLike, *, storage_options: dict[str, Any] | None = None, use_counts: bool = True
) -> Recording:
    """Open a finished, interrupted or still growing recording; only metadata is read.

    Parameters
    ----------
    store : str, path or zarr.abc.store.Store
        What was passed to ``Monitor(store=...)``: a path, a URL such as ``s3://bucket/run.zarr``, or a Zarr
        store. Also what `spiketape pack` has made: a folder, a URL, or a ``.zip`` file, on a disk or behind a
        URL, web servers included.
    storage_options : dict, optional
        For URLs, passed to fsspec: credentials, endpoint.
    use_counts : bool
        Take whole blocks of frames from the stored spike counts. False counts every spike again from the
        bits: slower, with the same results; for benchmarks and cross-checks.

    Returns
    -------
    Recording
        As of the newest commit; ``recording.refresh()`` sees what was committed since.

    Raises
    ------
    RecordingNotFoundError
        If there is nothing at the store.
    RecordingFormatError
        If it is not a recording, of an unknown version, or malformed.
    StoreAccessError
        If what is behind a URL does not answer, or refuses.
    StoreError
        If a package is missing that the URL needs; it says what to install.
    TypeError
        If ``store`` is none of these.
    """
    opened = open_store(store, read_only=True, storage_options=storage_options)
    return Recording(TapeReader.open(opened), use_counts=use_counts)
