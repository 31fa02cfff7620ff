"""Signals of a layer: what was recorded beside its spikes, as lazy arrays and in statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from analysis.arguments import QuestionError
from analysis.kernels.selecting.source import Source, frames_of
from analysis.kernels.signals.neurons import commit_of, neurons_of
from analysis.kernels.signals.values import read_time, read_values
from analysis.members import Members
from analysis.spikes import BLOCK_BYTES, BLOCK_FRAMES, Laid, lazy_frames
from analysis.statistics.signals import SignalStatistics


class LayerSignal(SignalStatistics):
    """One signal of a layer, such as its membrane potential, on the same steps as the spikes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the values."""
        return np.dtype(self._commit.dtype)

    @property
    def every(self) -> int:
        """Steps of which one was recorded."""
        return self._commit.every

    @property
    def samples(self) -> int | None:
        """How many samples of each batch were recorded at most; None for all."""
        return self._commit.samples

    @property
    def neuron_shape(self) -> tuple[int, ...]:
        """Lengths of the neuron axes of `values`: of the neurons that were recorded and are selected."""
        return neurons_of(self._sources[0]).shape

    @property
    def frames(self) -> int:
        """Number of selected frames; one frame is one sample at one step."""
        return sum(frames_of(source).frames for source in self._sources)

    @property
    def lost_frames(self) -> int:
        """Number of frames that were damaged and are marked lost; no figure has them."""
        return sum(commit_of(source).lost_frames for source in self._sources)

    @property
    def values(self) -> xr.DataArray:
        """The values, recording after recording.

        Returns
        -------
        xarray.DataArray
            Lazy (dask), in the data type of the signal, dimensions ``("frame", <neuron dimensions>)``; where
            flat indices say which neurons were recorded, the one is ``neuron``. Coordinates ``step``,
            ``sample``, ``trial`` and one for each column of the trials lie on ``frame``, lazy too, as with
            `analysis.spikes.lazy_spikes`; real indices of neurons lie on their dimensions. Where the duration
            of a step is known, so do ``step_ms`` (or what its unit is) and ``time_ms``, since the first step
            of the trial, NaN outside of trials. It has the name of the signal, or ``"values"`` where a
            coordinate or dimension has that.
        """
        shown = lazy_frames(self._sources, self._members.names, _laid)
        if shown.name in {*shown.coords, *shown.dims}:
            shown = shown.rename("values")
        if self._members.step_duration is None:
            return shown
        duration, unit = self._members.step_duration
        starts = lazy_frames([source.with_starts() for source in self._sources], self._members.names, _timed)
        about = {"long_name": "time", "units": unit}
        durations = {
            f"step_{unit}": ("frame", shown.step.data * duration, about),
            f"time_{unit}": ("frame", starts.data * duration, about),
        }
        # A column may be named after a unit that nobody knows.
        free = {name: values for name, values in durations.items() if name not in shown.coords}
        return shown.assign_coords(free)

    def __repr__(self) -> str:
        signal, parts = self._commit, []
        if signal.every > 1:
            parts.append(f"every {signal.every} steps")
        if signal.samples is not None:
            parts.append(f"at most {signal.samples} samples")
        if signal.neurons is not None:
            parts.append(f"{signal.plan.neurons} neurons")
        kept = f" ({', '.join(parts)})" if parts else ""
        return (
            f"<signal {self.name!r} of layer {self.layer!r}: {self.frames} frames of {self.neuron_shape} "
            f"{signal.dtype}{kept}>"
        )


def _timed(source: Source) -> Laid:
    """How the time of each frame lies in a lazy array with the same blocks."""
    laid = _laid(source)
    blocks = laid.block_frames, laid.frames
    return Laid("time", "time within the trial", np.dtype(np.float64), read_time, *blocks, (), ())


class LayerSignals(Mapping[str, LayerSignal]):
    """The signals of a layer by name, in the order in which they came; a `KeyError` names those there are."""

    def __init__(self, sources: Sequence[Source], members: Members) -> None:
        self._sources = tuple(sources)
        self._members = members

    @property
    def _names(self) -> list[str]:
        every = [[signal.name for signal in source.commit.signals] for source in self._sources]
        return [name for name in every[0] if all(name in names for names in every)]

    def __getitem__(self, name: str) -> LayerSignal:
        if name not in self._names:
            there = ", ".join(map(repr, self._names)) or "none"
            raise UnknownSignalError(
                f"layer {self._sources[0].layer!r} has no signal {name!r}; its signals are: {there}. Record "
                "it with Monitor(..., signals=[...])"
            )
        sources = [source.of_signal(name) for source in self._sources]
        _check_alike(sources)
        return LayerSignal(sources, self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<signals of layer {self._sources[0].layer!r}: {', '.join(map(repr, self)) or 'none'}>"


class UnknownSignalError(KeyError):
    """The layer has no signal of this name."""

    def __str__(self) -> str:
        # KeyError itself would show the message as a quoted literal.
        return str(self.args[0])


def _check_alike(sources: Sequence[Source]) -> None:
    """Refuse neurons that cannot be told, and recordings whose signals are not of the same neurons."""
    one = commit_of(sources[0])
    for source in sources:
        signal, shape = commit_of(source), source.commit.axes
        if (signal.shape, signal.neurons, signal.dtype) != (one.shape, one.neurons, one.dtype):
            raise QuestionError(
                f"signal {one.name!r} of layer {source.layer!r} is not of the same neurons and data type in "
                "all of these recordings; look at one of them: select(recordings=...)"
            )
        if source.selection.neurons is not None and signal.shape != shape:
            raise QuestionError(
                f"neurons are selected, and the values of signal {one.name!r} of layer {source.layer!r} have "
                f"the shape {signal.shape} at each frame, which is not that of the layer, {shape}"
            )


def _laid(source: Source) -> Laid:
    """How the values of a signal lie in a lazy array."""
    signal, neurons = commit_of(source), neurons_of(source)
    frame_bytes = max(len(neurons.stored) * signal.itemsize, 1)
    size = signal.plan.chunk_frames
    block = max(min(BLOCK_BYTES // frame_bytes, BLOCK_FRAMES) // size, 1) * size
    partial = signal.neurons is not None or source.selection.neurons is not None
    return Laid(
        name=signal.name,
        long_name=f"{signal.name} of layer {source.layer}",
        dtype=np.dtype(signal.dtype),
        task=read_values,
        block_frames=block,
        frames=signal.frames,
        dimensions=neurons.dimensions,
        lengths=tuple((length,) for length in neurons.shape),
        coordinates=dict(zip(neurons.dimensions, neurons.coordinates, strict=True)) if partial else {},
    )
