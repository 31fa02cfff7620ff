"""The base of statistics of presentations: what their methods have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from analysis.arguments import QuestionError, text
from analysis.kernels.selecting.selection import Labels
from analysis.kernels.selecting.source import Source
from analysis.members import columns_of
from analysis.questions import Per, Question, UnknownLayerError
from analysis.statistics.answers.answering import Answering
from analysis.statistics.answers.tables import Apart, Table, coordinate_of, places_along, read_per
from recorder.format.bits import Integers


class OfPresentations(Answering):
    """Whatever is asked about presentations."""

    def _one_layer(self, name: str, layer: Any) -> Sequence[Source]:
        layers = {sources[0].layer: sources for sources in self._layers()}
        if layer is None and len(layers) == 1:
            return next(iter(layers.values()))
        if layer is None:
            raise QuestionError(
                f"{name}() is about one layer: give its name, one of {', '.join(map(repr, layers))}"
            )
        if not isinstance(layer, str) or layer not in layers:
            raise UnknownLayerError(layer, layers)
        return layers[layer]

    def _read_per(
        self, name: str, per: Per | None, default: Per | None = None, allowed: Sequence[str] = ()
    ) -> Question:
        layers = self._layers()
        columns = columns_of(layers[0]) if layers else {}
        return read_per(name, per, self._default_per if default is None else default, columns, allowed)

    def _by(
        self, name: str, by: str | None, apart: Apart, table: Table, *, may_pool: bool = False
    ) -> tuple[Integers, int]:
        """Group and label of each presentation in one code, -1 for none, and the number of labels.

        With ``may_pool``, all have one label where ``by`` is None, or is ``"label"`` and none were recorded.
        """
        codes = apart.codes(table)
        has_labels = "label" in columns_of(self._layers()[0])
        if may_pool and (by is None or (column_name(name, by) == "label" and not has_labels)):
            return codes, 1
        place, values = self._labels(name, by, apart, table)
        return np.where((codes < 0) | (place < 0), -1, codes * len(values) + place), len(values)

    def _labels(self, name: str, by: Any, apart: Apart, table: Table) -> tuple[Integers, Labels]:
        """Label of each presentation by its place among all labels, -1 for none; and all labels."""
        columns = columns_of(self._layers()[0])
        if column_name(name, by) not in columns:
            there = ", ".join(map(repr, columns)) or "none"
            raise QuestionError(
                f"{name}(by={by!r}): the trials have no such column; they have {there}: record it with "
                f"`with monitor.trial({by}=...):`"
            )
        sources = [source for layer in apart.layers for source in layer]
        values = coordinate_of(by, sources, columns)
        return places_along(by, values, table, columns), values

    def _finished(self, result: xr.DataArray, long_name: str, units: str = "1") -> xr.DataArray:
        result.attrs = {"long_name": long_name, "units": units}
        return self._named(result)

    def _named(self, result: xr.DataArray) -> xr.DataArray:
        layers = self._layers()
        if len(layers) == 1 and "layer" not in result.coords and self._default_per == ():
            return result.assign_coords(layer=layers[0][0].layer)
        return result


def column_name(name: str, by: Any) -> str:
    """The name of the column whose values are labels; ArgumentTypeError if it is no text."""
    return text(by, f"{name}(): by", 'the name of a column of the trials, such as "label"')


def check_lengths(name: str, table: Table, looked_at: Any) -> None:
    """Refuse presentations that last for different numbers of frames.

    Raises
    ------
    QuestionError
        Naming two of these numbers.
    """
    lengths = np.unique(table.lengths[looked_at])
    if len(lengths) > 1:
        raise QuestionError(
            f"{name}() compares counts of equally long presentations; in layer {table.source.layer!r} some "
            f"have {lengths[0]} frames and some {lengths[-1]}. Look at a time that all have, as in "
            f"select(time=slice(0, {lengths[0]})), or at equally long trials: select(trials=...)"
        )


def numbers_of(codes: Integers, groups: int) -> Integers:
    """Presentations of each group, int64 [groups]."""
    return np.bincount(codes[codes >= 0], minlength=groups)
