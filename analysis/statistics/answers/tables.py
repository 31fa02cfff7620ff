"""Lazy tables of spike counts, a row for each presentation, and what is added up over their rows.

Statistics of presentations take three steps. `tables_of` asks for the counts of each layer; blocks of rows
are tallied by functions of `analysis.kernels.tables` and added up, so that no task holds all rows; figures
of neurons are made of the sums, and averaged over what is not kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from analysis.arguments import QuestionError
from analysis.asking.axes import FrameAxes, check_axes, frame_axes, value_coordinate
from analysis.asking.graphs import empty_array
from analysis.kernels.counting.quantities import SPIKES
from analysis.kernels.selecting.coding import ColumnAxis
from analysis.kernels.selecting.grouping import Grouping, Groups
from analysis.kernels.selecting.selection import Labels
from analysis.kernels.selecting.source import Source, column_of, frames_of
from analysis.kernels.tables import Spans, table_rows
from analysis.members import Members
from analysis.questions import Per, Question, parse_question, words_of
from analysis.statistics.answers.answering import Statistic, answer
from analysis.statistics.answers.labelling import join_presentations, labelled
from recorder.format.bits import Integers

COUNTS: Final = Statistic("spike_count", "spikes", SPIKES)
# Words that cut presentations, or keep each apart, which leaves nothing to compare.
CUTTING: Final = ("step", "window", "time", "presentation")


def read_per(
    name: str, per: Per | None, default: Per, columns: Mapping[str, str], allowed: Sequence[str] = ()
) -> Question:
    """Read what is kept apart in a statistic of presentations.

    Raises
    ------
    QuestionError
        If ``per`` makes no sense, or has a word that cuts presentations and is not among ``allowed``.
    """
    words = words_of(default if per is None else per)
    for word in words:
        if word in CUTTING and word not in allowed:
            raise QuestionError(
                f"{name}(per={per!r}) compares presentations, which {word!r} would cut or keep from each "
                "other; look at a part of each by select(time=...), or at some by select(trials=...)"
            )
    return parse_question(words, None, columns)


@dataclass(frozen=True, eq=False)
class Table:
    """Spike counts of the neurons of a layer, a row for each presentation of which there are frames.

    Attributes
    ----------
    layer : sequence of Source
        The layer in each recording.
    counts : dask array of int64, shape [presentations, *neurons] or [presentations, times, *neurons]
        Lazy, cut along presentations alone.
    times : int
        Number of times that are told apart; 1 if none are.
    member : int64 array, shape [presentations]
        Place of the recording of each.
    trial, sample : int64 array, shape [presentations]
    spans : tuple of Spans
        Of each recording that has trials.
    """

    layer: Sequence[Source]
    counts: Any
    times: int
    member: Integers
    trial: Integers
    sample: Integers
    spans: tuple[Spans, ...]

    @property
    def source(self) -> Source:
        """The layer in the first recording."""
        return self.layer[0]

    @property
    def lengths(self) -> Integers:
        """Number of frames of each presentation, int64 [presentations]."""
        return np.concatenate([spans.lengths for spans in self.spans])

    def shown(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Frames that there are: bool [presentations, times]."""
        found = np.zeros((len(self.trial), self.times + 1), np.int64)
        before = np.cumsum([0, *(len(spans.trial) for spans in self.spans)])
        for spans, origin in zip(self.spans, before.tolist(), strict=False):
            np.add.at(found, (spans.row + origin, np.minimum(spans.first, self.times)), 1)
            np.add.at(found, (spans.row + origin, np.minimum(spans.last, self.times)), -1)
        if self.times == 1:
            return np.ones((len(self.trial), 1), np.bool_)
        return np.cumsum(found, axis=1)[:, :-1] > 0

    def rows(self) -> Any:
        """First and last row (exclusive) of each block."""
        return [*pairwise(np.cumsum([0, *self.counts.chunks[0]]).tolist())]

    def block(self, number: int) -> tuple[Any, ...]:
        """Key of a block."""
        return (self.counts.name, number, *(0,) * (self.counts.ndim - 1))

    def in_blocks(self, rows: int) -> Table:
        """The same, cut into blocks of so many presentations."""
        return replace(self, counts=self.counts.rechunk({0: rows}, method="tasks"))


def tables_of(
    name: str, layers: Sequence[Sequence[Source]], members: Members, by_time: bool = False
) -> list[Table]:
    """Lazy counts of each layer; presentations of recordings follow each other.

    Raises
    ------
    QuestionError
        If there are no presentations.
    """
    layers, members = with_trials(name, layers, members)
    return [_table_of(layer, members, by_time) for layer in layers]


def with_trials(
    name: str, layers: Sequence[Sequence[Source]], members: Members
) -> tuple[list[list[Source]], Members]:
    """The layers in those recordings that have presentations of each, and the names of these recordings.

    Raises
    ------
    QuestionError
        If there are none.
    """
    if not layers:
        raise QuestionError(f"{name}() is about layers, and none is recorded")
    there = [
        place
        for place in range(len(members.names))
        if any((frames_of(layer[place]).segments.trial >= 0).any() for layer in layers)
    ]
    if not there:
        raise QuestionError(
            f"{name}() is about presentations, and no trial is among what is looked at; record each batch "
            "with `with monitor.trial(label=...):`"
        )
    kept = [[layer[place].with_starts() for place in there] for layer in layers]
    return kept, members.only(there)


def counts_of(name: str, layer: Sequence[Source], members: Members) -> xr.DataArray:
    """Counts with the table of trials: presentations × neurons, without those that have no frames."""
    several = len(members.names) > 1
    (layer,), members = with_trials(name, [layer], members)
    answers = _answers(layer, members, ("presentation",))
    kept = [each.isel(presentation=_known(each, Spans.of(s))) for each, s in zip(answers, layer, strict=True)]
    return join_presentations(kept, [layer], members) if several else kept[0]


