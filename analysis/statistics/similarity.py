"""Similarity of layers, and accuracy of the output."""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import prod
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.array.core import elemwise

from analysis.arguments import ArgumentTypeError, QuestionError
from analysis.asking.kept import kept_text
from analysis.kernels.counting.tasks import ratio
from analysis.kernels.selecting.selection import Labels
from analysis.kernels.tables import alignments, cross_products, hits, hsic_from_grams, hsic_from_products
from analysis.questions import Per, words_of
from analysis.statistics.answers.averaging import MAX_ELEMENTS, SUM_BYTES, array_of, key_of, tally
from analysis.statistics.answers.labelling import LONG_NAMES, with_durations
from analysis.statistics.answers.presented import OfPresentations
from analysis.statistics.answers.tables import Apart, Table, tables_of
from analysis.statistics.presentations import gram_of
from recorder.format.bits import Integers
from spiketape_worker import Parcel


class Similarity(OfPresentations):
    """Statistics that compare layers with each other, and output with labels."""

    def similarity(self, other: Similarity | None = None, per: str | None = None) -> xr.DataArray:
        """Linear centred kernel alignment (CKA) of spike counts over the same presentations, without bias.

        It is 1 for counts that are equal up to rotation and scale, and 0 on average for independent ones;
        single values may be below 0. See `analysis.formulas.similarity`.

        Parameters
        ----------
        other : Recording or Layer, optional
            Of a recording, left out: each layer is compared with each. Another recording: each layer with the
            layer of the same name there. Of a layer: another layer, of this recording or of another.
        per : {"time"}, optional
            Spikes at each time by themselves, instead of counts of whole presentations.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). Dimensions ``layer`` and ``other_layer``, or ``layer``, or none; and ``time``, with
            a coordinate in its unit where both know the duration of a step and agree. NaN for fewer than four
            presentations, and where no neuron varies.

        Raises
        ------
        QuestionError
            If presentations differ in trial or sample (per time also in the times they have), if there are
            none, or if matrices of neurons and of presentations were both too large; if a recording is
            compared with a layer.

        Examples
        --------
        >>> recording.similarity()  # doctest: +SKIP
        >>> recording["1"].similarity(trained["1"], per="time")  # doctest: +SKIP
        """
        words = () if per is None else words_of(per)
        if words not in ((), ("time",)):
            raise QuestionError(f"similarity(per={per!r}); expected 'time', or None for whole presentations")
        by_time = bool(words)
        if other is not None and type(other) is not type(self):
            raise ArgumentTypeError(
                f"got {type(self).__name__} and {type(other).__name__}; expected two recordings, or two "
                'layers as in recording["1"].similarity(other["1"])'
            )
        if self._default_per == () and other is None:
            raise QuestionError(
                'give the layer to compare with, as in recording["1"].similarity(recording["2"])'
            )
        names = [layer[0].layer for layer in self._layers()]
        others = () if other is None else other._layers()  # noqa: SLF001 - of the same class
        tables = tables_of("similarity", self._layers(), self.members, by_time)
        coordinates: dict[str, Any] = {}
        if other is None:
            found = {
                pair: _cka(tables[pair[0]], tables[pair[1]], by_time)
                for pair in combinations_with_replacement(range(len(tables)), 2)
            }
            every = range(len(tables))
            array = da.stack([da.stack([found[min(a, b), max(a, b)] for b in every]) for a in every])
            coordinates = {"layer": names, "other_layer": names}
        elif self._default_per == ():
            there = tables_of("similarity", others, other.members, by_time)
            array = _cka(tables[0], there[0], by_time)
        else:
            theirs = {layer[0].layer: layer for layer in others}
            common = [name for name in names if name in theirs]
            if not common:
                raise QuestionError(f"no layer is in both; here they are {names}, there {[*theirs]}")
            there = tables_of("similarity", [theirs[name] for name in common], other.members, by_time)
            kept = [table for table in tables if table.source.layer in theirs]
            array = da.stack([_cka(one, two, by_time) for one, two in zip(kept, there, strict=True)])
            coordinates = {"layer": common}
        if by_time:
            coordinates["time"] = pd.RangeIndex(array.shape[-1])
        result = xr.DataArray(
            array if by_time else array[..., 0], dims=[*coordinates], coords=coordinates, name="similarity"
        )
        if by_time:
            result["time"].attrs["long_name"] = LONG_NAMES["time"]
        if other is None or other.members.step_duration == self.members.step_duration:
            result = with_durations(result, self.members)
        return result.assign_attrs(long_name="similarity of spike counts (CKA)", units="1")

    def accuracy(
        self, layer: str | None = None, per: Per | None = None, *, by: str = "label"
    ) -> xr.DataArray:
        """Share of presentations in which the output neuron with most spikes is that of the label.

        Per time, spikes are those from the first time looked at to this one, which shows how many steps a
        network needs; presentations that end before keep their last counts. Of neurons with equally many
        spikes the first one counts, so that a silent output stands for neuron 0. See
        `analysis.formulas.accuracy`.

        Parameters
        ----------
        layer : str, optional
            Name of the output layer, which has one neuron for each class. A layer itself, and a recording
            with one selected layer, need none.
        per : str or sequence of str, optional
            What is kept apart: ``"time"``, ``"recording"``, ``"trial"``, ``"sample"``, columns of the trials.
        by : str
            The column whose values are numbers of output neurons; presentations without one are left out.

        Returns
        -------
        xarray.DataArray of float64
            Lazy (dask). NaN where there are no presentations. Coordinates ``presentations``: how many were
            looked at, begun by that time; ``ties``: in how many the order of neurons decided.

        Raises
        ------
        QuestionError
            If labels are no whole numbers from 0 to neurons - 1, if the layer has several axes of neurons or
            some neurons are left out, or if there are no presentations or no such column.
        UnknownLayerError
            If there is no such layer.
        """
        sources = self._one_layer("accuracy", layer)
        source, classes = sources[0], sources[0].neurons
        if len(source.neuron_shape) != 1 or classes != prod(source.commit.shape):
            raise QuestionError(
                f"accuracy() takes all neurons of a layer along one axis, one for each class; of layer "
                f"{source.layer!r} with the neuron shape {source.commit.shape}{kept_text(source)}, "
                f"{classes} are selected in the shape {source.neuron_shape}"
            )
        question = self._read_per("accuracy", per, (), ("time",))
        if question.place != "all" or question.layers:
            raise QuestionError(f"accuracy(per={per!r}): it is of one layer and all of its neurons together")
        by_time = "time" in question.along
        apart = Apart.of("accuracy", [sources], question, self.members)
        (table,) = tables_of("accuracy", [sources], self.members, by_time)
        place, values = self._labels("accuracy", by, apart, table)
        codes = np.where(place >= 0, apart.codes(table), -1)
        labels = _class_numbers(values, place, codes, classes, by)
        groups, times = prod(apart.shape), table.times
        total = tally("accuracy", hits, table, [labels, codes], [groups], (2, groups), last=times)
        begun = np.zeros((groups, times), np.int64)
        first = np.argmax(table.shown(), axis=1)
        np.add.at(begun, (codes[codes >= 0], first[codes >= 0]), 1)
        presentations = np.cumsum(begun, axis=1)
        known = total * (presentations > 0)
        figures = [elemwise(Parcel(ratio), known[0], presentations, dtype=np.float64), known[1]]
        shown = [
            apart.label(each if by_time else each[:, 0], sources, times if by_time else None)
            for each in (*figures, presentations)
        ]
        result = shown[0].assign_coords(ties=shown[1].variable, presentations=shown[2].variable)
        return self._finished(result.rename("accuracy"), "accuracy: presentations told right")


