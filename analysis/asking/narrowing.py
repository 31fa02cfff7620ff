"""Selections narrowed step by step: what users pass to ``select``, read and checked."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from analysis.arguments import QuestionError, as_list, is_boolean, is_single, refuse_type, texts, whole_number
from analysis.asking.kept import kept_text
from analysis.kernels.selecting.selection import Indices, Labels, Selection
from analysis.kernels.selecting.source import Source, common_values, reader_of
from analysis.members import Members, columns_of
from recorder.format.columns import Value, identity
from recorder.format.layout import neuron_dimensions


def conditions(labels: Value | Iterable[Value] | None, where: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values of columns that samples must have; ``labels`` are those of the column of this name."""
    where = {} if where is None else where
    if not isinstance(where, Mapping):
        refuse_type("where", where, 'names of columns and the values wanted, such as {"epoch": 3}')
    if labels is None:
        return dict(where)
    if "label" in where:
        raise QuestionError('labels and where={"label": ...} say the same; give one of them')
    return {**where, "label": labels}


def narrow_frames(
    selection: Selection,
    layers: Sequence[Sequence[Source]],
    members: Members,
    *,
    steps: slice | None,
    time: slice | None,
    samples: int | slice | Iterable[int] | None,
    trials: int | slice | Iterable[int] | None,
    where: Mapping[str, Any],
) -> Selection:
    """A selection of frames of some layers, each in all recordings, narrowed; see `Recording.select`."""
    sources = [source for layer in layers for source in layer]
    one_layer = layers[0] if layers else []
    end = partial(common_steps, layers, members)
    selection = narrow_steps(selection, steps, lambda: recorded_steps(sources), end)
    selection = narrow_time(selection, time, any(source.trials.trials for source in one_layer))
    selection = narrow_samples(selection, samples, lambda: max(map(_largest_batch, sources), default=0))
    selection = narrow_trials(
        selection, trials, max((source.trials.trials for source in one_layer), default=0)
    )
    names = columns_of(one_layer)
    return narrow_where(selection, where, names, lambda stored: common_values(one_layer, stored))


def _largest_batch(source: Source) -> int:
    return int(reader_of(source).segments().batch.max(initial=0))


def common_steps(layers: Sequence[Sequence[Source]], members: Members) -> int:
    """Steps recorded in some layers, to count back from.

    Raises
    ------
    QuestionError
        If recordings that share no steps have different numbers of them.
    """
    each = {recorded_steps(layer[member] for layer in layers) for member in range(len(members.names))}
    if len(each) > 1 and not members.share_steps:
        raise QuestionError(
            f"these recordings have {', '.join(map(str, sorted(each)))} steps, and have nothing to do with "
            "each other: count bounds from 0, or select in each of recording.recordings"
        )
    return max(each)


def recorded_steps(sources: Iterable[Source]) -> int:
    """Steps recorded in these layers, whatever is selected or lost: the number of the last step and one."""
    ends = (reader_of(source).segments().last_step for source in sources)
    return max((int(end[-1]) for end in ends if len(end)), default=0)


def narrow_steps(
    selection: Selection, steps: slice | None, recorded_steps: Callable[[], int], end: Callable[[], int]
) -> Selection:
    """A selection narrowed to some steps.

    Parameters
    ----------
    selection : Selection
    steps : slice or None
        As in Python, without a stride; negative bounds count from the last recorded step.
    recorded_steps : callable
        Returns the number of steps recorded, for a bound that is left out.
    end : callable
        Returns the number of steps that negative bounds are counted back from.
    """
    if steps is None:
        return selection
    if not isinstance(steps, slice):
        refuse_type("steps", steps, "a slice such as slice(1000, 2000)")
    if steps.step not in (None, 1):
        raise QuestionError(f"steps={steps!r} has a stride of {steps.step}; only every step can be selected")
    first = _bound(0 if steps.start is None else steps.start, end)
    last = recorded_steps() if steps.stop is None else _bound(steps.stop, end)
    if selection.steps is not None:
        first, last = max(first, selection.steps[0]), min(last, selection.steps[1])
    return replace(selection, steps=(first, max(first, last)))


def _bound(given: Any, end: Callable[[], int], name: str = "steps") -> int:
    bound = whole_number(given, f"a bound of {name}", "a whole number")
    # Nothing is recorded that late; a bound beyond would not fit the integers that steps are kept in.
    return min(bound, 2**62) if bound >= 0 else max(bound + end(), 0)


