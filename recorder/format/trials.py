"""The table of trials: one row for each sample of each trial, with its label and what the user attached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

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


class TrialLog:
    """The trials presented since the last commit, with their columns.

    Parameters
    ----------
    kept : TrialsCommit, optional
        The committed table of a resumed recording, which goes on.

    Attributes
    ----------
    trials : int
        Number of trials begun so far, which is also the number of the next trial.
    """

    def __init__(self, kept: TrialsCommit | None = None) -> None:
        self.trials = kept.trials if kept else 0
        self._kinds: dict[str, ColumnKind] = {c.name: c.kind for c in kept.columns} if kept else {}
        self._presented: list[tuple[int, int, dict[str, list[Value]]]] = []

    def check(self, columns: Mapping[str, list[Value]]) -> None:
        """Raise if columns do not fit the table: ValueError for a name, TypeError for a kind of values."""
        for name, values in columns.items():
            if name in KEYS:
                raise ValueError(f"trial(): {name!r} is a column of every recording; choose another name")
            kind, given = self._kinds.get(name), _kind_of(values)
            if kind not in (None, given) and not (kind == "float64" and given == "int64"):
                raise TypeError(
                    f"trial(): {name} is {values[0]!r}, a value of kind {given}, but this recording's column "
                    f"{name!r} holds kind {kind}; keep to one kind or choose another name"
                )

    def add(self, trial: int, batch: int, columns: Mapping[str, list[Value]]) -> None:
        """Note a trial of ``batch`` samples; columns have a value for each sample. Errors as in `check`."""
        self.check(columns)
        for name, values in columns.items():
            self._kinds.setdefault(name, _kind_of(values))
        self._presented.append((trial, batch, dict(columns)))

    def take(self) -> list[tuple[int, int, dict[str, list[Value]]]]:
        """Trials noted since the last call, each as (trial, batch, columns)."""
        presented, self._presented = self._presented, []
        return presented


def _kind_of(values: Sequence[Value]) -> ColumnKind:
    kinds = {type(value) for value in values}
    if kinds <= {int}:
        return "int64"
    if kinds <= {int, float}:
        return "float64"
    return "category"
