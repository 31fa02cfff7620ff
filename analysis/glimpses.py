"""How much layers fire over a recording, for the small pictures of notebooks: from stored counts alone.

Pictures come with whatever a notebook shows, so they may cost next to nothing. They are drawn of whole
recordings that lie on this host: a bucket or web server would be asked some sixty times. Of each layer a few
stored chunks of ``counts`` are read, of 1 MiB each before compression, spread over the recording, 64 of all
layers at most; of no spikes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from analysis.kernels.selecting.selection import Selection
from analysis.kernels.selecting.source import Source, reader_of
from recorder.format import RecordingFormatError, StoreError
from recorder.stores import is_url
from recorder.stores.redaction import without_secrets

MAX_BYTES: Final = 64 * 2**20
PLACES: Final = 24


def rates_at_a_glance(layers: Sequence[Sequence[Source]]) -> tuple[dict[str, list[float]], str]:
    """Firing rates at a few places of each layer, in order, and why there are none; empty where there are.

    A place stands for one or more blocks of frames. Layers are left out that have no whole block, or whose
    counts are too large, and all of them where several recordings, a part of one, or one elsewhere is looked
    at.
    """
    sources = [each[0] for each in layers if len(each) == 1 and each[0].selection == Selection()]
    if len(sources) < len(layers) or any(is_url(source.store.location) for source in sources):
        return {}, ""
    budget = MAX_BYTES // max(len(sources), 1)
    try:
        found = {source.layer: _rates(source, budget) for source in sources}
    except (RecordingFormatError, StoreError, OSError) as error:
        return {}, f"no rates are shown: {without_secrets(error)}"
    return {name: rates for name, rates in found.items() if rates}, ""


def _rates(source: Source, budget: int) -> list[float]:
    """Rates at up to ``PLACES`` places of a layer, of whose counts so many bytes may be read."""
    reader, commit = reader_of(source), source.commit
    plan, blocks, rows = commit.plan, commit.counts_checksums.rows, reader.tables.counts.chunk_rows
    readable = min(budget // (rows * plan.neurons * 4), PLACES)
    spikes, slots = [], []
    for chunk in _spread(-(-blocks // rows), readable):
        first, last = chunk * rows, min((chunk + 1) * rows, blocks)
        counted = reader.counts(first, last).reshape(last - first, -1).sum(axis=1, dtype=np.int64)
        frames = reader.frames_in_blocks(first, last).tolist()
        for block in range(first, last):
            if not reader.has_lost_frames(block):
                spikes.append(int(counted[block - first]))
                slots.append(frames[block - first] * plan.neurons)
    cuts = _spread(len(spikes), PLACES)
    return (np.add.reduceat(spikes, cuts) / np.add.reduceat(slots, cuts)).tolist() if spikes else []


def _spread(there: int, wanted: int) -> list[int]:
    """Numbers below ``there``, from 0 on, spread evenly; so many as are wanted, or all."""
    few = min(there, wanted)
    return [place * there // few for place in range(few)]
