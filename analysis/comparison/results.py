"""The outcome of a comparison: whole numbers, but for the agreement, which is one division."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from analysis.display import printable, text_table


@dataclass(frozen=True)
class Divergence:
    """The first slot in which two recordings differ; `step` and `trial` are those of the first recording.

    Attributes
    ----------
    layer : str
    step : int
    trial : int, or None
        None outside of trials.
    time : int
        Steps since the first one of the trial; the step where there is no trial.
    sample : int
    neuron : tuple of int
        Place along each neuron axis; empty where there is none.
    recording : str
        Name of the recording, of those that were opened as one.
    """

    layer: str
    step: int
    trial: int | None
    time: int
    sample: int
    neuron: tuple[int, ...]
    recording: str


@dataclass(frozen=True, eq=False)
class LayerComparison:
    """Differences between a layer of one recording, a, and the same layer of another, b.

    Frames are compared with those that they stand for, see `compare`; a slot is one neuron in one frame.

    Attributes
    ----------
    name : str
    frames : int
        Frames compared.
    unmatched : tuple of two int
        Frames of a, and of b, that stand for none of the other.
    slots, differing : int
    spikes : tuple of two int
        Spikes of a and of b in the frames compared.
    only_a, only_b : xarray.DataArray of int64
        Spikes of each neuron in a where b has none, and the other way round; along the neuron axes.
    by_neuron : xarray.DataArray of int64
        Differing slots of each neuron, along the neuron axes: those of both, and those that are ``unlike``.
    by_time, by_sample : xarray.DataArray of int64
        Differing slots at each time of a trial, and of each place in a batch.
    unlike : int
        Differing slots in which both have fired, with values other than 0 and 1 that differ.
    near : tuple of two int
        Spikes of a near which b has one of the same neuron, within ``within`` steps in the same presentation;
        and spikes of b near which a has one.
    first_unmatched : tuple of two Divergence, or None
        The first frame of a, and of b, that stands for none of the other, as where one is longer, at its own
        step and without a neuron; None where each stands for one.
    """

    name: str
    frames: int
    unmatched: tuple[int, int]
    slots: int
    differing: int
    spikes: tuple[int, int]
    only_a: xr.DataArray
    only_b: xr.DataArray
    by_neuron: xr.DataArray
    by_time: xr.DataArray
    by_sample: xr.DataArray
    near: tuple[int, int]
    unlike: int = 0
    first_unmatched: tuple[Divergence | None, Divergence | None] = (None, None)

    @property
    def equal(self) -> bool:
        """True if no slot differs, and each frame of each stands for one of the other."""
        return self.differing == 0 and self.unmatched == (0, 0)

    @property
    def agreement(self) -> float:
        """Spikes of either that the other has near, too ÷ spikes of both; NaN without any."""
        spikes = sum(self.spikes)
        return sum(self.near) / spikes if spikes else math.nan


@dataclass(frozen=True)
class SignalComparison:
    """Differences between a signal of a layer in one recording, a, and the same signal in another, b.

    Attributes
    ----------
    layer, name : str
    frames : int
        Frames compared.
    unmatched : tuple of two int
        Frames of a, and of b, that stand for none of the other.
    values, differing : int
        Values compared, and those among them that differ, as numbers; NaN equals NaN.
    largest : float
        Greatest absolute difference of values that differ and are both numbers; NaN if there are none.
    first : Divergence, or None
        The first value that differs, by step of a.
    why_not : str
        What keeps values from being compared, such as another data type; empty if they were.
    """

    layer: str
    name: str
    frames: int
    unmatched: tuple[int, int]
    values: int
    differing: int
    largest: float
    first: Divergence | None
    why_not: str = ""

    @property
    def equal(self) -> bool:
        """True if no value differs, and each frame of each stands for one of the other."""
        return self.differing == 0 and self.unmatched == (0, 0) and not self.why_not


@dataclass(frozen=True, eq=False)
class Comparison:
    """The outcome of `compare`.

    Attributes
    ----------
    layers : mapping of str to LayerComparison
        Layers that both have, in network order of a.
    only_in : tuple of two tuples of str
        Layers that a alone has, and b alone.
    first : Divergence, or None
        The first slot that differs, by step of a, then in network order, then by sample and neuron.
    within : int
        Steps by which spikes may be off to count for the agreement.
    names : tuple of two str
    signals : mapping of (str, str) to SignalComparison
        Signals that both have, by the names of layer and signal.
    signals_only_in : tuple of two tuples of (str, str)
        Signals, of layers that both have, of a alone and of b alone.
    """

    layers: Mapping[str, LayerComparison]
    only_in: tuple[tuple[str, ...], tuple[str, ...]]
    first: Divergence | None
    within: int
    names: tuple[str, str]
    signals: Mapping[tuple[str, str], SignalComparison] = field(default_factory=dict)
    signals_only_in: tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]] = ((), ())

    @property
    def equal(self) -> bool:
        """True if both have the same layers and signals, and these are equal."""
        alone = [*self.only_in, *self.signals_only_in]
        if any(alone) or not all(layer.equal for layer in self.layers.values()):
            return False
        return all(signal.equal for signal in self.signals.values())

    def to_dataset(self) -> xr.Dataset:
        """The numbers of each layer, along ``layer``."""
        every = list(self.layers.values())
        columns: dict[str, list[Any]] = {
            "frames": [layer.frames for layer in every],
            "unmatched_a": [layer.unmatched[0] for layer in every],
            "unmatched_b": [layer.unmatched[1] for layer in every],
            "slots": [layer.slots for layer in every],
            "differing": [layer.differing for layer in every],
            "spikes_a": [layer.spikes[0] for layer in every],
            "spikes_b": [layer.spikes[1] for layer in every],
            "only_a": [int(layer.only_a.sum()) for layer in every],
            "only_b": [int(layer.only_b.sum()) for layer in every],
            "unlike": [layer.unlike for layer in every],
            "agreement": [layer.agreement for layer in every],
        }
        values = {name: ("layer", np.array(column)) for name, column in columns.items()}
        return xr.Dataset(values, coords={"layer": np.array([layer.name for layer in every], np.str_)})

    def __repr__(self) -> str:
        head = (
            f"<Comparison of {self.names[0]} and {self.names[1]}: {'equal' if self.equal else 'different'}>"
        )
        return "\n".join([head, *self.lines()])

    def lines(self) -> Iterator[str]:
        """The outcome in words, line by line."""
        for which, location, names in zip("ab", self.names, self.only_in, strict=True):
            if names:
                yield printable(f"only in {which}, {location}: {', '.join(map(repr, names))}")
        for which, location, keys in zip("ab", self.names, self.signals_only_in, strict=True):
            if keys:
                listed = ", ".join(f"{name!r} of layer {layer!r}" for layer, name in keys)
                yield printable(f"signals only in {which}, {location}: {listed}")
        yield from self._firsts()
        for signal in self.signals.values():
            of = f"signal {signal.name!r} of layer {signal.layer!r}"
            if signal.why_not:
                yield printable(f"not compared: {of}, {signal.why_not}")
            if signal.first is not None:
                yield printable(f"first difference of {of}: {_place(signal.first)}")
        headings = (
            *("layer", "frames", "unmatched in a", "in b", "slots", "differing"),
            *("only in a", "only in b", "other value", "agreement"),
        )
        rows = [
            (
                printable(layer.name),
                layer.frames,
                *layer.unmatched,
                layer.slots,
                layer.differing,
                int(layer.only_a.sum()),
                int(layer.only_b.sum()),
                layer.unlike,
                layer.agreement,
            )
            for layer in self.layers.values()
        ]
        yield from text_table(headings, rows).splitlines()
        if self.signals:
            yield ""
            of_values = (
                *("layer", "signal", "frames", "unmatched in a", "in b", "values", "differing"),
                "greatest difference",
            )
            of_signals = [
                (
                    *(printable(signal.layer), printable(signal.name), signal.frames, *signal.unmatched),
                    *(signal.values, signal.differing, signal.largest),
                )
                for signal in self.signals.values()
            ]
            yield from text_table(of_values, of_signals).splitlines()

    def _firsts(self) -> Iterator[str]:
        """Where spikes differ first, and where frames stand for none of the other."""
        if self.first is not None:
            yield printable(f"first difference: layer {self.first.layer!r}, {_place(self.first)}")
        for place, which in enumerate("ab"):
            alone = [at for layer in self.layers.values() if (at := layer.first_unmatched[place]) is not None]
            if alone:
                at = min(alone, key=lambda at: at.step)
                yield printable(f"first frame only in {which}: layer {at.layer!r}, {_place(at)}")


def _place(first: Divergence) -> str:
    where = f"step {first.step}" if first.trial is None else f"trial {first.trial}, time {first.time}"
    neuron = f", neuron {first.neuron}" if first.neuron else ""
    return f"{where}, sample {first.sample}{neuron}"
