"""Statistics of what spikes cost: synaptic operations, and the arithmetic energy of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from math import prod
from typing import Any, Final, Literal
from warnings import warn

import dask.array as da
import xarray as xr

from analysis.arguments import QuestionError, check_choice, listed, real_number
from analysis.asking.graphs import count_frames_of_layer
from analysis.asking.kept import warn_of_other_frames
from analysis.asking.operations.counted_operations import (
    Covering,
    Kind,
    covering_of,
)
from analysis.asking.operations.fan_outs import (
    OperationsOf,
    Weights,
    connections_of,
    has_some_frames,
    listed_uncovered,
)
from analysis.asking.planning import plan_answer
from analysis.formulas.energies import PRESETS, OperationEnergies
from analysis.kernels.counting.quantities import SPIKES
from analysis.kernels.selecting.source import Source
from analysis.members import Members
from analysis.questions import Per, Question, UncoveredOperationsWarning
from analysis.statistics.answers.answering import Answering, of_each_recording
from analysis.statistics.answers.labelling import labelled
from analysis.statistics.weighted_spikes import counts_of, left_out_of, weighted, with_axes

Uncovered = Literal["refuse", "leave out"]
_WEIGHTS: Final = {"all": "all weights count", "nonzero": "weights that were 0 are left out"}
_KINDS: Final = {
    "all": "synaptic operations",
    "accumulates": "accumulates among synaptic operations",
    "multiply_accumulates": "multiply-accumulates among synaptic operations",
}
_COUNTED: Final = {"events": "spikes", "magnitude": "magnitudes of values"}
_LARGEST: Final = 2**62


class Operations(Answering):
    """Statistics of what spikes cost in the layers that read them."""

    def synaptic_operations(
        self,
        per: Per | None = None,
        *,
        window: int | None = None,
        weights: Weights = "all",
        kind: Kind = "all",
        of: OperationsOf = "events",
        uncovered: Uncovered = "refuse",
    ) -> xr.DataArray:
        """Synaptic operations: each spike counts once for each weight that it meets in the next layers.

        That is spikes × fan-out, added up over neurons; the fan-out of a neuron is exact, also at borders of
        convolutions, and known from the first recorded forward. Biases do not count. Each such operation is
        an accumulate, as its input is 1. Operations of a layer are those that *its* spikes cause, in the
        weight layers that read it; those of the layers that read the input of the network are none of them,
        see `energy`.

        What reads layers indirectly, as through pooling or sums, or reads other values than 0 and 1, is in it
        where the recording was made with ``operations=True``: as many operations as were counted of that
        weight layer, one for each weight that meets a value that is not 0; multiply-accumulates, if the input
        of that call was not 0 and 1 alone. With ``per="layer"`` these weight layers follow behind the layers,
        by their own names; layers which only they read are not listed. Counts are of all samples and trials,
        so they then also tell what reads a layer of which only some of these were kept.

        With ``weights="all"`` and ``kind="accumulates"`` it equals the ``SynOpCounter`` of SpikingJelly 2.0,
        and the analyser of sinabs, with ``of="magnitude"`` also where neurons fire several times a step. With
        ``weights="nonzero"`` it is the effective accumulates of NeuroBench's ``SynapticOperations``, which
        also takes -1 for a spike.

        Parameters
        ----------
        per : str or sequence of str, optional
            What is kept apart, see the class. Left out, nothing is, and the result is a single number.
        window : int, optional
            Steps in a window, for ``per="window"``.
        weights : {"all", "nonzero"}
            Whether weights count that were 0 in the first recorded forward; of operations that were counted,
            that were 0 then.
        kind : {"all", "accumulates", "multiply_accumulates"}
            Which operations.
        of : {"events", "magnitude"}
            Of layers that put out whole numbers other than 0 and 1: whether a value is one operation for each
            weight, a multiply-accumulate, which has to be counted while recording; or as many accumulates as
            its magnitude says, as where a value of 3 is three spikes. Of other layers these are the same.
        uncovered : {"refuse", "leave out"}
            What to do where the network has weight layers, or products such as those of attention, that read
            no recorded layer directly, as behind pooling or sums, and were not counted: how many operations
            these do is not known. So it is with what reads a layer of which some neurons were kept, unless
            neurons are selected.
            Refuse; or leave them out, with a warning and the attribute ``not_covered``, which names them.
            Layers of which no reader is known are then left out, too: they are not 0.

        Returns
        -------
        xarray.DataArray of int64
            Lazy (dask). 0 where there are no frames, and for layers that no weight layer reads.

        Raises
        ------
        QuestionError
            If ``per`` or another parameter makes no sense, if the recording does not know its connections, or
            if there is anything that is not covered.
        RecordingFormatError
            If what is stored of the connections is damaged; when computed, if a chunk is missing or damaged.

        Warns
        -----
        UncoveredOperationsWarning
            If anything is left out.
        """
        question = self._question(per, window)
        covering = self._covering(uncovered, of, question)
        return self._of_layer(self._operations(question, weights, kind, covering))

    def energy(
        self,
        per: Per | None = None,
        *,
        window: int | None = None,
        preset: str = "45nm",
        accumulate: float | Fraction | None = None,
        multiply_accumulate: float | Fraction | None = None,
        weights: Weights = "all",
        of: OperationsOf = "events",
        uncovered: Uncovered = "refuse",
    ) -> xr.DataArray:
        """Energy of the synaptic operations that spikes cause, in picojoules: arithmetic only.

        It is that of the accumulates, and of the multiply-accumulates, of `synaptic_operations`. Memory,
        communication, leakage and the dynamics of neurons are not in it, and on real hardware they often take
        the most: it serves to compare networks, not to predict what a chip draws. Formula, source and these
        words are among the attributes.

        The layers that read the input of the network are apart, as the coordinate ``input_layer``: all of
        their operations, also those of inputs that are 0, as multiply-accumulates (as accumulates, if the
        input was 0 and 1), in each frame as many as in the first recorded forward. Frames are those of the
        counts, where these are in the figure, else of the first layer of which all samples and trials were
        kept, if there is one. It is there where a recording is asked and neither layers nor neurons or
        channels are kept apart. Add it for the energy of the network.

        Parameters
        ----------
        per, window, weights, of, uncovered
            As in `synaptic_operations`.
        preset : str
            Energies of one operation. ``"45nm"``: 0.9 pJ an accumulate and 4.6 pJ a multiply-accumulate of
            32-bit floats; ``"45nm-fp16"`` 0.4 and 1.5, ``"45nm-int32"`` 0.1 and 3.2, ``"45nm-int8"`` 0.03 and
            0.23 (Horowitz 2014, ISSCC); ``"7nm"``: 0.38 and 1.69, 32-bit floats (Jouppi et al. 2021, ISCA).
        accumulate, multiply_accumulate : float or fractions.Fraction, optional
            Other energies, in picojoules. A float stands for the decimal fraction that it is written as.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask), in pJ.

        Raises
        ------
        QuestionError
            If there is no such preset, or an energy is no number, or negative; and as `synaptic_operations`.
        """
        prices = _prices(preset, accumulate, multiply_accumulate)
        question = self._question(per, window)
        covering = self._covering(uncovered, of, question)
        operations = self._operations(question, weights, "accumulates", covering)
        price, multiplied = prices.accumulate, prices.multiply_accumulate
        result = operations * price.numerator / price.denominator
        formula = f"{float(price):g} pJ × synaptic operations"
        if covering.counted:
            others = self._operations(question, weights, "multiply_accumulates", covering)
            result = result + others * multiplied.numerator / multiplied.denominator
            formula = f"{float(price):g} pJ × accumulates + {float(multiplied):g} pJ × multiply-accumulates"
        if self._default_per != () and not question.layers and question.place == "all":
            inputs = self._input_layer(question, prices, weights, covering)
            result = result.assign_coords(input_layer=inputs)
        result.attrs = {
            **operations.attrs,
            "long_name": "energy of synaptic operations, arithmetic only",
            "units": "pJ",
            "formula": f"{formula}; arithmetic only: no memory, no communication, no leakage, no dynamics of "
            "neurons",
            "source": prices.source,
        }
        return self._of_layer(result.rename("energy"))

    def _covering(self, uncovered: Uncovered, of: OperationsOf, question: Question) -> Covering:
        """What tells the operations of the layers; what nothing tells is refused, or warned of."""
        check_choice(uncovered, "uncovered", ("refuse", "leave out"))
        check_choice(of, "of", _COUNTED)
        layers = self._layers()
        covering = covering_of(layers, of)
        missing = covering.missing
        if missing and uncovered == "refuse":
            # Products of other modules are never counted, and weight layers have been where any was.
            has_counts = layers[0][0].operations is not None
            more = "" if has_counts else "; weight layers are counted with Monitor(..., operations=True)"
            if of == "events" and any(source.commit.values for layer in layers for source in layer):
                more += "; of='magnitude' takes a value of 3 for three spikes"
            raise QuestionError(
                "the network does operations that spikes alone do not tell: "
                f"{listed_uncovered(missing)}. uncovered='leave out' gives those of the others{more}"
            )
        left_out = left_out_of(layers, covering)
        if missing:
            if len(left_out) == len(layers) and not covering.counted:
                raise QuestionError(
                    f"no weight layer is known that reads {listed(left_out, 'or')} directly. These are not "
                    f"covered: {listed_uncovered(missing)}"
                )
            unknown = f"; and the layers {listed(left_out, 'and')}, whose readers are not known"
            warn(
                f"left out, as spikes alone do not tell their operations: {listed_uncovered(missing)}"
                + (unknown if left_out else ""),
                UncoveredOperationsWarning,
                stacklevel=3,
            )
        if not question.layers:
            warn_of_other_frames([layer for layer in layers if layer[0].layer not in left_out])
        return covering

    def _operations(
        self, question: Question, weights: Weights, kind: Kind, covering: Covering
    ) -> xr.DataArray:
        check_choice(weights, "weights", _WEIGHTS)
        check_choice(kind, "kind", _KINDS)
        layers = self._layers()
        left_out = left_out_of(layers, covering) if covering.counted or covering.missing else []
        build = partial(weighted, weights, kind, covering, left_out)
        result = of_each_recording(build, layers, question, self.members).rename("synaptic_operations")
        about: dict[str, Any] = {
            "long_name": _KINDS[kind],
            "units": "1",
            "formula": f"{_COUNTED[covering.of]} × fan-out; {_WEIGHTS[weights]}, biases do not",
        }
        if covering.counted:
            about["formula"] += "; of weight layers in `counted` as many as were counted"
            about["counted"] = [*covering.counted]
        if covering.missing:
            about["not_covered"] = [f"{name}: {why}" for name, why in covering.missing.items()]
            about["layers_left_out"] = left_out
        return result.assign_attrs(about)

    def _input_layer(
        self, question: Question, prices: OperationEnergies, weights: Weights, covering: Covering
    ) -> xr.DataArray:
        """Energy of the layers that read the input of the network, in pJ, lazily."""
        layers = self._layers()
        build = partial(_of_inputs, prices, weights, bool(covering.counted))
        result = of_each_recording(build, layers, question, self.members)
        readers = {one.name: one.is_binary for each in connections_of(layers) for one in each.inputs}
        of = {True: (prices.accumulate, "accumulates"), False: (prices.multiply_accumulate, "MACs")}
        said = [
            f"{float(of[binary][0]):g} pJ × {of[binary][1]} of {name!r}" for name, binary in readers.items()
        ]
        return result.rename("input_layer").assign_attrs(
            long_name="energy of the layers that read the input, arithmetic only",
            units="pJ",
            formula=f"{' + '.join(said) or '0'}, all inputs counted, also those that are 0; arithmetic only",
        )


def _of_inputs(
    prices: OperationEnergies,
    weights: Weights,
    with_counts: bool,
    layers: Sequence[Sequence[Source]],
    question: Question,
    members: Members,
) -> xr.DataArray:
    """Energy of the layers that read the input, in the frames of the counts, or of a layer that has all."""
    layers, axes = with_axes(layers, question, members, with_counts=with_counts)
    counted = replace(question, layers=False)
    in_all_frames = (layer for layer in layers if not has_some_frames(layer))
    layer = counts_of(layers[0], question) if with_counts else next(in_all_frames, layers[0])
    plan = plan_answer(SPIKES, [layer], counted, members, axes)
    pooled = []
    for pool in plan.pools:
        (cuts,) = pool
        parts = []
        for one in cuts:
            price = _price_of_frame(one.source, prices, weights)
            frames = count_frames_of_layer(plan, [one])
            if prod((one.source.commit.frames, price.numerator)) >= _LARGEST:
                parts.append(frames * float(price))
            else:
                parts.append(frames * price.numerator / price.denominator)
        parts = parts if len(parts) == 1 else [da.stack(parts).sum(axis=0)]
        pooled.append(parts[0])
    values = da.stack(pooled) if question.recordings else pooled[0]
    return labelled(values, question, axes, [layer], members)


def _price_of_frame(source: Source, prices: OperationEnergies, weights: Weights) -> Fraction:
    """What the layers that read the input take for a frame, in pJ."""
    total = Fraction(0)
    for reader in source.connections.inputs if source.connections is not None else ():
        operations = reader.operations if weights == "all" else reader.nonzero_operations
        price = prices.accumulate if reader.is_binary else prices.multiply_accumulate
        total += price * Fraction(operations, reader.frames)
    return total


def _prices(preset: str, accumulate: Any, multiply_accumulate: Any) -> OperationEnergies:
    check_choice(preset, "preset", PRESETS, ", or energies of your own")
    prices = PRESETS[preset]
    given = {"accumulate": accumulate, "multiply_accumulate": multiply_accumulate}
    own = {name: _price(name, value) for name, value in given.items() if value is not None}
    if not own:
        return prices
    source = "energies given" if len(own) == 2 else f"{listed([*own])} given; otherwise {prices.source}"
    return replace(prices, **own, source=source)


def _price(name: str, value: Any) -> Fraction:
    value = real_number(value, name, "picojoules such as 0.9")
    if not 0 <= float(value) < float("inf"):
        raise QuestionError(f"{name}={value!r}; expected picojoules, 0 or more")
    return value if isinstance(value, Fraction) else Fraction(repr(float(value)))