def _class_numbers(values: Labels, place: Integers, codes: Integers, classes: int, by: str) -> Integers:
    """The output neuron for each presentation's label, 0 where there is none."""
    used = np.unique(place[codes >= 0]).tolist()
    for number in used:
        value = values[number]
        if type(value) is not int or not 0 <= value < classes:
            raise QuestionError(
                f"accuracy(by={by!r}) compares labels with output neurons, and {value!r} "
                f"({type(value).__name__}) is none; expected whole numbers from 0 to {classes - 1}: record "
                "the number of the class, or name the column that has it by by=..."
            )
    neurons = [value if type(value) is int and 0 <= value < classes else 0 for value in values]
    # The last place is reached by -1, no label.
    return np.array([*neurons, 0], np.int64)[place]


def _cka(one: Table, two: Table, by_time: bool) -> Any:
    """CKA of two layers, lazy: float64 [times]."""
    _check_same(one, two, by_time)
    number = np.count_nonzero(one.shown(), axis=0)
    each = [_hsic(*pair, number) for pair in ((one, two), (one, one), (two, two))]
    task = (*map(key_of, each), number)
    return array_of(alignments, [task], [(len(number),)], np.float64, *each)


def _check_same(one: Table, two: Table, by_time: bool) -> None:
    first, second = one.source.layer, two.source.layer
    both = f"similarity() compares the same presentations: those of layers {first!r} and {second!r} differ"
    keys = [np.stack([table.member, table.trial, table.sample]) for table in (one, two)]
    if keys[0].shape != keys[1].shape or (keys[0] != keys[1]).any():
        theirs = [{*zip(*key.tolist(), strict=True)} for key in keys]
        only = min(theirs[0] ^ theirs[1])
        where = first if only in theirs[0] else second
        raise QuestionError(
            f"{both}. There are {len(one.trial)} and {len(two.trial)}, and sample {only[2]} of trial "
            f"{only[1]} is only in {where!r}; select those that both have: select(trials=..., samples=...)"
        )
    shown = [table.shown() for table in (one, two)]
    if by_time and (shown[0].shape != shown[1].shape or (shown[0] != shown[1]).any()):
        raise QuestionError(
            f"{both} in the times that they have, up to {one.times} and {two.times}; select times and trials "
            "that both have: select(time=..., trials=...)"
        )


def _hsic(one: Table, two: Table, number: Integers) -> Any:
    """HSIC of two layers, lazy: float64 [times]; from the smaller of the two kinds of matrices."""
    times, chunks = len(number), [(len(number),)]
    if one.source.neurons * two.source.neurons > len(one.trial) ** 2:
        grams = gram_of("similarity", one), gram_of("similarity", two)
        return array_of(hsic_from_grams, [(*map(key_of, grams), number)], chunks, np.float64, *grams)
    shape = (times, one.source.neurons + 3, two.source.neurons + 3)
    if prod(shape) > MAX_ELEMENTS:
        raise QuestionError(
            f"similarity() of layers {one.source.layer!r} and {two.source.layer!r} needs a matrix of "
            f"{' × '.join(map(str, shape[1:]))} at {times} times, more than {MAX_ELEMENTS} elements; select "
            "fewer neurons by select(neurons=...), or shorter presentations by select(time=...)"
        )
    rows = max(SUM_BYTES // (8 * times * max(one.source.neurons, two.source.neurons)), 1)
    one, two = one.in_blocks(rows), two.in_blocks(rows)
    tasks = [(one.block(each), two.block(each), times) for each in range(len(one.rows()))]
    parts = [(1,) * len(tasks), *((length,) for length in shape)]
    total = array_of(cross_products, tasks, parts, np.int64, one.counts, two.counts).sum(axis=0)
    return array_of(hsic_from_products, [(key_of(total), number)], chunks, np.float64, total)
