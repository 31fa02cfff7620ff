"""The table of trials: one row for each sample of each trial, with its label and what the user attached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from recorder.format.layout import NO_TRIAL
from recorder.format.metadata import ColumnKind, TrialsCommit

KEYS: Final = ("trial", "sample")
MISSING_INTEGER: Final = int(np.iinfo(np.int64).min)

Value = str | int | float | bool


def as_values(name: str, given: Any, batch: int | None) -> list[Value]:
    """Turn what a user passed for one column of a trial into a list of values, one for each sample.

    Parameters
    ----------
    name : str
        Name of the column, for errors.
    given : scalar, sequence or array
        One value for all samples, or one for each; any object with ``tolist`` (numpy, torch) is accepted.
    batch : int or None
        Samples of the trial. While it is unknown (None), a scalar becomes a list of one value.

    Raises
    ------
    ValueError
        If there are not as many values as samples.
    TypeError
        If a value is neither text, number nor boolean.
    """
    listed = given.tolist() if hasattr(given, "tolist") else given
    values = list(listed) if isinstance(listed, Sequence) and not isinstance(listed, str) else None
    if values is None:
        values = [listed] * (1 if batch is None else batch)
    elif batch is not None and len(values) != batch:
        raise ValueError(
            f"{name} has {len(values)} values, but each step of the trial has a batch of {batch}; "
            "give one value for each sample, or a single one for all"
        )
    values = [value.item() if hasattr(value, "item") else value for value in values]
    for value in values:
        if not isinstance(value, Value) or (isinstance(value, int) and abs(value) >= 2**63):
            raise TypeError(
                f"{name} holds {value!r} ({type(value).__name__}); expected text, a boolean or a number "
                "(whole ones below 2**63) for each sample"
            )
    return values


@dataclass
class _OpenTrial:
    number: int
    columns: Mapping[str, Any]
    batch: int = 0


class TrialLog:
    """Trials as they are presented: at most one is open at a time.

    The labels of a trial are taken down with its first frames, so that they are as safe as these. A trial in
    which nothing was recorded leaves no trace: the next one has its number.

    Parameters
    ----------
    kept : TrialsCommit, optional
        The committed table of a resumed recording, which goes on.

    Attributes
    ----------
    trials : int
        Trials begun so far; the number of the next one.
    number : int
        Of the open trial; `NO_TRIAL` if none is open.
    """

    def __init__(self, kept: TrialsCommit | None = None) -> None:
        self.trials = kept.trials if kept else 0
        self.number = NO_TRIAL
        self._open: _OpenTrial | None = None
        self._kinds: dict[str, ColumnKind] = {c.name: c.kind for c in kept.columns} if kept else {}
        self._presented: list[tuple[int, int, dict[str, list[Value]]]] = []

    def begin(self, columns: Mapping[str, Any]) -> None:
        """Open a trial.

        Parameters
        ----------
        columns : mapping
            For each name a value, or one for each sample.

        Raises
        ------
        RuntimeError
            If one is open already.
        ValueError
            If a column has a name that every recording has.
        TypeError
            If values cannot be stored, or are of another kind than the column.
        """
        self.refuse_open("a trial cannot begin inside another. Leave its `with` block first.")
        self._check({name: as_values(f"trial(): {name}", given, None) for name, given in columns.items()})
        self._open = _OpenTrial(self.trials, dict(columns))
        self.number = self.trials

    def end(self) -> None:
        """Close the open trial."""
        self._open, self.number = None, NO_TRIAL

    def refuse_open(self, what: str) -> None:
        """Raise RuntimeError, which says ``what``, if a trial is open."""
        if self._open is not None:
            raise RuntimeError(f"trial {self._open.number} is still open; {what}")

    @property
    def is_noted(self) -> bool:
        """Whether the labels of the open trial are taken down; also if none is open."""
        return self._open is None or self._open.batch > 0

    def check_batch(self, place: str, batch: int) -> None:
        """Raise ValueError, naming ``place``, if the values of the open trial do not fit a batch."""
        if self._open is not None and self._open.batch != batch:
            for name, given in self._open.columns.items():
                as_values(f"trial {self._open.number}, {place}: {name}", given, batch)

    def note(self, batch: int) -> None:
        """Note that frames of the open trial, if there is one, have come: so many samples at a step."""
        trial = self._open
        if trial is not None and batch > trial.batch:
            trial.batch = batch
            self.trials = trial.number + 1
            columns = {name: as_values(name, given, batch) for name, given in trial.columns.items()}
            self._check(columns)
            for name, values in columns.items():
                self._kinds.setdefault(name, kind_of(values))
            self._presented.append((trial.number, batch, columns))

    def take(self) -> list[tuple[int, int, dict[str, list[Value]]]]:
        """Trials noted since the last call, each as (trial, batch, columns)."""
        presented, self._presented = self._presented, []
        return presented

    def _check(self, columns: Mapping[str, list[Value]]) -> None:
        """Raise if columns cannot join the table: ValueError for their name, TypeError for their kind."""
        for name, values in columns.items():
            if name in KEYS:
                raise ValueError(f"trial(): {name!r} is a column of every recording; choose another name")
            kind, given = self._kinds.get(name), kind_of(values)
            if kind not in (None, given) and not (kind == "float64" and given == "int64"):
                raise TypeError(
                    f"trial(): {name} is {values[0]!r}, a value of kind {given}, but this recording's column "
                    f"{name!r} holds kind {kind}; keep to one kind or choose another name"
                )


def kind_of(values: Sequence[Value]) -> ColumnKind:
    """The kind of column that holds these values."""
    kinds = {type(value) for value in values}
    if kinds <= {int}:
        return "int64"
    if kinds <= {int, float}:
        return "float64"
    return "category"