def narrow_trials(selection: Selection, trials: int | slice | Iterable[int] | None, begun: int) -> Selection:
    """A selection narrowed to some trials, of which ``begun`` have been begun."""
    if trials is None:
        return selection
    there = f"0 to {begun - 1}" if begun else "none: nothing was recorded inside `with monitor.trial():`"
    chosen = _indices(trials, begun, "trials", f"there is no trial {{}}; the trials are {there}")
    if selection.trials is not None:
        chosen = _in_both(chosen, selection.trials)
    return replace(selection, trials=chosen)


def _in_both(one: Indices, other: Indices) -> Indices:
    """Numbers in both, ascending as each of the two is; ranges are never written out."""
    if isinstance(one, tuple) or isinstance(other, tuple):
        listed, rest = (one, other) if isinstance(one, tuple) else (other, one)
        known = rest if isinstance(rest, range) else set(rest)
        return tuple(number for number in listed if number in known)
    wide, narrow = sorted((one, other), key=lambda numbers: numbers.step, reverse=True)
    first = bisect_left(wide, narrow.start)
    # If there is a common number, one is among the next so many.
    common = next((number for number in wide[first : first + narrow.step] if number in narrow), None)
    if common is None:
        return range(0)
    return range(common, min(one.stop, other.stop), math.lcm(one.step, other.step))


def narrow_where(
    selection: Selection,
    where: Mapping[str, Value | Iterable[Value]] | None,
    columns: Mapping[str, str],
    recorded: Callable[[str], Labels],
) -> Selection:
    """A selection narrowed to samples with some values in columns of the trials.

    Parameters
    ----------
    selection : Selection
    where : mapping of str to value or iterable of values, or None
        By the names of columns.
    columns : mapping of str to str
        Columns of the trials: the names by which they are asked for, and those under which they are stored.
    recorded : callable
        Returns the values of a column, given by the name under which it is stored.
    """
    for name, wanted in (where or {}).items():
        if name != "label" and name not in columns:
            there = ", ".join(map(repr, columns)) or "none: attach some with `with monitor.trial(epoch=...):`"
            raise QuestionError(
                f"where={where!r}: no column of the trials is named {name!r}; they are {there}"
            )
        stored = columns.get(name, name)
        values = recorded(stored) if name in columns else Labels()
        selection = selection.with_condition(stored, _chosen_values(name, wanted, values))
    return selection


def _chosen_values(name: str, wanted: Value | Iterable[Value], valid: Labels) -> Labels:
    given = [value.item() if hasattr(value, "item") else value for value in as_list(wanted)]
    for value in given:
        if not isinstance(value, str | int | float | None):
            refuse_type(f"a {name} that is selected", value, "text, a number, a boolean, or several of them")
    # As the recorder does with whole numbers that come to a column of floats.
    are_floats = all(type(value) is float for value in valid)
    asked = [
        float(value) if are_floats and type(value) is int and value.bit_length() < 1024 else value
        for value in given
    ]
    chosen, known = set(map(identity, asked)), set(map(identity, valid))
    for value, stored in zip(given, asked, strict=True):
        if identity(stored) not in known:
            there = ", ".join(map(repr, valid[:50])) + (", …" if len(valid) > 50 else "")
            there = there or f"none: record them with `with monitor.trial({name}=...):`"
            if name == "label":
                raise QuestionError(f"no sample is labelled {value!r}; the labels are {there}")
            raise QuestionError(f"no sample has the {name} {value!r}; the values are {there}")
    return Labels(value for value in valid if identity(value) in chosen)


def narrow_time(selection: Selection, time: slice | None, has_trials: bool) -> Selection:
    """A selection narrowed to some times: steps since the first one of the trial."""
    if time is None:
        return selection
    if not isinstance(time, slice):
        refuse_type("time", time, "a slice such as slice(0, 4)")
    if time.step not in (None, 1):
        raise QuestionError(f"time={time!r} has a stride of {time.step}; only every time can be selected")
    if not has_trials:
        raise QuestionError(
            "time counts from the first step of a trial, and nothing was recorded inside "
            "`with monitor.trial():`; select steps instead"
        )

    def refuse() -> int:
        raise QuestionError(f"time={time!r} counts back from an end, and trials may be of any length")

    first = _bound(0 if time.start is None else time.start, refuse, "time")
    last = 2**62 if time.stop is None else _bound(time.stop, refuse, "time")
    if selection.times is not None:
        first, last = max(first, selection.times[0]), min(last, selection.times[1])
    return replace(selection, times=(first, max(first, last)))


