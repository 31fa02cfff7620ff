"""The axes of a question: whether they exist, which groups of frames they tell apart, and their names.

Places within a layer are axes that recordings have; groups along time are worked out from the segments of the
sources that a question is about, or from their labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.kernels.counting import Source, frames_of, labels_of
from analysis.kernels.grouping import Grouping, Groups, LabelGroups, range_keys, unite_ranges
from analysis.members import Members
from analysis.questions import Question, QuestionError
from recorder.format.columns import Value
from recorder.format.layout import neuron_dimensions


def check_axes(sources: Sequence[Source], question: Question, members: Members) -> None:
    """Refuse axes that these layers, given by a source of each, or these recordings do not have.

    Raises
    ------
    QuestionError
        If places are to be kept apart in several layers at once or in a layer that has none, or if steps or
        trials of recordings are to be pooled that have nothing to do with each other.
    """
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
    dimensions = neuron_dimensions(sources[0].commit.plan.neuron_shape)
    if question.place == "channel" and "channel" not in dimensions:
        raise QuestionError(
            f"layer {sources[0].layer!r} has no channels: its neuron shape is "
            f'{sources[0].commit.plan.neuron_shape}; use per="neuron"'
        )


def _check_time(question: Question, members: Members) -> None:
    if question.time in (None, "label") or question.recordings or members.share_steps:
        return
    raise QuestionError(
        f"per={question.time!r} would pool what has nothing in common: these {len(members.names)} recordings "
        f"are not the ranks of one run, and each counts its own steps and trials. Keep them apart with "
        f'per=("recording", {question.time!r}), or look at one of them: select(recordings=...)'
    )


def groups_along_time(sources: Sequence[Source], question: Question) -> tuple[Groups | LabelGroups, Any]:
    """Groups that are kept apart along time, one if nothing is, and their coordinate.

    The coordinate has the step, first step of the window, trial or label of each group; None if there is one.

    Raises
    ------
    QuestionError
        If labels are asked for and none were recorded.
    """
    if question.time is None:
        return Groups(Grouping(), np.array([[0, 1]])), None
    if question.time == "label":
        values = labels_of(sources[0]).values if sources else ()
        if not values:
            raise QuestionError(
                'per="label": no labels were recorded; record with `with monitor.trial(label=...):`'
            )
        return LabelGroups(0, len(values)), label_coordinate(values)
    grouping = _grouping(sources, question)
    ranges = unite_ranges([grouping.ranges_of(frames_of(source).segments) for source in sources])
    scale, anchor = (grouping.steps, grouping.anchor) if grouping.kind == "steps" else (1, 0)
    if len(ranges) == 1:
        # A range is an index that takes no memory, however long.
        first, last = ranges[0].tolist()
        coordinate: Any = pd.RangeIndex(anchor + first * scale, anchor + last * scale, scale)
    else:
        coordinate = anchor + range_keys(ranges) * scale
    return Groups(grouping, ranges), coordinate


def _grouping(sources: Sequence[Source], question: Question) -> Grouping:
    if question.time == "trial":
        return Grouping("trial")
    if question.time == "step":
        return Grouping("steps")
    selection = sources[0].selection if sources else None
    anchor = selection.steps[0] if selection is not None and selection.steps is not None else 0
    ends = [int(frames_of(s).segments.last_step[-1]) for s in sources if len(frames_of(s).segments)]
    # A window longer than the recording is as good as one of its length, and cannot overflow.
    return Grouping("steps", min(question.window, max([1, *(end - anchor for end in ends)])), anchor)


def label_coordinate(values: Sequence[Value]) -> np.ndarray[Any, np.dtype[Any]]:
    """Labels as an array: of text, booleans or numbers where all are of one kind, of objects otherwise."""
    kinds = {type(value) for value in values}
    return np.array(values, None if len(kinds) == 1 else object)
