"""One layer of a recording."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import xarray as xr

from analysis.asking.kept import refuse_counts, refuse_left_out
from analysis.asking.narrowing import conditions, narrow_frames, narrow_neurons
from analysis.display import LayerSummary, describe_layer, layer_html
from analysis.export import Contents, LayerExport
from analysis.glimpses import rates_at_a_glance
from analysis.kernels.selecting.grouping import Grouping, range_size, unite_ranges
from analysis.kernels.selecting.source import Source, frames_of
from analysis.members import Members
from analysis.plotting import Plots
from analysis.signals import LayerSignals
from analysis.spikes import lazy_spikes, lazy_values
from analysis.statistics import Statistics
from recorder.format.columns import Value
from recorder.format.layout import neuron_dimensions
from recorder.format.record.parts import LayerPart


class Layer(Statistics, LayerExport):
    """One layer of a recording as of one commit; comes from `Recording.layers`.

    ``per`` in the statistics says what is kept apart, as in `analysis.recording.Recording`; besides,
    ``"neuron"`` or ``"channel"`` alone or with others, such as ``("label", "neuron")`` for tuning curves.
    Left out, the result is a single number.
    """

    _default_per = ()

    def __init__(self, sources: Sequence[Source], members: Members) -> None:
        self._sources = tuple(sources)
        self._members = members
        # What all recordings agree upon is taken from the first.
        self._source = sources[0]

    @property
    def sources(self) -> tuple[Source, ...]:
        """The selected frames in each recording; for the other files of this package."""
        return self._sources

    @property
    def members(self) -> Members:
        """The recordings; for the other files of this package."""
        return self._members

    @property
    def name(self) -> str:
        """PyTorch module name."""
        return self._source.layer

    @property
    def layer_class(self) -> str:
        """Qualified name of the module's class."""
        return self._source.commit.layer_class

    @property
    def dtype(self) -> str:
        """Data type of the layer's output in the network, e.g. ``"float32"``."""
        return self._source.commit.dtype

    @property
    def neuron_shape(self) -> tuple[int, ...]:
        """Shape of the layer's output, batch and time axes taken away; of the selected neurons alone."""
        return self._source.neuron_shape

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the neuron axes, e.g. ``("channel", "height", "width")``."""
        return neuron_dimensions(self._source.commit.axes)

    @property
    def neurons(self) -> int:
        """Number of selected neurons."""
        return self._source.neurons

    @property
    def frames(self) -> int:
        """Number of selected frames; one frame is one sample at one step."""
        return sum(frames_of(source).frames for source in self._sources)

    @property
    def lost_frames(self) -> int:
        """Number of frames of the whole layer that were damaged and are marked lost; no figure has them."""
        return sum(source.commit.lost_frames for source in self._sources)

    @property
    def steps(self) -> int:
        """Number of steps with selected frames; a step that ranks of one run have in common is one step."""
        return selected_steps(self._sources, self._members)

    @property
    def part(self) -> LayerPart | None:
        """The part of the layer that was kept; None where it is the whole."""
        return self._source.commit.part

    @property
    def spikes(self) -> xr.DataArray:
        """The spikes as a lazy boolean array, see `analysis.spikes.lazy_spikes`."""
        refuse_left_out(self._sources)
        refuse_counts([self._sources], "layer.spikes")
        return lazy_spikes(self._sources, self._members.names)

    @property
    def values(self) -> xr.DataArray:
        """What the layer put out, lazily; see `analysis.spikes.lazy_values`."""
        refuse_left_out(self._sources)
        refuse_counts([self._sources], "layer.values")
        return lazy_values(self._sources, self._members.names)

    @property
    def plot(self) -> Plots:
        """Pictures for notebooks and papers: ``layer.plot.raster()``, ``.rates()``, ``.heatmap()``."""
        return Plots(self, "neuron", lambda: {self.name: self.spikes})

    @property
    def value_range(self) -> tuple[float, float]:
        """Least and greatest value of the whole layer, 0 included; 0 and 1 of a layer of zeros and ones."""
        return value_range(self._sources)

    @property
    def value_scale(self) -> float | None:
        """The number that all values are whole multiples of; None where recordings differ in it."""
        return value_scale(self._sources)

    @property
    def signals(self) -> LayerSignals:
        """What was recorded beside the spikes, by name, such as ``layer.signals["v"]``."""
        return LayerSignals(self._sources, self._members)

    def select(
        self,
        *,
        steps: slice | None = None,
        time: slice | None = None,
        neurons: Any = None,
        channels: int | slice | Iterable[int] | None = None,
        samples: int | slice | Iterable[int] | None = None,
        trials: int | slice | Iterable[int] | None = None,
        labels: Value | Iterable[Value] | None = None,
        where: Mapping[str, Value | Iterable[Value]] | None = None,
    ) -> Layer:
        """A narrower view of the layer, see `Recording.select`."""
        sources = self._sources
        selection = narrow_frames(
            sources[0].selection,
            [sources],
            self._members,
            steps=steps,
            time=time,
            samples=samples,
            trials=trials,
            where=conditions(labels, where),
        )
        narrowed = narrow_neurons(sources[0], neurons, channels)
        selection = replace(selection, neurons=narrowed.neurons)
        return Layer([source.narrowed(selection) for source in sources], self._members)

    def _layers(self) -> Sequence[Sequence[Source]]:
        refuse_left_out(self._sources)
        return [self._sources]

    def _contents(self, neurons: Any = None) -> Contents:
        sources = self.select(neurons=neurons).sources
        return Contents(self._members, [sources], sources[0].selection)

    def __repr__(self) -> str:
        return describe_layer(self._summary())

    def _repr_html_(self) -> str:
        return layer_html(self._summary(), rates_at_a_glance([self._sources]))

    def _summary(self) -> LayerSummary:
        return summarise_layer(self._sources, self._members)


def selected_steps(sources: Sequence[Source], members: Members) -> int:
    """Number of steps with selected frames of a layer."""
    if members.share_steps:
        steps = [Grouping("steps").ranges_of(frames_of(source).segments) for source in sources]
        return range_size(unite_ranges(steps))
    return sum(int(frames_of(source).segments.steps.sum()) for source in sources)


def value_range(sources: Sequence[Source]) -> tuple[float, float]:
    """Least and greatest value of a layer in all its recordings."""
    values = [source.commit.values for source in sources]
    least = min(each.least * each.scale if each else 0.0 for each in values)
    most = max(each.most * each.scale if each else 1.0 for each in values)
    return float(least), float(most)


def value_scale(sources: Sequence[Source]) -> float | None:
    """The number that all values of a layer are multiples of; None if its recordings differ in it."""
    scales = {source.commit.values.scale if source.commit.values else 1.0 for source in sources}
    return scales.pop() if len(scales) == 1 else None


def summarise_layer(sources: Sequence[Source], members: Members) -> LayerSummary:
    """Facts about a layer that are shown."""
    source = sources[0]
    return LayerSummary(
        name=source.layer,
        layer_class=source.commit.layer_class,
        neuron_shape=source.commit.plan.neuron_shape,
        dtype=source.commit.dtype,
        frames=sum(frames_of(source).frames for source in sources),
        steps=selected_steps(sources, members),
        lost_frames=sum(source.commit.lost_frames for source in sources),
        signals=tuple(signal.name for signal in source.commit.signals),
        value_range=value_range(sources),
        value_scale=value_scale(sources),
        part=str(source.commit.part or ""),
    )
