"""What is known of a recording that grows.

Spikes are read once, when they have been committed; counts that were kept in place of them at each commit.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from dask.base import compute

from analysis.asking.narrowing import recorded_steps
from analysis.layer import Layer
from analysis.members import RecordingReplacedError
from analysis.recording import Recording
from recorder.format import RecordingFormatError, RecordingMetadata
from recorder.format.record.pace import PaceCommit
from recorder.stores import ByteStore, Folder
from recorder.tape import TapeReader
from recorder.tape.holding.lock import read_holder

# Of each neuron spikes are remembered, in eight bytes, to know which ones have never fired: 1 GiB at most.
MAX_NEURONS: Final = 2**27


@dataclass(frozen=True)
class LayerFigures:
    """Figures of one layer.

    Attributes
    ----------
    name : str
    neuron_shape : tuple of int
    rate : float
        Spikes per neuron and frame in what was committed last; NaN if that has no frame of this layer.
    rate_so_far : float
        Likewise, in all frames.
    dead : float
        Share of neurons that have never fired; NaN where all layers together have more than ``MAX_NEURONS``.
    """

    name: str
    neuron_shape: tuple[int, ...]
    rate: float
    rate_so_far: float
    dead: float


@dataclass(frozen=True)
class Figures:
    """Figures of a recording as of its newest commit, or of several that are recorded side by side.

    Attributes
    ----------
    state : {"recording", "closed"}
    committed : str
        When that was, ISO 8601 in UTC.
    steps : int
    layers : list of LayerFigures
        In network order.
    uncalled : dict of str to int
        Layers that are not recorded any more, and since which step.
    steps_per_second : float
        Of the network, since the commit that was seen before, or since its writer began. Of several the
        slowest. NaN where the recording does not say so.
    waited : float
        Share of this time for which the network waited for its writer. Of several the greatest.
    """

    state: str
    committed: str
    steps: int
    layers: list[LayerFigures]
    uncalled: dict[str, int]
    steps_per_second: float
    waited: float


@dataclass
class _Tally:
    """Spikes of one layer in one recording so far, and in what was committed last."""

    seen_steps: int = 0
    neurons: int = 0
    frames: int = 0
    new_frames: int = 0
    new_spikes: int = 0
    spikes: Any = 0  # of each neuron, or in all

    def add(self, frames: int, spikes: Any, steps: int) -> None:
        self.seen_steps = steps
        self.frames += frames
        self.new_frames, self.new_spikes = frames, int(np.sum(spikes))
        self.spikes = self.spikes + spikes


@dataclass
class _Member:
    """One recording, and what is known of it."""

    recording: Recording
    store: ByteStore
    commit: int = -1
    pace: PaceCommit | None = None
    pace_before: PaceCommit | None = None
    tallies: dict[str, _Tally] = field(default_factory=dict)

    @property
    def metadata(self) -> RecordingMetadata:
        return self.recording.metadata


class Watched:
    """A recording, or several that are made side by side, looked at again and again.

    Parameters
    ----------
    readers : sequence of TapeReader
    """

    def __init__(self, readers: Sequence[TapeReader]) -> None:
        self._readers = readers
        self._members = [_Member(Recording([reader]), reader.store) for reader in readers]

    def look(self) -> Figures | None:
        """What is known as of the newest commits; None where there is none that was not seen before.

        Raises
        ------
        RecordingFormatError, StoreError, OSError
            If that cannot be read now; what was seen stays as it was.
        """
        for place, member in enumerate(self._members):
            try:
                member.recording.refresh()
            except RecordingReplacedError:
                # Begun anew: what was counted is that of another recording.
                reader = TapeReader.open(member.store)
                self._members[place] = _Member(Recording([reader]), member.store)
        new = [member for member in self._members if member.metadata.commit_number != member.commit]
        if not new:
            return None
        for member in new:
            _count(member)
        return self._figures()

    def gone(self) -> list[str]:
        """The writers, in words, that are known to be gone although their recordings are not closed."""
        return [text for member in self._members if (text := _gone(member.store, member.metadata))]

    def disk_left(self) -> int | None:
        """Bytes that are free on the disk with least room; None where nothing is on a disk of this host."""
        folders = [member.store.location for member in self._members if isinstance(member.store, Folder)]
        return min((shutil.disk_usage(folder).free for folder in folders), default=None)

    def _figures(self) -> Figures:
        every = [member.metadata for member in self._members]
        paces = [_pace(member) for member in self._members]
        names = dict.fromkeys(name for member in self._members for name in member.tallies)
        return Figures(
            state="recording" if any(each.state == "recording" for each in every) else "closed",
            committed=max(each.committed for each in every),
            steps=max((t.seen_steps for member in self._members for t in member.tallies.values()), default=0),
            layers=[self._layer(name) for name in names],
            uncalled={name: step for each in every for name, step in each.uncalled.items()},
            steps_per_second=min((speed for speed, _ in paces if not math.isnan(speed)), default=math.nan),
            waited=max((share for _, share in paces if not math.isnan(share)), default=math.nan),
        )

    def _layer(self, name: str) -> LayerFigures:
        there = [member for member in self._members if name in member.tallies]
        tallies = [member.tallies[name] for member in there]
        neurons, spikes = tallies[0].neurons, sum(tally.spikes for tally in tallies)
        frames, new_frames = (sum(getattr(t, what) for t in tallies) for what in ("frames", "new_frames"))
        return LayerFigures(
            name=name,
            neuron_shape=there[0].recording[name].neuron_shape,
            rate=_ratio(sum(tally.new_spikes for tally in tallies), new_frames * neurons),
            rate_so_far=_ratio(int(np.sum(spikes)), frames * neurons),
            dead=_ratio(neurons - int(np.count_nonzero(spikes)), neurons) if np.ndim(spikes) else math.nan,
        )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _count(member: _Member) -> None:
    """Count the spikes that were committed since the recording was looked at."""
    metadata = member.metadata
    steps = {name: recorded_steps(layer.sources) for name, layer in member.recording.layers.items()}
    if any(tally.seen_steps > steps.get(name, 0) for name, tally in member.tallies.items()):
        member.tallies = {}  # frames were cut away, on request
    new: dict[str, Layer] = {}
    # Counts do not say which steps they are of: all of them are read again, and those known are taken off.
    again: set[str] = set()
    for name, layer in member.recording.layers.items():
        seen = member.tallies[name].seen_steps if name in member.tallies else 0
        if seen and any(source.commit.counts_only for source in layer.sources):
            again.add(name)
        new[name] = layer.select(steps=slice(seen, None)) if seen and name not in again else layer
    per = "neuron" if sum(layer.neurons for layer in new.values()) <= MAX_NEURONS else ()
    counted = compute(*(layer.spike_count(per).data for layer in new.values()))
    for (name, layer), spikes in zip(new.items(), counted, strict=True):
        tally = member.tallies.setdefault(name, _Tally(neurons=layer.neurons))
        if not per:
            tally.spikes = int(np.sum(tally.spikes))
        # A layer of a single neuron has no axis of neurons.
        found = np.atleast_1d(spikes) if per else spikes
        known = (tally.frames, tally.spikes) if name in again else (0, 0)
        tally.add(layer.frames - known[0], found - known[1], steps[name])
    is_same_writer = member.pace and metadata.pace and member.pace.steps <= metadata.pace.steps
    member.pace_before = member.pace if is_same_writer else None
    member.pace, member.commit = metadata.pace, metadata.commit_number


def _pace(member: _Member) -> tuple[float, float]:
    """Steps a second, and the share of time that was waited, since the commit before."""
    now, before = member.pace, member.pace_before or PaceCommit(0, 0.0, 0.0)
    if now is None:
        return math.nan, math.nan
    if now.steps == before.steps:  # nothing ran since, as when a recording is closed
        before = PaceCommit(0, 0.0, 0.0)
    seconds = now.seconds - before.seconds
    return _ratio(now.steps - before.steps, seconds), _ratio(now.waited - before.waited, seconds)


def _gone(store: ByteStore, seen: RecordingMetadata) -> str:
    if seen.state == "closed":
        return ""
    try:
        holder = read_holder(store)
    except RecordingFormatError:
        return ""  # somebody is there, who cannot be told
    if holder is not None:
        return holder.describe() if holder.state(seen.committed) == "dead" else ""
    # Whoever closes a recording removes the lock behind its last commit, and so may have done it meanwhile.
    now = TapeReader.open(store).metadata
    return "nobody holds its lock" if now.commit_number == seen.commit_number else ""
