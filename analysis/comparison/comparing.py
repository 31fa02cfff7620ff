"""Compare two recordings, or two layers: chip and simulation, today's code and last month's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import delayed

from analysis.arguments import ArgumentTypeError, QuestionError, text, whole_number
from analysis.asking.kept import refuse_counts
from analysis.comparison.pairing import pairing_of
from analysis.comparison.results import Comparison, Divergence, LayerComparison
from analysis.comparison.signals import SignalWork, common_signals, divergence_at
from analysis.display import shape_text
from analysis.kernels.comparing import (
    Alignment,
    Differences,
    add_differences,
    bounds_of,
    compare_frames,
    first_unmatched,
)
from analysis.kernels.selecting.source import Source, frames_of, real_neurons
from analysis.layer import Layer
from analysis.recording import Recording
from recorder.format.bits import Counts, Integers
from recorder.format.layout import neuron_dimensions
from recorder.format.record.parts import Indices, kept_indices
from spiketape_worker import Parcel

TASK_BYTES: Final = 32 * 2**20
# Longest axis of time or samples along which differences are told apart.
MAX_PLACES: Final = 2**24


def compare(
    a: Recording | Layer,
    b: Recording | Layer,
    *,
    by: str | None = None,
    within: int = 0,
    run: Callable[..., tuple[Any, ...]] = compute,
) -> Comparison:
    """Compare two recordings, or two layers, bit by bit; computed at once, on the active Dask scheduler.

    Frames stand for each other if they have the same time in the same trial, for the same sample: the time is
    the step minus the first step of the trial, so that the steps themselves may differ. Frames outside of
    trials stand for those of the same step. Selections are heeded; lost frames are as if they had not been
    recorded. Memory does not grow with the length of the recordings. What the trials carry, such as labels,
    is not compared: recordings of the same spikes and signals are equal whatever their labels.

    Parameters
    ----------
    a, b : Recording, or Layer
        Layers of one name must have one neuron shape, of which the same neurons were kept and are selected.
        Several recordings that were opened as one are compared in their order, each with its counterpart.
    by : str, optional
        Name of a column of the trials that tells which presentations stand for each other, such as the number
        of an image, where these came in another order. The n-th presentation of a value in a stands for the
        n-th in b.
    within : int
        Steps by which a spike may be off to count for the agreement. Signals of the same name are compared,
        too: value by value, at the same frames.
    run : callable
        Function that computes, as `dask.compute` does.

    Raises
    ------
    QuestionError
        If these cannot be compared, or there is no such column.
    RecordingFormatError
        If something is missing or damaged; it names file, layer and frames.

    Examples
    --------
    >>> analysis.compare(chip, simulation, within=1)  # doctest: +SKIP
    """
    _check(a, b)
    within = whole_number(within, "within", "a number of steps", least=0)
    by = None if by is None else text(by, "by", "the name of a column of the trials")
    ones, others = _layers_of(a), _layers_of(b)
    if isinstance(a, Layer):
        others = dict(zip(ones, others.values(), strict=True))
    common = [name for name in ones if name in others]
    for name in common:
        _check_alike(name, ones[name], others[name])
    members = range(len(ones[common[0]]) if common else 0)
    pairings = [
        pairing_of([ones[name][member] for name in common], [others[name][member] for name in common], by)
        for member in members
    ]
    work = [
        _Work(place, member, ones[name][member], others[name][member], *pairings[member], within)
        for place, name in enumerate(common)
        for member in members
    ]
    signals, signals_only_in = _signal_work(common, ones, others, pairings)
    every: list[_Work | SignalWork] = [*work, *signals]
    results = iter(run(*(task for one in every for task in one.tasks)))
    for one in every:
        one.take(results)
    # Where frames are left over; no spikes are read for it.
    searches = [task for one in work for task in one.searches()]
    found = iter(run(*searches) if searches else ())
    for one in work:
        one.take_searches(found)
    names = a.members.names, b.members.names
    layers = {
        name: _layer_comparison(name, [one for one in work if one.place == place], within, names)
        for place, name in enumerate(common)
    }
    differing = [one for one in work if one.found.first is not None]
    first = min(differing, key=_Work.order, default=None)
    return Comparison(
        layers=layers,
        only_in=(tuple(n for n in ones if n not in others), tuple(n for n in others if n not in ones)),
        first=None if first is None else first.divergence(a.members.names),
        within=within,
        names=(_name_of(a), _name_of(b)),
        signals={
            (found.layer, found.name): found for found in (one.result(a.members.names) for one in signals)
        },
        signals_only_in=signals_only_in,
    )


def _signal_work(
    common: Sequence[str],
    ones: Mapping[str, Sequence[Source]],
    others: Mapping[str, Sequence[Source]],
    pairings: Sequence[tuple[Alignment, Alignment]],
) -> tuple[list[SignalWork], Any]:
    """What compares the signals of layers that both have, and signals that only one of them has."""
    work, only_a, only_b = [], [], []
    for name in common:
        names, of_a, of_b = common_signals(ones[name], others[name])
        only_a += [(name, signal) for signal in of_a]
        only_b += [(name, signal) for signal in of_b]
        there = [pairing for pairing, _ in pairings]
        work += [SignalWork(signal, ones[name], others[name], there, TASK_BYTES) for signal in names]
    return work, (tuple(only_a), tuple(only_b))


def _check(a: Any, b: Any) -> None:
    for which, given in (("a", a), ("b", b)):
        if not isinstance(given, Recording | Layer):
            raise ArgumentTypeError(f"{which} is a {type(given).__name__}; expected a Recording or a Layer")
    if type(a) is not type(b):
        raise QuestionError(
            f"a is a {type(a).__name__} and b is a {type(b).__name__}; compare two recordings or two layers"
        )


def _layers_of(given: Recording | Layer) -> dict[str, Sequence[Source]]:
    if isinstance(given, Layer):
        return {given.name: given.sources}
    return {name: layer.sources for name, layer in given.layers.items()}


def _name_of(given: Recording | Layer) -> str:
    if isinstance(given, Layer):
        return f"layer {given.name!r} of {given.sources[0].store.location}"
    return given.location


def _check_alike(name: str, one: Sequence[Source], other: Sequence[Source]) -> None:
    refuse_counts([one, other], "compare()")
    commits = one[0].commit, other[0].commit
    shapes = tuple(commit.shape for commit in commits)
    if shapes[0] != shapes[1]:
        raise QuestionError(
            f"layer {name!r} has {shape_text(shapes[0])} neurons in a and {shape_text(shapes[1])} in b: no "
            "slot of the one stands for one of the other. Select other layers"
        )
    # Slices and flat indices may stand for the same neurons; then these are stored in the same order.
    if one[0].along != other[0].along and not np.array_equal(_neurons(one[0]), _neurons(other[0])):
        if one[0].selection.neurons != other[0].selection.neurons:
            raise QuestionError(
                f"of layer {name!r}, {one[0].neurons} neurons are selected in a and {other[0].neurons} in b, "
                "which are not the same ones; select the same neurons of both"
            )
        raise QuestionError(
            f"of layer {name!r}, {commits[0].part or 'all'} is kept in a and {commits[1].part or 'all'} in "
            "b, which are not the same neurons. Select other layers"
        )
    if len(one) != len(other):
        raise QuestionError(
            f"a is {len(one)} recordings opened as one, and b is {len(other)}: compare as many with as many"
        )


def _neurons(source: Source) -> Integers:
    """Flat indices in the whole layer of the neurons that are compared."""
    commit = source.commit
    if source.selection.neurons is not None:
        return real_neurons(source)
    return kept_indices(commit.shape, commit.part.neurons if commit.part else None)


class _Work:
    """The tasks that compare one layer in one recording with its counterpart, and what they have found."""

    def __init__(
        self,
        place: int,
        member: int,
        one: Source,
        other: Source,
        there: Alignment,
        back: Alignment,
        within: int,
    ) -> None:
        self.place, self.member, self.one, self.other = place, member, one, other
        self._there_by, self._back_by = there, back
        self._sought: list[list[Any]] = []
        self._unmatched: list[list[int | None]] = []
        self._there = _tasks(one, other, there, within)
        # Which spikes of b have one of a near them is asked the other way round.
        self._back = _tasks(other, one, back, within) if within else []
        self.found = Differences.nothing(one.neurons)
        self.near_back = 0

    @property
    def tasks(self) -> list[Any]:
        """All tasks, in the order in which `take` takes their results."""
        return [*self._there, *self._back]

    def take(self, results: Iterator[Differences]) -> None:
        """Take the results of the tasks."""
        self.found = add_differences([self.found, *islice(results, len(self._there))])
        self.near_back = sum(part.near for part in islice(results, len(self._back)))

    def searches(self) -> list[Any]:
        """Tasks that look for frames without a counterpart, where there are any, of a and then of b."""
        sides = (self.one, self.other, self._there_by), (self.other, self.one, self._back_by)
        self._sought = []
        for one, other, alignment in sides:
            sent = Parcel(one), Parcel(other), Parcel(alignment)
            has_some = frames_of(one).frames > self.found.frames
            bounds = bounds_of(one, TASK_BYTES) if has_some else ()
            self._sought.append([delayed(Parcel(first_unmatched))(*sent, *ends) for ends in bounds])
        return [task for side in self._sought for task in side]

    def take_searches(self, results: Iterator[int | None]) -> None:
        """Take the results of `searches`."""
        self._unmatched = [[*islice(results, len(side))] for side in self._sought]

    def unmatched(self, names: Sequence[Sequence[str]]) -> list[Divergence | None]:
        """The first frame of a, and of b, without a counterpart."""
        found: list[Divergence | None] = []
        for side, source, alignment, of in zip(
            self._unmatched, (self.one, self.other), (self._there_by, self._back_by), names, strict=True
        ):
            frame = next((frame for frame in side if frame is not None), None)
            at = None if frame is None else divergence_at(source, frame, (), alignment, of[self.member])
            found.append(at)
        return found

    def order(self) -> tuple[int, int, int, int, int]:
        """Sorts by step, recording, layer, sample and neuron of the first difference."""
        _, neuron = self.found.first or (0, 0)
        first = self.divergence([""] * (self.member + 1))
        return first.step, self.member, self.place, first.sample, neuron

    def divergence(self, names: Sequence[str]) -> Divergence:
        """The first difference."""
        frame, neuron = self.found.first or (0, 0)
        shape, flat = self.one.commit.axes, int(real_neurons(self.one)[neuron])
        place = tuple(int(index) for index in np.unravel_index(flat, shape)) if shape else ()
        return divergence_at(self.one, frame, place, self._there_by, names[self.member])


def _tasks(one: Source, other: Source, alignment: Alignment, within: int) -> list[Any]:
    sent = Parcel(one), Parcel(other), Parcel(alignment)
    lengths = _lengths(one, alignment.starts[0])
    # No spike is off by more steps than the longest sequence has.
    within = min(within, max(lengths[0], _lengths(other, alignment.starts[1])[0]))
    return [
        delayed(Parcel(compare_frames))(*sent, first, last, *lengths, within)
        for first, last in bounds_of(one, TASK_BYTES)
    ]


def _lengths(source: Source, starts: Integers) -> tuple[int, int]:
    """Lengths of the axes of time and of samples of a layer."""
    segments = frames_of(source).segments
    if len(segments) == 0:
        return 0, 0
    in_trial = segments.trial >= 0
    start = np.where(in_trial, starts[np.where(in_trial, segments.trial, 0)] if len(starts) else 0, 0)
    times, samples = int((segments.last_step - start).max()), int(segments.batch.max())
    if max(times, samples) > MAX_PLACES:
        raise QuestionError(
            f"layer {source.layer!r} has {times} steps in one sequence, and {samples} samples; at most "
            f"{MAX_PLACES} are told apart. Select fewer steps"
        )
    return times, samples


def _layer_comparison(
    name: str, work: Sequence[_Work], within: int, names: Sequence[Sequence[str]]
) -> LayerComparison:
    shape, along = work[0].one.neuron_shape, work[0].one.along
    found = add_differences([one.found for one in work])
    differing = found.only_one + found.only_other + found.unlike
    common = found.spikes[0] - int(found.only_one.sum())
    near = found.near, sum(one.near_back for one in work)
    frames = [(frames_of(one.one).frames, frames_of(one.other).frames) for one in work]
    alone = [
        min((at for at in side if at is not None), key=lambda at: at.step, default=None)
        for side in zip(*(one.unmatched(names) for one in work), strict=True)
    ]
    return LayerComparison(
        name=name,
        frames=found.frames,
        unmatched=(
            sum(of_a for of_a, _ in frames) - found.frames,
            sum(of_b for _, of_b in frames) - found.frames,
        ),
        slots=found.frames * math.prod(shape),
        differing=int(differing.sum()),
        unlike=int(found.unlike.sum()),
        spikes=found.spikes,
        only_a=_of_neurons(found.only_one, shape, along, "only_a"),
        only_b=_of_neurons(found.only_other, shape, along, "only_b"),
        by_neuron=_of_neurons(differing, shape, along, "differing"),
        by_time=_along("time", found.by_time),
        by_sample=_along("sample", found.by_sample),
        near=near if within else (common, common),
        first_unmatched=(alone[0], alone[1]),
    )


def _of_neurons(
    values: Counts, shape: tuple[int, ...], along: Sequence[Indices] | None, name: str
) -> xr.DataArray:
    names = neuron_dimensions(shape)
    coordinates = dict(zip(names, map(np.array, along or ()), strict=False))
    return xr.DataArray(values.reshape(shape), dims=names, coords=coordinates, name=name)


def _along(dimension: str, values: Counts) -> xr.DataArray:
    coordinates = {dimension: np.arange(len(values))}
    return xr.DataArray(values, dims=[dimension], coords=coordinates, name="differing")
