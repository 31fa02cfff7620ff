"""Tables of events, as chips and simulators put them out: a row for each spike."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recorder.elsewhere.pieces import Piece, Values
from recorder.format.record.metadata import MAX_NEURONS

Integers = NDArray[np.int64]
Several: TypeAlias = Literal["error", "count", "once"]

# Names of the neuron axes, by their number, as FORMAT.md has them.
_AXES: Final = {
    2: ("channel", "length"),
    3: ("channel", "height", "width"),
    4: ("channel", "depth", "height", "width"),
}


class EventTable:
    """The spikes of one layer as a table with a row for each, to be given to `recorder.write_recording`.

    Columns, all of whole numbers counted from 0:

    - ``step``, where there are no trials; or ``trial`` and ``time``, the step within that trial;
    - ``sample``, where there are several;
    - ``neuron``, the place of the neuron in C order; or its place along each axis: ``channel, length``,
      ``channel, height, width`` or ``channel, depth, height, width``.

    Each row is one spike: a column ``value`` with anything but ones is refused. Other columns are left alone.
    Nothing is taken from the largest number in a column: silent neurons, samples, steps and trials would be
    missing. So these are said.

    Parameters
    ----------
    events : table, or iterable of tables
        A mapping from names to arrays (such as an open ``.npz`` file), a structured array, a data frame of
        pandas, a table of pyarrow. Several of them are parts of one, and ascend in time from one to the next;
        within each, rows may have any order.
    neurons : int or tuple of int
        Shape of the layer.
    steps : int or sequence of int
        Number of steps; of each trial if there are trials, which may differ.
    samples : int
        Samples of each step.
    trials : int, optional
        Number of trials, if the table has a column ``trial``; left out where ``steps`` are given for each.

    several : {"error", "count", "once"}
        What several events of one neuron in one step are, as where steps are longer than those of the chip:
        an error, as soon as they are read; a spike count, which makes the layer one of whole numbers; or one
        spike.

    Raises
    ------
    ValueError, TypeError
        If a number is not positive, ``events`` is no table, or ``several`` is none of these.
    """

    def __init__(
        self,
        events: Any,
        *,
        neurons: int | Sequence[int],
        steps: int | Sequence[int],
        samples: int = 1,
        trials: int | None = None,
        several: Several = "error",
    ) -> None:
        if several not in ("error", "count", "once"):
            raise ValueError(f"several is {several!r}; expected 'error', 'count' or 'once'")
        self._several: Several = several
        self.neuron_shape = tuple(neurons) if isinstance(neurons, Iterable) else (neurons,)
        self.samples = samples
        self.has_trials = isinstance(steps, Iterable) or trials is not None
        count = 1 if trials is None else trials
        self.steps = [*steps] if isinstance(steps, Iterable) else [steps] * count
        if trials is not None and len(self.steps) != trials:
            raise ValueError(f"trials is {trials}, but steps are given for {len(self.steps)} trials")
        for name, numbers in (("neurons", self.neuron_shape), ("samples", [samples]), ("steps", self.steps)):
            if any(operator.index(number) < 1 for number in numbers):
                raise ValueError(f"{name} is {list(numbers)}; expected whole numbers of at least 1")
        if math.prod(self.neuron_shape) > MAX_NEURONS:
            raise ValueError(f"neurons is {self.neuron_shape}; a layer has at most {MAX_NEURONS}")
        self._events = events
        # The first step of each trial, and the end.
        self._begins = np.concatenate([[0], np.cumsum(self.steps, dtype=np.int64)])

    def pieces(self) -> Iterator[Piece]:
        """A piece for each trial, or a single one; to be read in order."""
        waiting = _Waiting(self._sorted())
        for trial, steps in enumerate(self.steps):
            shape = (steps, self.samples, *self.neuron_shape)
            yield _EventPiece(waiting, shape, int(self._begins[trial]), self._several, self._step_text)

    def _sorted(self) -> Iterator[Integers]:
        """Places of the spikes in an array of [all steps, samples, neurons], ascending in each table."""
        tables = [self._events] if is_table(self._events) else self._events
        if not isinstance(tables, Iterable) or isinstance(tables, str | bytes):
            raise TypeError(f"events is a {type(tables).__name__}; expected a table, or tables that go on")
        frame = self.samples * math.prod(self.neuron_shape)
        reached = 0
        for table in tables:
            if not is_table(table):
                raise TypeError(f"events hold a {type(table).__name__}; expected tables: {_KNOWN}")
            places = self._places(table)
            places.sort()
            if len(places):
                if int(places[0]) // frame < reached:
                    raise ValueError(
                        f"events of {self._step_text(int(places[0]) // frame)} come behind a table that "
                        f"ended with {self._step_text(reached)}: sort the events by time, or give one table"
                    )
                reached = int(places[-1]) // frame
                yield places

    def _places(self, table: Any) -> Integers:
        names = _columns_of(table)
        if "value" in names:
            _refuse_values(_column_of(table, "value"))
        if self.has_trials:
            trial = self._column(table, names, "trial", len(self.steps))
            time = self._column(table, names, "time", max(self.steps))
            lengths = np.asarray(self.steps, np.int64)
            late = np.flatnonzero(time >= lengths[trial])
            if len(late):
                row = int(late[0])
                raise ValueError(
                    f"row {row} of the events has time {time[row]} in trial {trial[row]}, which has "
                    f"{lengths[trial[row]]} steps"
                )
            step = self._begins[trial] + time
        else:
            if "trial" in names:
                raise ValueError(
                    "the events have a column trial, but the number of trials is not said: EventTable(..., "
                    "trials=...), with the step within the trial in a column time; or leave that column out"
                )
            step = self._column(table, names, "step", self.steps[0])
        sample = (
            self._column(table, names, "sample", self.samples)
            if self.samples > 1 or "sample" in names
            else np.int64(0)
        )
        places = (step * self.samples + sample) * math.prod(self.neuron_shape)
        return np.asarray(places + self._neurons(table, names), np.int64)

    def _neurons(self, table: Any, names: Sequence[str]) -> Integers:
        axes = _AXES.get(len(self.neuron_shape), ())
        if "neuron" in names or not (axes and set(axes) <= {*names}):
            if "neuron" not in names and not self.neuron_shape:
                return np.zeros((), np.int64)
            return self._column(table, names, "neuron", math.prod(self.neuron_shape))
        along = [self._column(table, names, *each) for each in zip(axes, self.neuron_shape, strict=True)]
        return np.asarray(np.ravel_multi_index(along, self.neuron_shape), np.int64)

    def _column(self, table: Any, names: Sequence[str], name: str, size: int) -> Integers:
        """A column of whole numbers below ``size``."""
        if name not in names:
            raise ValueError(
                f"the events have no column {name!r}, only {', '.join(map(repr, names))}; see EventTable"
            )
        column = _column_of(table, name)
        if column.ndim != 1 or column.dtype.kind not in "iu":
            raise ValueError(
                f"column {name!r} of the events has shape {list(column.shape)} and dtype {column.dtype}; "
                "expected whole numbers, one for each event and none missing"
            )
        outside = np.flatnonzero((column < 0) | (column >= size))
        if len(outside):
            row = int(outside[0])
            raise ValueError(
                f"row {row} of the events has {name} {column[row]}; expected 0 to {size - 1}, as there are "
                f"{size}"
            )
        return column.astype(np.int64)

    def _step_text(self, step: int) -> str:
        if not self.has_trials:
            return f"step {step}"
        trial = int(np.searchsorted(self._begins, step, side="right")) - 1
        return f"trial {trial}, time {step - int(self._begins[trial])}"


class _Waiting:
    """Sorted spikes that wait to be read: of one table, or two where a piece reaches into the next."""

    def __init__(self, tables: Iterator[Integers]) -> None:
        self._tables = tables
        self._left: Integers = np.empty(0, np.int64)
        self._has_ended = False

    def between(self, begin: int, end: int) -> Integers:
        """Take all spikes before place ``end``, and drop those before ``begin``."""
        pulled = [self._left[np.searchsorted(self._left, begin) :]]
        # Places are those of first slots of steps, and later tables begin with the last step or a later one.
        reached = int(pulled[0][-1]) if len(pulled[0]) else -1
        while not self._has_ended and reached < end:
            more = next(self._tables, None)
            self._has_ended = more is None
            if more is not None:
                reached = int(more[-1])
                pulled.append(more[np.searchsorted(more, begin) :])
        if len(pulled) > 1:
            pulled = [np.sort(np.concatenate(pulled))]
        count = int(np.searchsorted(pulled[0], end))
        self._left = pulled[0][count:]
        return pulled[0][:count]


class _EventPiece:
    """The steps of one trial, or all; they can only be read in order, and each once."""

    def __init__(
        self,
        waiting: _Waiting,
        shape: tuple[int, ...],
        first_step: int,
        several: Several,
        step_text: Callable[[int], str],
    ) -> None:
        self.shape = shape
        self.dtype = "int32" if several == "count" else "bool"
        self._waiting, self._first_step = waiting, first_step
        self._several, self._step_text = several, step_text

    def read(self, first: int, last: int) -> Values:
        """Steps of the piece; see `Piece`."""
        frame = math.prod(self.shape[1:])
        begin = (self._first_step + first) * frame
        places = self._waiting.between(begin, (self._first_step + last) * frame) - begin
        events = np.zeros((last - first) * frame, self.dtype)
        events[places] = 1
        again = places[1:][places[1:] == places[:-1]]
        if len(again) and self._several == "error":
            step, slot = divmod(int(again[0]), frame)
            sample, *neuron = map(int, np.unravel_index(slot, self.shape[1:]))
            raise ValueError(
                f"{1 + np.count_nonzero(again == again[0])} events are of neuron "
                f"{neuron[0] if len(neuron) == 1 else tuple(neuron)} in "
                f"{self._step_text(self._first_step + first + step)}, sample {sample}: EventTable(..., "
                "several='count'), or --several count, makes a spike count of them, 'once' one spike; or "
                "give more steps"
            )
        if self._several == "count":
            np.add.at(events, again, 1)
        return events.reshape(last - first, *self.shape[1:])


_KNOWN: Final = "a mapping of arrays, a structured array, a data frame of pandas, a table of pyarrow"


def is_table(given: Any) -> bool:
    """True for what has named columns."""
    return bool(_columns_of(given))


def _columns_of(table: Any) -> list[str]:
    if hasattr(table, "schema") and hasattr(table, "num_rows"):  # of pyarrow: a table or a batch
        return list(table.schema.names)
    if getattr(getattr(table, "dtype", None), "names", None):  # a structured array
        return list(table.dtype.names)
    if hasattr(table, "keys") and hasattr(table, "__getitem__"):  # a mapping, a data frame, an .npz file
        return list(map(str, table.keys()))
    return []


def _refuse_values(column: NDArray[Any]) -> None:
    """Raise ValueError if events have other values than 1, which would be lost."""
    others = np.flatnonzero(column != 1)
    if len(others):
        row = int(others[0])
        raise ValueError(
            f"row {row} of the events has value {column[row]}; each row of a table is one spike. Give "
            "other values as an array [steps, samples, neurons], or leave that column out"
        )


def _column_of(table: Any, name: str) -> NDArray[Any]:
    if hasattr(table, "schema") and hasattr(table, "num_rows"):
        return np.asarray(table.column(name).to_numpy(zero_copy_only=False))
    return np.asarray(table[name])
