"""Pair the frames of two recordings: by trial, time and sample, or by a column of the trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np

from analysis.arguments import QuestionError
from analysis.kernels.booleans import column_values
from analysis.kernels.comparing import Alignment
from analysis.kernels.selecting.source import Source, reader_of
from analysis.members import columns_of
from recorder.format.bits import Integers
from recorder.format.columns import KEYS, identity


def _starts(sources: Sequence[Source]) -> Integers:
    """First step of each trial of a recording, in any of some layers; -1 for trials not presented."""
    segments = [reader_of(source).segments() for source in sources]
    trials = max((int(some.trial.max()) + 1 for some in segments if len(some)), default=0)
    starts = np.full(trials, np.iinfo(np.int64).max)
    for some in segments:
        inside = some.trial >= 0
        np.minimum.at(starts, some.trial[inside], some.first_step[inside])
    return np.where(starts == np.iinfo(np.int64).max, -1, starts)


def pairing_of(
    ones: Sequence[Source], others: Sequence[Source], by: str | None
) -> tuple[Alignment, Alignment]:
    """The rules from a recording to its counterpart, and back.

    Parameters
    ----------
    ones, others : sequence of Source
        Layers of the one recording, and of the other; one at least.
    by : str, optional
        Column of the trials that tells which presentations stand for each other.

    Raises
    ------
    QuestionError
        If there is no such column.
    """
    starts = _starts(ones), _starts(others)
    if by is None:
        return Alignment(starts), Alignment(starts[::-1])
    tables = _presentations(ones[0], by), _presentations(others[0], by)
    there, back = _partners(*tables), _partners(*reversed(tables))
    return Alignment(starts, *there), Alignment(starts[::-1], *back)


_Table = tuple[Integers, Integers, list[Any]]


def _presentations(source: Source, by: str) -> _Table:
    """Trial, sample and value of a column, of each presentation of a recording."""
    columns = columns_of([source])
    if by not in columns:
        there = ", ".join(map(repr, columns)) or "none"
        raise QuestionError(f"by={by!r}: {source.store.location} has no such column; the columns are {there}")
    trial, sample, values = (column_values(source, name)[:-1] for name in (*KEYS, columns[by]))
    return trial, sample, values.tolist()


def _partners(one: _Table, other: _Table) -> tuple[Integers, Integers]:
    """For each row of one table the trial and sample of the other; see `Alignment`."""
    places: dict[Any, Iterator[int]] = {}
    known: dict[Any, list[int]] = {}
    for row, value in enumerate(other[2]):
        known.setdefault(identity(value), []).append(row)
    partners = np.full((2, len(one[2])), -1, np.int64)
    for row, value in enumerate(one[2]):
        key = identity(value)
        at = next(places.setdefault(key, count()))
        rows = known.get(key, ())
        if at < len(rows):
            partners[:, row] = other[0][rows[at]], other[1][rows[at]]
    trials = int(one[0].max()) + 1 if len(one[0]) else 0
    first_row = np.full(trials, -1, np.int64)
    begins = np.flatnonzero(one[1] == 0)
    first_row[one[0][begins]] = begins
    return first_row, partners
