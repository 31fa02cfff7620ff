"""Correlation of the neurons of a layer with each other."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from analysis.arguments import QuestionError, check_choice, whole_number
from analysis.asking.kept import refuse_counts
from analysis.asking.narrowing import narrow_neurons
from analysis.asking.populations import lazy_correlation
from analysis.asking.tallies import read_boundary
from analysis.kernels.coactivity import Observed
from analysis.kernels.selecting.sequences import Boundary
from analysis.kernels.selecting.source import Source, real_neurons
from analysis.statistics.answers.answering import Answering
from recorder.format.layout import neuron_dimensions

# A matrix of so many takes 800 MB, and as much again while it is made.
MAX_SERIES: Final = 10_000
MAX_NUMBER: Final = 2**31 - 1


class Correlations(Answering):
    """Statistics of pairs of neurons."""

    def correlation(
        self,
        neurons: Any = None,
        *,
        window: int = 1,
        sample: int | None = None,
        seed: int = 0,
        place: Literal["neuron", "channel"] = "neuron",
        boundary: Boundary = None,
    ) -> xr.DataArray:
        """Pearson correlation of each two neurons of a layer, over bins of presentations.

        Each bin of each presentation is one observation: the spikes of each neuron in ``window`` successive
        steps. Bins begin at the first step of the presentation, and anew behind steps that are missing in it;
        none reaches over a break. Steps left over at the end, too few to fill a bin, are left out. Equal to
        ``numpy.corrcoef`` of these counts, and for one presentation to
        ``elephant.spike_train_correlation.correlation_coefficient`` of its spike trains. The formula is that
        of `analysis.formulas.correlation.correlation_matrix`.

        Parameters
        ----------
        neurons : index, or tuple of indices, optional
            Some neurons, as in `Recording.select`.
        window : int
            Steps in a bin.
        sample : int, optional
            At most so many neurons, drawn without replacement. Needed for more than 10 000 neurons, unless
            ``place`` is ``"channel"``.
        seed : int
            Of ``numpy.random.default_rng``, which draws them.
        place : {"neuron", "channel"}
            Whether each neuron counts by itself, or the spikes of all neurons of a channel together.
        boundary : "none" or int, optional
            Outside of trials: the whole run is one sequence for each place in the batch, or a new one begins
            at every step whose number is a multiple of this. Left out, frames outside of trials are too.

        Returns
        -------
        xarray.DataArray of float64, shape [neurons, neurons]
            Lazy (dask). Dimensions ``neuron`` (or ``channel``) and ``other``, with flat indices in the whole
            layer; of several neuron axes also the index along each, such as ``height`` and ``other_height``.
            Exactly 1 on the diagonal; NaN for a neuron whose count never changes. The coordinate ``defined``
            is the number of observations.

        Raises
        ------
        QuestionError
            If several layers are selected, there are too many neurons, there are no such neurons or channels,
            nothing was recorded in trials and there is no boundary, or ``window``, ``sample``, ``seed`` or
            ``boundary`` is no whole number in its range.
        """
        sources = _narrowed(self._layer_correlated(), neurons)
        window = whole_number(window, "window", "a number of steps", least=1, most=MAX_NUMBER)
        if sample is not None:
            sample = whole_number(sample, "sample", "a number of neurons", least=1, most=MAX_NUMBER)
        seed = whole_number(seed, "seed", "a whole number", least=0)
        boundary = read_boundary([sources], boundary)
        check_choice(place, "place", ("neuron", "channel"))
        source, chosen = sources[0], None
        if place == "channel":
            coordinates = _channels(source, sample)
        else:
            chosen = _drawn(source, sample, seed)
            coordinates = _neurons(source, chosen)
        series = len(coordinates[place][1])
        observed = Observed(
            series, None if chosen is None else tuple(chosen.tolist()), place == "channel", window, boundary
        )
        matrix, observations = lazy_correlation(sources, observed)
        coordinates["defined"] = ((), observations, {"long_name": "bins of presentations", "units": "1"})
        result = xr.DataArray(matrix, dims=(place, "other"), coords=coordinates, name="correlation")
        return self._of_layer(result).assign_attrs(long_name=f"correlation of {place}s", units="1")

    def _layer_correlated(self) -> tuple[Source, ...]:
        """The only selected layer, in all recordings."""
        layers = self._layers()
        if len(layers) != 1:
            names = ", ".join(repr(layer[0].layer) for layer in layers) or "none"
            raise QuestionError(
                f"correlation is about the neurons of one layer, but {len(layers)} are selected; ask one of "
                f'them: recording["1"].correlation(). The layers are: {names}'
            )
        refuse_counts(layers, "correlation()")
        return tuple(layers[0])


Coordinates = dict[str, tuple[Any, ...]]


def _narrowed(sources: tuple[Source, ...], neurons: Any) -> list[Source]:
    return [source.narrowed(narrow_neurons(source, neurons, None)) for source in sources]


def _channels(source: Source, sample: int | None) -> Coordinates:
    shape = source.commit.axes
    if sample is not None:
        raise QuestionError(f'sample={sample} draws neurons; leave it out where place="channel" has them all')
    if "channel" not in neuron_dimensions(shape):
        raise QuestionError(f"layer {source.layer!r} has no channels: its neuron shape is {shape}")
    channels = np.array(source.indices[0], np.int64)
    if len(channels) > MAX_SERIES:
        raise QuestionError(
            f"layer {source.layer!r}: {len(channels)} channels are selected; at most {MAX_SERIES} can be "
            "correlated with each other. Select fewer of them: select(channels=...)"
        )
    return {"channel": ("channel", channels), "other": ("other", channels)}


def _drawn(source: Source, sample: int | None, seed: int) -> NDArray[np.int64] | None:
    """Places of the drawn neurons among the selected ones, ascending; None for all."""
    wanted = min(source.neurons, MAX_SERIES + 1 if sample is None else sample)
    if wanted > MAX_SERIES:
        raise QuestionError(
            f"layer {source.layer!r}: correlations of {source.neurons if sample is None else sample} neurons "
            f"were asked for; at most {MAX_SERIES} can be correlated with each other. Draw some of them with "
            f'sample=1000, choose some with neurons=..., or add up channels with place="channel"'
        )
    if wanted == source.neurons:
        return None
    return np.sort(np.random.default_rng(seed).choice(source.neurons, wanted, replace=False))


def _neurons(source: Source, chosen: NDArray[np.int64] | None) -> Coordinates:
    """Flat indices in the whole layer, and those along each of several axes."""
    flat = real_neurons(source)
    flat = flat if chosen is None else flat[chosen]
    coordinates: Coordinates = {"neuron": ("neuron", flat), "other": ("other", flat)}
    shape = source.commit.axes
    if len(shape) > 1:
        for name, along in zip(neuron_dimensions(shape), np.unravel_index(flat, shape), strict=True):
            coordinates |= {name: ("neuron", along), f"other_{name}": ("other", along)}
    return coordinates
