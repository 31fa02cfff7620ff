"""What of a recording the report looks at: all of it where that is cheap, a part where it is not.

Rates, counts and shares of neurons are of the whole recording. Intervals, latencies, correlations and what
labels do are of at most `PART_SLOTS` slots, which are chosen evenly among the trials and named in the page.
Layers of which only counts were kept are left out of whatever needs to know when neurons fired.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import xarray as xr

from analysis.arguments import QuestionError
from analysis.display import printable
from analysis.recording import Recording
from analysis.report.asked import Asked, written
from analysis.report.wording import named, sentence

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
    """A recording, and the parts of it of which some questions are asked.

    Attributes
    ----------
    recording : Recording
        All of it.
    timed : Recording
        Without layers of which only counts were kept; the recording itself, if there are none or no others.
    part : Recording
        What expensive questions are asked of; the same as ``timed``, where that is little.
    setup : tuple of str
        Lines of Python that make these.
    names : tuple of str
        Layers that are shown, in network order.
    left_out : int
        Layers that are not.
    called : mapping of str to str
        What the lines call the recording and its parts.
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
    timed: Recording
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
        return {"recording": self.recording, "timed": self.timed, "part": self.part}

    def ask(self, asked: Asked) -> tuple[xr.DataArray | None, str]:
        """The lazy answer to a question, and what there is to say of it, by names instead of places."""
        answer, said = asked.ask(self.views)
        for name, member in self.recording.recordings.items():
            said = said.replace(printable(member.location), printable(name))
        return answer, sentence(said)

    def fewer_times(self, most: int) -> tuple[str, int] | None:
        """How many times to average, for `Asked`, so that there are at most so many; None if there are."""
        return ("time", math.ceil(self.times / most)) if self.times > most else None

    @property
    def whole(self) -> bool:
        """Whether expensive questions are asked of all that is known."""
        return self.part is self.timed

    @property
    def timed_view(self) -> str:
        """What is asked when neurons fired."""
        return "recording" if self.timed is self.recording else "timed"

    @property
    def view(self) -> str:
        """What expensive questions are asked of."""
        return self.timed_view if self.whole else "part"

    def view_of(self, layer: str) -> str:
        """What expensive questions about one layer are asked of; about counts they are cheap."""
        return self.view if layer in self.part.layers else "recording"

    @property
    def counted(self) -> str:
        """What there is to say of layers that are left out, to follow a caption; often nothing."""
        names = [name for name in self.names if name not in self.timed.layers]
        return f" Left out, as only counts were kept of them: {named(names)}." if names else ""


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
    prefix = "" if variable == "recording" else f"{variable}_"
    called = {"recording": variable, "timed": f"{prefix}timed", "part": f"{prefix}part"}
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
    timed = without(recording, counted_layers(recording))
    if timed is not recording:
        setup.append(f"{called['timed']} = {variable}.select(layers={list(timed.layers)})")
    part, line = _part_of(timed, rows)
    if line:
        whole = variable if timed is recording else called["timed"]
        setup.append(f"{called['part']} = {whole}.select({line})")
    return Scope(
        recording=recording,
        timed=timed,
        part=part,
        setup=tuple(setup),
        names=names,
        left_out=len(every) - len(names),
        called=called,
        trials=presentations > 0,
        times=_times(timed) if presentations else 0,
        columns=columns,
        labels=tuple(labels[:MAX_LABELS]) if labels else None,
        labels_left_out=max(len(labels or []) - MAX_LABELS, 0),
        presentations=presentations,
        table=rows,
    )


def counted_layers(recording: Recording) -> list[str]:
    """Layers of which only counts were kept: nobody knows when their neurons fired."""
    layers = recording.layers.items()
    return [name for name, layer in layers if any(source.commit.counts_only for source in layer.sources)]


def without(recording: Recording, names: Collection[str]) -> Recording:
    """The recording without these layers; the recording itself, if that leaves out none of them, or all."""
    layers = [name for name in recording.layers if name not in names]
    return recording.select(layers=layers) if 0 < len(layers) < len(recording.layers) else recording


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
