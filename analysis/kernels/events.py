"""Interim."""

from __future__ import annotations

import numpy as np

from recorder.format.bits import unpack_trains


def _codes(pieces):
    lengths = pieces.end - pieces.begin
    from analysis.kernels.grouping import count_up

    up = count_up(lengths)
    r = np.repeat(np.arange(len(lengths)), lengths)
    q = pieces.skipped[r] + up
    st, s = np.divmod(q, pieces.batch[r])
    a = pieces.step_codes[pieces.step_at[r] + st]
    b = pieces.sample_codes[pieces.sample_at[r] + s]
    ok = (a >= 0) & (b >= 0)
    return (pieces.begin[r] + up)[ok], (a + b)[ok]


def count_by_group(trains, pieces, counts):
    frames, codes = _codes(pieces)
    bits = unpack_trains(trains, 0, trains.shape[1] * 8)
    np.add.at(counts, codes, bits[frames].astype(np.int64))


def frames_by_group(pieces, groups):
    return np.bincount(_codes(pieces)[1], minlength=groups).astype(np.int64)