def narrow_samples(
    selection: Selection, samples: int | slice | Iterable[int] | None, most: Callable[[], int]
) -> Selection:
    """A selection narrowed to some numbers of samples; ``most`` returns the largest size of a batch."""
    if samples is None:
        return selection
    chosen = _indices(samples, most(), "samples")
    if selection.samples is not None:
        chosen = _in_both(chosen, selection.samples)
    return replace(selection, samples=chosen)


def narrow_neurons(source: Source, neurons: Any, channels: Any) -> Selection:
    """The selection of a layer narrowed to some neurons, along each axis; indices are those of the whole."""
    selection, shape, layer = source.selection, source.commit.axes, source.layer
    if neurons is None and channels is None:
        return selection
    chosen = list(source.indices)
    wanted: dict[int, Any] = {}
    if channels is not None:
        if "channel" not in neuron_dimensions(shape):
            raise QuestionError(
                f"layer {layer!r} has no channels: its neuron shape is {shape}{kept_text(source)}; select "
                "neurons"
            )
        wanted[0] = channels
    narrowed = [
        _in_both(chosen[axis], _indices(given, shape[axis], "channels")) for axis, given in wanted.items()
    ]
    chosen[: len(narrowed)] = narrowed
    if neurons is not None:
        along = neurons if isinstance(neurons, tuple) else (neurons,)
        if len(along) != len(shape):
            raise QuestionError(
                f"neurons={neurons!r} selects along {len(along)} axes; layer {layer!r} has the neuron shape "
                f"{shape}{kept_text(source)}: give an index, a slice or a list for each, as in "
                "numpy.s_[:, ::2]"
            )
        for axis, given in enumerate(along):
            name = f"neurons along {neuron_dimensions(shape)[axis]}" if len(shape) > 1 else "neurons"
            chosen[axis] = _in_both(chosen[axis], _indices(given, shape[axis], name))
    if not all(map(len, chosen)):
        raise QuestionError(
            f"no neuron of layer {layer!r} is selected; its neuron shape is {shape}{kept_text(source)}"
        )
    return replace(selection, neurons=tuple(chosen))


def _indices(given: Any, length: int, name: str, unknown: str = "") -> Indices:
    """Numbers below a length that a user gives as one, a slice, several, or a mask; ascending.

    Parameters
    ----------
    given : int, slice, iterable of int, or of bool
        A mask has a boolean for each number.
    length : int
    name : str
        Of what is numbered.
    unknown : str
        What is said of a number that there is not, which is put in for ``{}``.
    """
    expected = f"whole numbers, a slice of them, or a mask of {length} booleans"
    if isinstance(given, slice):
        for bound in (given.start, given.stop, given.step):
            if bound is not None:
                whole_number(bound, f"a bound of {name}", expected)
        if given.step == 0:
            raise QuestionError(f"{name}={given!r} has a stride of 0")
        chosen = range(length)[given]
        return chosen if chosen.step > 0 else chosen[::-1]
    numbers = as_list(given)
    if numbers and all(map(is_boolean, numbers)) and not is_single(given):
        if len(numbers) != length:
            raise QuestionError(
                f"{name} is a mask of {len(numbers)} booleans; expected {length}, one for each"
            )
        return tuple(np.flatnonzero(numbers).tolist())
    numbers = sorted({whole_number(number, name, expected) for number in numbers})
    for number in numbers:
        if not 0 <= number < length:
            there = f"0 to {length - 1}" if length else "none"
            raise QuestionError(
                unknown.format(number) or f"{name}={given!r:.200}: there is no {number}; they are {there}"
            )
    return tuple(numbers)


def narrow_recordings(names: Sequence[str], recordings: str | Iterable[str] | None) -> list[int]:
    """Places of the chosen ones among the recordings of these names, in their order."""
    if recordings is None:
        return list(range(len(names)))
    chosen = texts(recordings, "recordings", "names of recordings")
    unknown = [name for name in chosen if name not in names]
    if unknown or not chosen:
        there = ", ".join(map(repr, names[:50])) + (", …" if len(names) > 50 else "")
        what = f"no recording is named {unknown[0]!r}" if unknown else "no recording is selected"
        raise QuestionError(f"{what}; the recordings are {there}")
    return [place for place, name in enumerate(names) if name in chosen]