def _table_of(layer: Sequence[Source], members: Members, by_time: bool) -> Table:
    spans = tuple(map(Spans.of, layer))
    along = ("presentation", "time") if by_time else ("presentation",)
    there = [place for place, source in enumerate(layer) if (frames_of(source).segments.trial >= 0).any()]
    answers = _answers([layer[place] for place in there], members, along)
    times = max((each.sizes.get("time", 1) for each in answers), default=1)
    parts = []
    for place, each in zip(there, answers, strict=True):
        kept = each.isel(presentation=_known(each, spans[place]))
        padding = {"time": (0, times - each.sizes["time"])} if by_time else {}
        parts.append((kept.pad(padding, constant_values=0) if any(padding.values()) else kept).data)
    shape = layer[0].neuron_shape
    counts = da.concatenate(parts) if parts else empty_array((0, *([times] * by_time), *shape))
    counts = counts.rechunk(dict.fromkeys(range(1, counts.ndim), -1), method="tasks")
    return Table(
        layer,
        counts,
        times,
        np.repeat(np.arange(len(spans)), [len(each.trial) for each in spans]),
        np.concatenate([each.trial for each in spans]),
        np.concatenate([each.sample for each in spans]),
        spans,
    )


def _answers(layer: Sequence[Source], members: Members, along: tuple[str, ...]) -> list[xr.DataArray]:
    question = Question(recordings=False, layers=False, along=along, window=1, place="neuron")
    alone = members.only([0])
    return [answer(COUNTS, [[source]], question, alone) for source in layer]


def _known(counts: xr.DataArray, spans: Spans) -> Any:
    """Places of the presentations that have frames, among all."""
    trials = np.unique(counts.trial.values)
    samples = int(counts["sample"].max(initial=0)) + 1 if counts.sizes["presentation"] else 1

    def keys(trial: Integers, sample: Integers) -> Any:
        return np.searchsorted(trials, trial) * samples + sample

    found = np.isin(keys(counts.trial.values, counts["sample"].values), keys(spans.trial, spans.sample))
    return slice(None) if found.all() else np.flatnonzero(found)


@dataclass(frozen=True, eq=False)
class Apart:
    """The groups of presentations that a question keeps apart.

    Attributes
    ----------
    question : Question
    members : Members
        Recordings that have presentations.
    layers : sequence of sequence of Source
        Each layer in these.
    names : tuple of str
        Of the axes: ``"recording"``, and words of the question but ``"time"``.
    coordinates : tuple
        Of each axis, the places along it.
    """

    question: Question
    members: Members
    layers: Sequence[Sequence[Source]]
    names: tuple[str, ...]
    coordinates: tuple[Any, ...]

    @classmethod
    def of(cls, name: str, layers: Sequence[Sequence[Source]], question: Question, members: Members) -> Apart:
        """The groups; errors if there are no presentations, or as in `analysis.asking.axes.check_axes`."""
        layers, members = with_trials(name, layers, members)
        check_axes([layer[0] for layer in layers], question, members)
        sources = [source for layer in layers for source in layer]
        words = [word for word in question.along if word != "time"]
        coordinates = [coordinate_of(word, sources, question.columns) for word in words]
        if question.recordings:
            words, coordinates = ["recording", *words], [members.names, *coordinates]
        return cls(question, members, layers, tuple(words), tuple(coordinates))

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(map(len, self.coordinates))

    def codes(self, table: Table) -> Integers:
        """Group of each presentation, -1 for none: int64 [presentations]."""
        found = np.zeros(len(table.trial), np.int64)
        for name, coordinate in zip(self.names, self.coordinates, strict=True):
            place = places_along(name, coordinate, table, self.question.columns)
            found = np.where((found < 0) | (place < 0), -1, found * len(coordinate) + place)
        return found

    def label(self, values: Any, layer: Sequence[Source], times: int | None = None) -> xr.DataArray:
        """Figures of a layer, [groups, *places] or [groups, times, *places], with their coordinates."""
        question = replace(self.question, layers=False)
        names, coordinates = list(self.names), list(self.coordinates)
        if question.recordings:
            names, coordinates = names[1:], coordinates[1:]
        if times is not None:
            names, coordinates = [*names, "time"], [*coordinates, pd.RangeIndex(times)]
        coordinates = [value_coordinate(c) if isinstance(c, Labels) else c for c in coordinates]
        axes = FrameAxes(Groups(Grouping(), np.array([[0, 1]])), tuple(names), tuple(coordinates))
        values = values.reshape((*self.shape, *values.shape[1:]))
        return labelled(values, question, axes, [layer], self.members)


def coordinate_of(word: str, sources: Sequence[Source], columns: Mapping[str, str]) -> Any:
    """Places along an axis of trials, samples or values of a column."""
    along = Question(False, False, (word,), 1, "all", columns)
    axes = frame_axes(sources, along)
    first = getattr(axes.groups, "axes", (None,))[0]
    return first.values if isinstance(first, ColumnAxis) else axes.coordinates[0]


def places_along(name: str, coordinate: Any, table: Table, columns: Mapping[str, str]) -> Integers:
    """Place of each presentation along an axis, -1 for none: int64 [presentations]."""
    if name == "recording":
        return table.member
    if name not in columns:
        return table.sample if name == "sample" else np.searchsorted(coordinate, table.trial)
    found = np.full(len(table.trial), -1, np.int64)
    for member, source in enumerate(table.layer):
        inside = table.member == member
        rows = table_rows(source, table.trial[inside], table.sample[inside])
        found[inside] = np.append(column_of(source, columns[name], coordinate).code, -1)[rows]
    return found
