"""From what a user passes to ``select`` to a `Selection`: checked, and laid over the one that is there."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from analysis.errors import QuestionError
from recorder.format.selection import Selection
from recorder.format.trials import Value


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
        raise TypeError(
            f"steps is {steps!r} ({type(steps).__name__}); expected a slice such as slice(1000, 2000)"
        )
    if steps.step not in (None, 1):
        raise QuestionError(f"steps={steps!r} has a stride of {steps.step}; only every step can be selected")
    first = _bound(0 if steps.start is None else steps.start, end)
    last = recorded_steps() if steps.stop is None else _bound(steps.stop, end)
    if selection.steps is not None:
        first, last = max(first, selection.steps[0]), min(last, selection.steps[1])
    return Selection((first, max(first, last)), selection.trials, selection.labels)


def _bound(given: Any, end: Callable[[], int]) -> int:
    try:
        bound = operator.index(given)
    except TypeError:
        raise TypeError(
            f"steps has the bound {given!r} ({type(given).__name__}); expected whole numbers"
        ) from None
    # Nothing is recorded that late; a bound beyond would not fit the integers that steps are kept in.
    return min(bound, 2**62) if bound >= 0 else max(bound + end(), 0)


def narrow_trials(selection: Selection, trials: int | slice | Iterable[int] | None, begun: int) -> Selection:
    """A selection narrowed to some trials, of which ``begun`` have been begun."""
    if trials is None:
        return selection
    if isinstance(trials, slice):
        chosen = set(range(begun)[trials])
    else:
        listed = _listed(trials)
        try:
            chosen = {operator.index(trial) for trial in listed}
        except TypeError:
            raise TypeError(f"trials is {trials!r}; expected numbers of trials, or a slice of them") from None
        unknown = sorted(trial for trial in chosen if not 0 <= trial < begun)
        if unknown:
            there = (
                f"0 to {begun - 1}" if begun else "none: nothing was recorded inside `with monitor.trial():`"
            )
            raise QuestionError(f"there is no trial {unknown[0]}; the trials are {there}")
    if selection.trials is not None:
        chosen &= set(selection.trials)
    return Selection(selection.steps, tuple(sorted(chosen)), selection.labels)


def narrow_labels(
    selection: Selection, labels: Value | Iterable[Value] | None, recorded: Callable[[], Sequence[Value]]
) -> Selection:
    """A selection narrowed to samples with some labels; ``recorded`` returns the labels there are."""
    if labels is None:
        return selection
    valid = recorded()
    chosen: list[Value] = [value.item() if hasattr(value, "item") else value for value in _listed(labels)]
    for value in chosen:
        if value not in valid:
            there = ", ".join(map(repr, valid[:50])) + (", …" if len(valid) > 50 else "")
            there = there or "none: record them with `with monitor.trial(label=...):`"
            raise QuestionError(f"no sample is labelled {value!r}; the labels are {there}")
    kept = tuple(value for value in valid if value in chosen)
    if selection.labels is not None:
        kept = tuple(value for value in kept if value in selection.labels)
    return Selection(selection.steps, selection.trials, kept)


def narrow_recordings(names: Sequence[str], recordings: str | Iterable[str] | None) -> list[int]:
    """Places of the chosen ones among the recordings of these names, in their order."""
    if recordings is None:
        return list(range(len(names)))
    chosen = _listed(recordings)
    unknown = [name for name in chosen if name not in names]
    if unknown or not chosen:
        there = ", ".join(map(repr, names[:50])) + (", …" if len(names) > 50 else "")
        what = f"no recording is named {unknown[0]!r}" if unknown else "no recording is selected"
        raise QuestionError(f"{what}; the recordings are {there}")
    return [place for place, name in enumerate(names) if name in chosen]


def _listed(given: Any) -> list[Any]:
    """Several values as a list, a single one as a list of it."""
    if isinstance(given, str) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        return [given]
    return list(given)
