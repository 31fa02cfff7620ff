"""The table of trials: one row for each sample presented, with its label and whatever the user attached."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from recorder.format.columns import (
    KEYS,
    Attached,
    Value,
    category_bytes,
    check_kind,
    check_name,
    identity,
    kind_of,
    stored_name,
)
from recorder.format.layout import NO_TRIAL
from recorder.format.record.metadata import MAX_CATEGORY_BYTES, MAX_COLUMNS, ColumnKind, TrialsCommit

# What each sample of a trial has, by column as stored; None where it is missing.
Columns = dict[str, list[Value | None]]
# A trial, or more samples of one: its number, how many samples, and what each has.
Presented = tuple[int, int, Columns]

_MOST_ATTACHED: Final = MAX_COLUMNS - len(KEYS)


@dataclass
class OpenTrial:
    """The trial that is open: what its samples have, and who has opened it."""

    number: int
    columns: Mapping[str, Attached]
    thread: threading.Thread
    task: asyncio.Task[Any] | None
    batch: int = 0


# Seen by the task that has opened the trial, and by those that it has started since.
_opened_here: ContextVar[OpenTrial | None] = ContextVar("opened_here", default=None)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop is running
        return None


class TrialLog:
    """Trials as they are presented: at most one is open at a time.

    The labels of a trial are taken down with its first frames, so that they are as safe as these. A trial in
    which nothing was recorded leaves no trace: the next one has its number.

    Parameters
    ----------
    kept : TrialsCommit, optional
        What to go on from, with all categories in it.
    ignores_case : callable, optional
        Whether the store takes names that differ by case only for one; asked once such names come.
    holds : bool
        Whether trials, once they are over, are withdrawn, and recorded only where somebody asks for it.

    Attributes
    ----------
    trials : int
        Trials begun so far; the number of the next one.
    number : int
        Of the open trial; `NO_TRIAL` if none is open.
    open_trial : OpenTrial or None
    """

    def __init__(
        self,
        kept: TrialsCommit | None = None,
        ignores_case: Callable[[], bool] = lambda: False,
        *,
        holds: bool = False,
    ) -> None:
        self._ignores_case = ignores_case
        self.trials = kept.trials if kept else 0
        self.number = NO_TRIAL
        self.open_trial: OpenTrial | None = None
        columns = [column for column in kept.columns if column.name not in KEYS] if kept else []
        # Of attached columns, the kind; None as long as all of their values are missing.
        self._kinds: dict[str, ColumnKind | None] = {column.name: column.kind for column in columns}
        self._categories = {c.name: set(map(identity, c.categories)) for c in columns if c.kind == "category"}
        self._category_bytes = sum(category_bytes(column.categories) for column in columns)
        self._presented: list[Presented] = []
        self._noted: list[Presented] = [] if holds else self._presented

    def begin(self, columns: Mapping[str, Any]) -> None:
        """Open a trial; what its columns hold is read here, once.

        Parameters
        ----------
        columns : mapping
            For each name a value, or one for each sample; None, NaN and pandas' NA are missing values. A
            column named as one that every recording has is stored as `recorder.format.columns.stored_name`
            says.

        Raises
        ------
        RuntimeError
            If one is open already.
        ValueError
            If a name or a value cannot be stored, or there are too many of them.
        TypeError
            If values are of a type that cannot be stored, or of another kind than the column.
        """
        self.refuse_open("a trial cannot begin inside another. Leave its `with` block first.")
        attached: dict[str, Attached] = {}
        for name, given in columns.items():
            check_name(name)
            attached[stored_name(name)] = Attached.read(f"trial(): {name}", given)
        self._check({name: column.values for name, column in attached.items()})
        self.open_trial = OpenTrial(self.trials, attached, threading.current_thread(), _current_task())
        self.number = self.trials
        if self.open_trial.task is not None:
            _opened_here.set(self.open_trial)

    def end(self) -> None:
        """Close the open trial."""
        self.open_trial, self.number = None, NO_TRIAL

    def refuse_open(self, what: str) -> None:
        """Raise RuntimeError, which says ``what``, if a trial is open."""
        if self.open_trial is not None:
            raise RuntimeError(f"trial {self.open_trial.number} is still open; {what}")

    def refuse_other_thread(self) -> None:
        """Raise RuntimeError if a trial is open that another thread, or task of asyncio, has opened."""
        if self.open_trial is not None and self.open_trial.thread is not threading.current_thread():
            raise RuntimeError(
                f"thread {threading.current_thread().name!r} runs the network inside trial "
                f"{self.open_trial.number}, which thread {self.open_trial.thread.name!r} has opened. A trial "
                "belongs to one thread: open it in the thread that runs the network"
            )
        if self.open_trial is not None and self.open_trial.task is not None:
            self._refuse_other_task(self.open_trial, self.open_trial.task)

    def _refuse_other_task(self, opened: OpenTrial, opener: asyncio.Task[Any]) -> None:
        # A task that is over has left its trial to others, as a cell of a notebook does.
        task = _current_task()
        if task is None or task is opener or opener.done() or _opened_here.get() is opened:
            return
        raise RuntimeError(
            f"task {task.get_name()!r} of asyncio runs the network inside trial {opened.number}, which task "
            f"{opener.get_name()!r} has opened and not left. Let tasks wait for each other with an "
            "asyncio.Lock around the whole trial"
        )

    @property
    def is_noted(self) -> bool:
        """True if the labels of the open trial are noted, or if no trial is open."""
        return self.open_trial is None or self.open_trial.batch > 0

    def check_batch(self, place: str, batch: int) -> None:
        """Raise ValueError, naming ``place``, if the values of the open trial do not fit a batch."""
        if self.open_trial is not None and self.open_trial.batch != batch:
            for name, column in self.open_trial.columns.items():
                column.of_batch(f"trial {self.open_trial.number}, {place}: {name}", batch)

    def note(self, batch: int) -> Callable[[], None]:
        """Note that frames of the open trial, if there is one, are coming: so many samples at a step.

        Returns
        -------
        callable
            A function that takes the note back, for frames that are refused.
        """
        trial = self.open_trial
        before = self.trials, trial.batch if trial else 0, len(self._noted)
        if trial is not None and batch > trial.batch:
            columns = {name: column.of_batch(name, batch) for name, column in trial.columns.items()}
            values = {name: column.values for name, column in trial.columns.items()}
            self._note_kinds(values)
            if self._noted is self._presented:
                self._note_categories(values)
            trial.batch = batch
            self.trials = trial.number + 1
            self._noted += [(trial.number, batch, columns)]
        return partial(self._take_back, trial, *before)

    def _take_back(self, trial: OpenTrial | None, trials: int, batch: int, presented: int) -> None:
        if trial is not None:
            trial.batch = batch
            self.trials = trials
            del self._noted[presented:]

    def _note_kinds(self, columns: Mapping[str, Sequence[Value | None]]) -> None:
        for name, values in columns.items():
            self._kinds[name] = self._kinds.get(name) or kind_of(values)

    def _note_categories(self, columns: Mapping[str, Sequence[Value | None]]) -> None:
        for name, values in columns.items():
            new = self._new_categories(name, values)
            self._categories.setdefault(name, set()).update(new)
            self._category_bytes += category_bytes(value for _, value in new)

    def withdraw(self) -> list[Presented]:
        """Take away what was noted of the open trial, as if it had not come; its number stays taken."""
        noted, self._noted = self._noted, []
        return noted

    def put_back(self, presented: Presented) -> None:
        """Note a trial that was withdrawn; raises ValueError if there would be too many categories."""
        columns = presented[-1]
        self._check(columns)
        self._note_kinds(columns)
        self._note_categories(columns)
        self._presented += [presented]

    def look(self) -> list[Presented]:
        """Trials noted and not forgotten: number, samples so far, columns."""
        return [*self._presented]

    def forget(self, trials: int) -> None:
        """Forget the first of the noted trials: so many, which somebody else keeps now."""
        del self._presented[:trials]

    def _check(self, columns: Mapping[str, Sequence[Value | None]]) -> None:
        """Raise ValueError or TypeError if columns cannot join the table."""
        size = self._category_bytes
        for name, values in columns.items():
            check_kind(name, self._kinds.get(name), values)
            size += category_bytes(value for _, value in self._new_categories(name, values))
        if size > MAX_CATEGORY_BYTES:
            raise ValueError(
                f"trial(): the different texts and other categories of this recording would take {size} "
                f"bytes; at most {MAX_CATEGORY_BYTES} are kept. Attach numbers where each sample has its own"
            )
        names = {*self._kinds, *columns}
        if len(names) > _MOST_ATTACHED:
            raise ValueError(f"trial(): a recording has at most {_MOST_ATTACHED} attached columns")
        if (
            len({name.casefold() for name in (*KEYS, *names)}) < len(KEYS) + len(names)
            and self._ignores_case()
        ):
            raise ValueError(
                f"trial(): of {', '.join(map(repr, sorted(columns)))} and the columns that are there, two "
                "differ by case only, and where it is stored such names are one. Choose other names"
            )

    def _new_categories(self, name: str, values: Sequence[Value | None]) -> set[tuple[type, Value]]:
        """Categories that these values would add to a column; none to one of numbers."""
        if (self._kinds.get(name) or kind_of(values)) != "category":
            return set()
        present = {identity(value) for value in values if value is not None}
        return present - self._categories.get(name, set())
