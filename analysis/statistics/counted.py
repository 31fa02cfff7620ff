"""Operations as they were counted while recording, of each weight layer and kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analysis.arguments import QuestionError
from analysis.asking.axes import check_axes, frame_axes
from analysis.asking.operations.counted_operations import counted_sums, weight_layers_of
from analysis.kernels.selecting.source import Source
from analysis.members import Members
from analysis.questions import Per, Question
from analysis.statistics.answers.answering import Answering, of_each_recording
from analysis.statistics.answers.labelling import labelled
from analysis.statistics.weighted_spikes import counts_of
from recorder.format.record.operations import KINDS


class CountedOperations(Answering):
    """Operations of recordings that were made with ``Monitor(..., operations=True)``."""

    def counted_operations(self, per: Per = (), *, window: int | None = None) -> xr.DataArray:
        """Operations of each weight layer, as they were counted while recording.

        An operation is one weight that meets one value of the layer's input; no bias counts. It is an
        accumulate if the input of that call was 0 and 1 alone, else a multiply-accumulate. Kinds are
        ``accumulates`` and ``multiply_accumulates``, of values that are not 0; ``nonzero_…``, those of them
        with weights that are not 0; ``dense_…``, of all values. These are NeuroBench's ``Dense`` and, of
        nonzero kinds, its effective operations; without such a prefix, accumulates are those of the
        ``SynOpCounter`` of SpikingJelly 2.0. Layers that read the input of the network are among them.

        Parameters
        ----------
        per : str or sequence of str
            What is kept apart: steps, windows, times, trials, samples, presentations, columns of the trials,
            recordings. Nothing if left out.
        window : int, optional
            Steps in a window, for ``per="window"``.

        Returns
        -------
        xarray.DataArray of int64
            Lazy (dask), dimensions ``(*per, weight_layer, kind)``. The attribute ``not_counted`` names weight
            layers that are left out, as not all of their operations were counted, and why.

        Raises
        ------
        QuestionError
            If none were counted, or not of the same weight layers in all recordings; if ``per`` makes no
            sense, or keeps layers or neurons apart.
        RecordingFormatError
            When computed, if a chunk is missing or damaged.
        """
        question = self._question(per, window)
        layers = self._layers()
        if question.layers or question.place != "all":
            raise QuestionError(
                f"per={per!r} keeps layers or neurons apart; operations were counted for each weight layer, "
                "which are kept apart in any case"
            )
        names = weight_layers_of(layers[0]) if layers else ()
        if not names:
            raise QuestionError(
                "no operations were counted, or not of the same weight layers in all of these recordings; "
                "record with Monitor(..., operations=True), or look at one: select(recordings=...)"
            )
        left_out = {
            name: why
            for source in layers[0]
            for name, why in (source.operations.uncounted if source.operations else {}).items()
        }
        kept = [place for place, name in enumerate(names) if name not in left_out]

        def build(layers: Sequence[Sequence[Source]], question: Question, members: Members) -> xr.DataArray:
            check_axes([], question, members)
            counts = counts_of(layers[0], question)
            axes = frame_axes(counts, question)
            sums = counted_sums(counts, question, axes)[..., kept, :]
            along = {"weight_layer": np.array([names[place] for place in kept], np.str_)}
            further = {**along, "kind": np.array(KINDS, np.str_)}
            return labelled(sums, question, axes, [counts], members, further)

        result = of_each_recording(build, layers[:1], question, self.members)
        not_counted = [f"{name}: {why}" for name, why in left_out.items()]
        return result.rename("counted_operations").assign_attrs(
            long_name="operations, as they were counted", units="1", not_counted=not_counted
        )
