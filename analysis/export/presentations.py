"""The presentations of a recording: which there are, at which steps, and what is attached to each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis.kernels.selecting.grouping import count_up
from analysis.kernels.selecting.selection import contains
from analysis.kernels.selecting.source import Source, column_of, frames_of, rows_of
from recorder.format.bits import Bools, Integers
from recorder.format.layout import NO_TRIAL
from recorder.format.segments import Segments, merge_ranges


@dataclass(frozen=True, eq=False)
class Presentations:
    """The presentations of one recording, in the order of their trials' first steps, then of their samples.

    Steps outside of trials are taken for presentations of no trial: each run of them, and each sample of it,
    is one. A *stretch* is the steps of one trial, or such a run.

    Attributes
    ----------
    trial : int64 array, shape [presentations]
        -1 for none.
    sample, first_step, steps : int64 array, shape [presentations]
        Sample of the batch; first step at which some layer has a selected frame of it, and the steps from
        there to the last one, gaps included.
    row : int64 array, shape [presentations]
        Row in the table of trials, -1 for none.
    stretch_trial, stretch_step : int64 array, shape [stretches]
        Trial and first step of each stretch, ascending by step.
    place_at : int64 array, shape [stretches]
    place : int64 array
        Sample ``s`` of stretch ``i`` is presentation ``place[place_at[i] + s]``, or -1 if it is left out.
    """

    trial: Integers
    sample: Integers
    first_step: Integers
    steps: Integers
    row: Integers
    stretch_trial: Integers
    stretch_step: Integers
    place_at: Integers
    place: Integers

    def __len__(self) -> int:
        return len(self.trial)

    def stretches_of(self, segments: Segments) -> Integers:
        """The stretch of each of some segments of the recording, all of them selected."""
        found = np.empty(len(segments), np.int64)
        inside = segments.trial >= 0
        numbered, runs = (
            np.flatnonzero(which) for which in (self.stretch_trial >= 0, self.stretch_trial < 0)
        )
        order = numbered[np.argsort(self.stretch_trial[numbered], kind="stable")]
        found[inside] = order[np.searchsorted(self.stretch_trial[order], segments.trial[inside])]
        step = segments.first_step[~inside]
        found[~inside] = runs[np.searchsorted(self.stretch_step[runs], step, side="right") - 1]
        return found


def presentations_of(source: Source) -> Presentations:
    """The presentations in the selected frames of any layer of the recording of a source.

    Raises
    ------
    RecordingFormatError
        If the table of segments or of trials is damaged.
    """
    selection = replace(source.selection, neurons=None)
    rows = known = np.empty((0, 4), np.int64)
    for commit in source.siblings or (source.commit,):
        layer = replace(source, layer=commit.name, commit=commit, selection=selection)
        segments = frames_of(layer).segments
        of_layer = np.stack([segments.trial, segments.first_step, segments.last_step, segments.batch], axis=1)
        # Most layers have the segments of the one before.
        if not np.array_equal(of_layer, known):
            known, rows = of_layer, np.unique(np.concatenate([rows, of_layer]), axis=0)
    trial, first, last, batch = rows.T
    stretch, of_stretch = _stretches(trial, first, last)
    steps = of_stretch[1]
    longest = np.zeros(len(steps), np.int64)
    np.maximum.at(longest, stretch, batch)
    place_at = np.cumsum(longest) - longest
    begins = np.full(int(longest.sum()), np.iinfo(np.int64).max)
    ends = np.full(len(begins), -1, np.int64)
    slot = np.repeat(place_at[stretch], batch) + count_up(batch)
    np.minimum.at(begins, slot, np.repeat(first, batch))
    np.maximum.at(ends, slot, np.repeat(last, batch))
    of_slot, sample = np.repeat(np.arange(len(steps)), longest), count_up(longest)
    row, chosen = _rows(source, of_stretch, longest, of_slot, sample)
    kept = (ends >= 0) & chosen
    place = np.full(len(begins), -1, np.int64)
    place[kept] = np.arange(int(kept.sum()))
    return Presentations(
        trial=of_stretch[0][of_slot[kept]],
        sample=sample[kept],
        first_step=begins[kept],
        steps=(ends - begins)[kept],
        row=row[kept],
        stretch_trial=of_stretch[0],
        stretch_step=steps,
        place_at=place_at,
        place=place,
    )


def _stretches(trial: Integers, first: Integers, last: Integers) -> tuple[Integers, Integers]:
    """The stretch of each row, and trial and first step of each stretch, int64 [2, stretches]."""
    inside = trial >= 0
    numbers, which = np.unique(trial[inside], return_inverse=True)
    begins = np.full(len(numbers), np.iinfo(np.int64).max)
    np.minimum.at(begins, which, first[inside])
    runs = merge_ranges(np.stack([first, last], axis=1)[~inside])
    both = np.stack(
        [
            np.concatenate([numbers, np.full(len(runs), NO_TRIAL)]),
            np.concatenate([begins, runs[:, 0]]),
        ]
    )
    stretch = np.empty(len(trial), np.int64)
    stretch[inside] = which
    stretch[~inside] = len(numbers) + np.searchsorted(runs[:, 0], first[~inside], side="right") - 1
    order = np.argsort(both[1], kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[stretch], both[:, order]


def _rows(
    source: Source, of_stretch: Integers, longest: Integers, stretch: Integers, sample: Integers
) -> tuple[Integers, Bools]:
    """Row of each sample of a stretch in the table of trials, -1 for none; and whether it is selected."""
    selection = source.selection
    nothing = np.zeros_like(longest)
    table = Segments(np.stack([nothing, of_stretch[1], nothing + 1, longest, of_stretch[0]], axis=1))
    first, known = rows_of(source).of_segments(table)
    row = np.where(sample < known[stretch], first[stretch] + sample, -1)
    chosen = np.ones(len(sample), np.bool_)
    if selection.samples is not None:
        chosen &= contains(selection.samples, sample)
    for name, values in selection.where:
        chosen &= np.append(column_of(source, name, values).code >= 0, False)[row]
    return row, chosen
