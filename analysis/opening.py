"""Open a recording."""

from __future__ import annotations

import warnings
from typing import Any

from analysis.recording import Recording
from recorder.format.errors import LostFramesWarning
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
        store.
    storage_options : dict, optional
        For URLs, passed to fsspec: credentials, endpoint.
    use_counts : bool
        Take whole blocks of frames from the stored spike counts. False counts every spike again from the
        bits: slower, with the same results; for benchmarks and cross-checks.

    Returns
    -------
    Recording
        As of the newest commit; ``recording.refresh()`` sees what was committed since.

    Warns
    -----
    LostFramesWarning
        If frames were damaged and ``spiketape recover --mark-lost`` has marked them lost. They are a gap in
        their layer, as if it had not been called in these steps: no figure has their spikes or their slots.

    Raises
    ------
    RecordingNotFoundError
        If there is nothing at the store.
    RecordingFormatError
        If it is not a recording, of an unknown version, or malformed.
    TypeError
        If ``store`` is none of these.
    """
    opened = open_store(store, read_only=True, storage_options=storage_options)
    reader = TapeReader.open(opened)
    lost = {layer.name: layer.lost_frames for layer in reader.metadata.layers if layer.lost_frames}
    if lost:
        warnings.warn(
            f"{opened.location}: {sum(lost.values())} frames were damaged and are marked lost, in layers "
            f"{', '.join(map(repr, lost))}; figures are about the frames that remain",
            LostFramesWarning,
            stacklevel=2,
        )
    return Recording(reader, use_counts=use_counts)
