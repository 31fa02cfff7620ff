"""What of a recording the report looks at: all of it where that is cheap, a part where it is not.

Rates, counts and shares of neurons are of the whole recording. Intervals, latencies, correlations and what
labels do are of at most `PART_SLOTS` slots, which are chosen evenly among the trials and named in the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import xarray as xr

from analysis.display import printable
from analysis.questions import QuestionError
from analysis.recording import Recording
from analysis.report.asked import Asked, written

PART_SLOTS: Final = 2**29
MAX_TRIALS: Final = 32
MAX_LAYERS: Final = 256
# Of the names of layers together, which stand in many places.
MAX_CHARACTERS: Final = 2**16
MAX_TIMES: Final = 512
WINDOWS: Final = 100
MAX_LABELS: Final = 40
MAX_NEURONS: Final = 2**18


@dataclass(frozen=True, eq=False)
class Scope:
    """A recording, and the part of it of which expensive questions are asked.

    Attributes
    ----------
    recording, part : Recording
        The same, where all of it is looked at.
    setup : tuple of str
        Lines of Python that make both.
    names : tuple of str
        Layers that are shown, in network order.
    left_out : int
        Layers that are not.
    called : mapping of str to str
        What the lines call the recording and its part.
    trials : bool
        Whether there are presentations.
    times : int
        Steps of the longest of them; 0 where there is none.
    columns : tuple of str
        Columns that presentations carry.
    labels : tuple, or None
        Labels that are shown; None where there are none.
    labels_left_out : int
    presentations : int
    """

    recording: Recording
    part: Recording
    setup: tuple[str, ...]
    names: tuple[str, ...]
    left_out: int
    called: Mapping[str, str]
    trials: bool
    times: int
    columns: tuple[str, ...]
    labels: tuple[Any, ...] | None
    labels_left_out: int
    presentations: int
    table: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def views(self) -> dict[str, Recording]:
        """What is asked, by the names that lines of Python have for it."""
        return {"recording": self.recording, "part": self.part}

    def ask(self, asked: Asked) -> tuple[xr.DataArray | None, str]:
        """The lazy answer to a question, and what there is to say of it, by names instead of places."""
        answer, said = asked.ask(self.views)
        for name, member in self.recording.recordings.items():
            said = said.replace(printable(member.location), printable(name))
        return answer, said

    def fewer_times(self, most: int) -> tuple[str, int] | None:
        """How many times to average, for `Asked`, so that there are at most so many; None if there are."""
        return ("time", math.ceil(self.times / most)) if self.times > most else None

    @property
    def whole(self) -> bool:
        """Whether the part is all."""
        return self.part is self.recording

    @property
    def view(self) -> str:
        """What expensive questions are asked of."""
        return "recording" if self.whole else "part"


def scope_of(recording: Recording, name: str, variable: str = "recording") -> Scope:
    """Decide what to look at; reads tables of steps and trials alone.

    Parameters
    ----------
    recording : Recording
    name : str
        What it is opened by, as it is shown.
    variable : str
        Its name in the lines of Python.
    """
    called = {"recording": variable, "part": "part" if variable == "recording" else f"{variable}_part"}
    setup = [f"{variable} = analysis.open_recording({name!r})"]
    every = list(recording.layers)
    longest = max(map(len, every), default=1)
    most = max(min(MAX_LAYERS, MAX_CHARACTERS // max(longest, 1)), 1)
    if len(every) > most:
        places = np.linspace(0, len(every) - 1, most).astype(int)
        recording = recording.select(layers=[every[place] for place in places])
    names = tuple(recording.layers)
    table = recording.trials
    rows = {str(key): column.values.tolist() for key, column in table.data_vars.items()}
    columns = tuple(key for key in rows if key not in ("trial", "sample", "recording"))
    presentations = int(table.sizes.get("presentation", 0))
    labels = _distinct(rows["label"]) if "label" in rows else None
    part, line = _part_of(recording, rows)
    if line:
        setup.append(f"{called['part']} = {variable}.select({line})")
    return Scope(
        recording=recording,
        part=part,
        setup=tuple(setup),
        names=names,
        left_out=len(every) - len(names),
        called=called,
        trials=presentations > 0,
        times=_times(recording) if presentations else 0,
        columns=columns,
        labels=tuple(labels[:MAX_LABELS]) if labels else None,
        labels_left_out=max(len(labels or []) - MAX_LABELS, 0),
        presentations=presentations,
        table=rows,
    )


def _distinct(values: list[Any]) -> list[Any]:
    """Values without those that are missing, in their order; of several kinds in that of appearance."""
    seen = {(type(value), value): value for value in values if value is not None and value == value}  # noqa: PLR0124 - NaN
    found = list(seen.values())
    try:
        return sorted(found)
    except TypeError:
        return found


def _times(recording: Recording) -> int:
    """Steps of the longest presentation; of recordings that have no times in common, none."""
    try:
        return int(recording.firing_rate("time").sizes["time"])
    except QuestionError:
        return 0


def _part_of(recording: Recording, rows: dict[str, list[Any]]) -> tuple[Recording, str]:
    """The part, and what is selected for it, as it is written in Python; nothing if that is all."""
    layers = list(recording.layers.values())
    slots = sum(layer.frames * layer.neurons for layer in layers)
    if slots <= PART_SLOTS:
        return recording, ""
    share = PART_SLOTS / slots
    if rows.get("trial"):
        numbers = sorted(set(rows["trial"]))
        count = min(len(numbers), MAX_TRIALS)
        kept = [numbers[place] for place in np.linspace(0, len(numbers) - 1, count).astype(int)]
        samples = max(int(share * len(numbers) / count * (max(rows["sample"]) + 1)), 1)
        chosen: dict[str, Any] = {"trials": kept}
        if samples <= max(rows["sample"]):
            chosen["samples"] = slice(0, samples)
    else:
        chosen = {"steps": slice(0, max(int(share * recording.steps), 1))}
    return recording.select(**chosen), ", ".join(f"{key}={written(value)}" for key, value in chosen.items())
