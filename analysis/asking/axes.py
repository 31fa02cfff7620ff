"""The axes of a question: whether they exist, which groups of frames they tell apart, and their names.

Places within a layer are axes that recordings have; axes of frames are worked out from the segments and the
trials of the sources that a question is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.arguments import QuestionError
from analysis.asking.kept import kept_text, refuse_counts
from analysis.kernels.selecting.coding import (
    Axis,
    CodedGroups,
    ColumnAxis,
    GroupAxis,
    PresentationAxis,
    SampleAxis,
    TimeAxis,
)
from analysis.kernels.selecting.grouping import (
    Grouping,
    Groups,
    count_up,
    range_keys,
    range_size,
    unite_ranges,
)
from analysis.kernels.selecting.selection import Labels
from analysis.kernels.selecting.source import Source, common_values, frames_of
from analysis.members import Members
from analysis.questions import Question
from recorder.format.columns import Value
from recorder.format.layout import neuron_dimensions

# Places along an axis at most; a stranger's recording may claim any.
MAX_PLACES: Final = 2**26


def check_axes(sources: Sequence[Source], question: Question, members: Members) -> None:
    """Refuse axes that these layers, given by a source of each, or these recordings do not have.

    Raises
    ------
    QuestionError
        If places are to be kept apart in several layers at once or in a layer that has none, or if steps or
        trials of recordings are to be pooled that have nothing to do with each other.
    """
    for word in question.along:
        if word in ("step", "window", "time"):
            refuse_counts([sources], f"per={word!r}")
    _check_place(sources, question)
    _check_time(question, members)


def _check_place(sources: Sequence[Source], question: Question) -> None:
    if question.place == "all":
        return
    if len(sources) != 1:
        raise QuestionError(
            f"per={question.place!r} tells the {question.place}s of one layer apart, but {len(sources)} "
            f'layers are selected; ask one of them: recording["1"].firing_rate(per="{question.place}"). '
            f"The layers are: {', '.join(repr(source.layer) for source in sources)}"
        )
    source = sources[0]
    if question.place == "channel" and "channel" not in neuron_dimensions(source.commit.axes):
        raise QuestionError(
            f"layer {source.layer!r} has no channels: its neuron shape is {source.commit.axes}"
            f'{kept_text(source)}; use per="neuron"'
        )


def _check_time(question: Question, members: Members) -> None:
    counted = [word for word in question.along if word in ("step", "window", "trial")]
    if not counted or question.recordings or members.share_steps:
        return
    raise QuestionError(
        f"per={counted[0]!r} would pool what has nothing in common: these {len(members.names)} recordings "
        f"are not the ranks of one run, and each counts its own steps and trials. Keep them apart with "
        f'per=("recording", {counted[0]!r}), or look at one of them: select(recordings=...)'
    )


@dataclass(frozen=True, eq=False)
class FrameAxes:
    """The axes of frames that a question keeps apart.

    Attributes
    ----------
    groups : Groups or CodedGroups
        The groups of frames; a single one if nothing is kept apart.
    names : tuple of str
        Of the axes, in the order in which groups have them.
    coordinates : tuple
        Of each axis, the places along it: an array or a pandas.RangeIndex; None for presentations.
    """

    groups: Groups | CodedGroups
    names: tuple[str, ...]
    coordinates: tuple[Any, ...]


def frame_axes(sources: Sequence[Source], question: Question) -> FrameAxes:
    """Work out the axes of frames of a question, from all sources that it is about.

    Raises
    ------
    QuestionError
        If trials are needed and there are none, or an axis is too long.
    """
    if not question.along:
        return FrameAxes(Groups(Grouping(), np.array([[0, 1]])), (), ())
    axes = {word: _axis(word, sources, question) for word in question.along}
    if len(axes) == 1:
        ((name, (axis, coordinate)),) = axes.items()
        if isinstance(axis, GroupAxis):
            return FrameAxes(Groups(axis.groups, axis.ranges), (name,), (coordinate,))
    # Results are cut along the first axis: best if frames come in its order, then if it is long.
    names = sorted(axes, key=lambda name: _rank(axes[name][0]))
    groups = CodedGroups.along([axes[name][0] for name in names])
    return FrameAxes(groups, tuple(names), tuple(axes[name][1] for name in names))


def _rank(axis: Axis) -> tuple[bool, bool, int]:
    return not isinstance(axis, PresentationAxis), axis.grouping is None, -axis.size


def _axis(word: str, sources: Sequence[Source], question: Question) -> tuple[Axis, Any]:
    """An axis, and its coordinate."""
    if word in question.columns:
        values = _values(sources, question.columns[word])
        return ColumnAxis(len(values), question.columns[word], values), value_coordinate(values)
    if word in ("step", "window", "trial"):
        return _group_axis(word, sources, question)
    if word != "sample" and not any((frames_of(source).segments.trial >= 0).any() for source in sources):
        advice = "record with `with monitor.trial():`"
        if any(source.trials.rows for source in sources):
            advice = "trials were recorded: select some of them, and steps, times and samples that they have"
        raise QuestionError(f'per="{word}": no trial is among what is looked at; {advice}')
    if word == "presentation":
        return presentation_axis(sources), None
    size = max(map(_times if word == "time" else _samples, sources), default=0)
    if size > MAX_PLACES:
        raise QuestionError(f'per="{word}" would give {size} values; at most {MAX_PLACES} can be told apart')
    return (TimeAxis if word == "time" else SampleAxis)(size), pd.RangeIndex(size)


def _values(sources: Sequence[Source], name: str) -> Labels:
    """Values of a column, without those that are not selected."""
    values = common_values(sources, name)
    selected = dict(sources[0].selection.where).get(name) if sources else None
    return values if selected is None else Labels(value for value in values if value in selected)


def _times(source: Source) -> int:
    segments, starts = frames_of(source).segments, source.with_starts().starts
    segments = segments.select(segments.trial >= 0)
    if len(segments) == 0 or starts is None:
        return 0
    return int((segments.last_step - starts.of_trials(segments.trial)).max())


def _samples(source: Source) -> int:
    return int(frames_of(source).segments.batch.max(initial=0))


def _group_axis(word: str, sources: Sequence[Source], question: Question) -> tuple[GroupAxis, Any]:
    grouping = _grouping(word, sources, question)
    ranges = unite_ranges([grouping.ranges_of(frames_of(source).segments) for source in sources])
    scale, anchor = (grouping.steps, grouping.anchor) if grouping.kind == "steps" else (1, 0)
    if len(ranges) == 1:
        # A range is an index that takes no memory, however long.
        first, last = ranges[0].tolist()
        coordinate: Any = pd.RangeIndex(anchor + first * scale, anchor + last * scale, scale)
    else:
        coordinate = anchor + range_keys(ranges) * scale
    return GroupAxis(range_size(ranges), grouping, ranges), coordinate


def _grouping(word: str, sources: Sequence[Source], question: Question) -> Grouping:
    if word == "trial":
        return Grouping("trial")
    if word == "step":
        return Grouping("steps")
    selection = sources[0].selection if sources else None
    anchor = selection.steps[0] if selection is not None and selection.steps is not None else 0
    ends = [int(frames_of(s).segments.last_step[-1]) for s in sources if len(frames_of(s).segments)]
    # A window longer than the recording is as good as one of its length, and cannot overflow.
    return Grouping("steps", min(question.window, max([1, *(end - anchor for end in ends)])), anchor)


def presentation_axis(sources: Sequence[Source]) -> PresentationAxis:
    """The axis of presentations: samples 0, 1, … of each trial, as many as the largest batch in any source.

    Samples that are not selected have places too.
    """
    grouping = Grouping("trial")
    ranges = unite_ranges([grouping.ranges_of(frames_of(source).segments) for source in sources])
    # Several layers mostly have the same trials; the table of trials says which samples there were at most.
    trials = range_keys(ranges) if range_size(ranges) <= MAX_PLACES else None
    if trials is None:
        raise QuestionError(f'per="presentation": more than {MAX_PLACES} trials cannot be told apart')
    batch = np.zeros(len(trials), np.int64)
    for source in sources:
        segments = frames_of(source).segments
        inside = segments.select(segments.trial >= 0)
        np.maximum.at(batch, np.searchsorted(trials, inside.trial), inside.batch)
    presentations = sum(batch.tolist())
    if presentations > MAX_PLACES:
        raise QuestionError(
            f'per="presentation" would give {presentations} values; at most {MAX_PLACES} can be told apart'
        )
    base = np.concatenate([[0], np.cumsum(batch)]).astype(np.int64)
    return PresentationAxis(presentations, ranges, base)


def presentations_of(axis: PresentationAxis) -> tuple[Any, Any]:
    """Trial and sample of each place along an axis of presentations, int64."""
    batch = np.diff(axis.base)
    return np.repeat(range_keys(axis.ranges), batch), count_up(batch)


def value_coordinate(values: Sequence[Value]) -> np.ndarray[Any, np.dtype[Any]]:
    """Values as an array: of text, booleans or numbers where all are of one kind, of objects otherwise."""
    kinds = {type(value) for value in values}
    return np.array(values, None if len(kinds) == 1 else object)
