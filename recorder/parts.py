"""Which part of each layer is kept: what users ask for, read and checked. Without torch."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from recorder.format import RecordingMetadata
from recorder.format.record.metadata import MAX_ROWS
from recorder.format.record.parts import COUNTS, MAX_FLAT_NEURONS, Kept, LayerPart

SPIKES: Final = "spikes"

# From a name, or whatever else stands for layers, to the names of these layers.
FindLayers = Callable[[Any], list[str]]


class PartError(ValueError):
    """A part of a layer that cannot be kept was asked for."""


@dataclass(frozen=True)
class Part:
    """What is kept of a layer; see `LayerPart`, which is the same once the shape of the layer is known.

    Attributes
    ----------
    neurons : index or None
        As numpy takes it, see `choose_neurons`; None for all.
    samples : int or None
    trials_every : int
    counts_only : bool
    """

    neurons: Any = None
    samples: int | None = None
    trials_every: int = 1
    counts_only: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out. An index may be an array, which equals nothing as a whole."""
        return self.neurons is None and replace(self, neurons=None) == WHOLE

    def of(self, layer: str, shape: tuple[int, ...]) -> LayerPart | None:
        """The part of a layer of this neuron shape; None where it is the whole. It may raise PartError."""
        neurons = None if self.neurons is None else choose_neurons(self.neurons, shape, f"layer {layer!r}")
        if neurons == tuple(map(range, shape)):
            neurons = None
        part = LayerPart(shape, neurons, self.samples, self.trials_every, self.counts_only)
        return None if part.is_whole else part

    def leaves_out(self, trial: int) -> bool:
        """True if nothing of a trial is kept; of what comes outside of trials (-1) everything is."""
        return self.trials_every > 1 and trial >= 0 and trial % self.trials_every != 0


WHOLE: Final = Part()


class Parts(dict[str, Part]):
    """The part that is kept of each layer of which not all is, by name."""

    @classmethod
    def parse(
        cls,
        layers: Iterable[str],
        find: FindLayers,
        *,
        neurons: Any = None,
        samples: Any = None,
        trials_every: Any = None,
        keep: Any = None,
    ) -> Parts:
        """Read what a user passed.

        Parameters
        ----------
        layers : iterable of str
            Names of all layers.
        find : callable
            Gives the names of the layers that a key of a mapping stands for; it raises where there is none.
        neurons, samples, trials_every, keep
            As of `recorder.Monitor`: None, a value for all layers, or a mapping from layers to values.

        Raises
        ------
        TypeError, ValueError
            If a value is none of those that are expected.
        """
        parts = dict.fromkeys(layers, WHOLE)

        def spread(given: Any, parse: Callable[[Any], Mapping[str, Any]]) -> None:
            if given is None:
                return
            pairs = given.items() if isinstance(given, Mapping) else [(None, given)]
            for key, value in pairs:
                changes = parse(value)
                for name in [*parts] if key is None else find(key):
                    parts[name] = replace(parts[name], **changes)

        spread(neurons, lambda value: {"neurons": value})
        spread(samples, lambda value: {"samples": _whole_number("samples", value)})
        spread(trials_every, lambda value: {"trials_every": _whole_number("trials_every", value)})
        spread(keep, lambda value: {"counts_only": _keeps_counts(value)})
        return cls({name: part for name, part in parts.items() if not part.is_whole})

    def part(self, name: str) -> Part:
        """What is kept of a layer."""
        return self.get(name, WHOLE)

    def refuse_others(self, recorded: RecordingMetadata, layers: Iterable[str]) -> None:
        """Raise ValueError if a recording has another part of one of these layers."""
        names = {*layers}
        for layer in recorded.layers:
            asked = self.part(layer.name).of(layer.name, layer.shape)
            if layer.name in names and asked != layer.part:
                raise ValueError(
                    f"layer {layer.name!r} was recorded with {_shown(layer.part)}, and would go on with "
                    f"{_shown(asked)}: silence would not mean the same. Resume with the neurons=, samples=, "
                    "trials_every= and keep= that it had, or record to another store"
                )


def _shown(part: LayerPart | None) -> str:
    if part is None:
        return "all of it"
    which = f" (neurons {part.neurons!r:.80})" if part.neurons is not None else ""
    return f"a part, {part}{which}"


def _whole_number(what: str, given: Any) -> int:
    try:
        number = 0 if isinstance(given, bool) else operator.index(given)
    except TypeError:
        number = 0
    if not 1 <= number <= MAX_ROWS:
        raise ValueError(
            f"{what} is {given!r}; expected a whole number from 1 on, or a mapping from layers to numbers"
        )
    return number


def _keeps_counts(given: Any) -> bool:
    if not isinstance(given, str) or given not in (SPIKES, COUNTS):
        raise ValueError(
            f"keep is {given!r}; expected {SPIKES!r}, or {COUNTS!r} for the spikes of each neuron in each "
            "sample of each trial, or a mapping from layers to these"
        )
    return given == COUNTS


def choose_neurons(index: Any, shape: tuple[int, ...], where: str) -> Kept:
    """Which neurons an index stands for.

    Parameters
    ----------
    index
        An index of the neuron axes as numpy takes it, such as ``np.s_[:, ::2, ::2]``; or a list of flat
        indices in C order. Lists of several axes stand for all of their combinations, as in `select`, and
        not for pairs.
    shape : tuple of int
        Of the neuron axes.
    where : str
        Of what they are neurons, for errors.

    Returns
    -------
    tuple of range, or tuple of int
        Places along each axis where slices and whole numbers are given, flat indices otherwise; ascending.

    Raises
    ------
    PartError
        If they are none, or too many to be listed.
    """
    given = index
    # Of a bare number, too, numpy takes the whole row.
    is_number = isinstance(index, int | np.integer) and not isinstance(index, bool)
    if is_number or isinstance(index, slice) or index is Ellipsis:
        index = (index,)
    if isinstance(index, tuple):
        ranges = _ranges(index, shape)
        if ranges is not None and all(map(len, ranges)):
            return ranges
    every = np.arange(math.prod(shape), dtype=np.int64)
    try:
        if isinstance(index, tuple):
            every, index = every.reshape(shape), _combined(index, shape)
        flat = np.unique(every[index])
    except (IndexError, TypeError, ValueError) as error:
        raise PartError(
            f"neurons={given!r:.80} does not fit {where}, whose neurons have the shape {shape}: {error}"
        ) from error
    if not 0 < len(flat) <= MAX_FLAT_NEURONS:
        raise PartError(
            f"neurons={given!r:.80} are {len(flat)} neurons of {where}; expected 1 to {MAX_FLAT_NEURONS}, or "
            "slices"
        )
    return tuple(flat.tolist())


def _combined(index: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[Any, ...]:
    """An index of which lists of several axes stand for all of their combinations."""
    lists = [np.ndim(part) for part in index if isinstance(part, list | tuple | range | np.ndarray)]
    if len(lists) < 2:
        return index
    if max(lists) > 1 or any(part is None for part in index):
        raise IndexError("of several lists each must be of one axis")
    along = _of_every_axis(index, shape)
    if len(along) > len(shape):
        return index
    axes = [np.arange(length)[part].reshape(-1) for part, length in zip(along, shape, strict=True)]
    return np.ix_(*axes)


def _of_every_axis(index: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[Any, ...]:
    """An index with a part for each axis."""
    places = [place for place, part in enumerate(index) if part is Ellipsis]
    place, behind = (places[0], index[places[0] + 1 :]) if places else (len(index), ())
    return (*index[:place], *(slice(None),) * (len(shape) - place - len(behind)), *behind)


def _ranges(index: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[range, ...] | None:
    """Places along each axis for which slices and whole numbers stand; None for any other index."""
    index = _of_every_axis(index, shape)
    if len(index) > len(shape):
        return None
    ranges = []
    for part, length in zip(index, shape, strict=True):
        if isinstance(part, slice):
            chosen = range(length)[part]
            ranges.append(chosen if chosen.step > 0 else chosen[::-1])
        elif isinstance(part, int | np.integer) and not isinstance(part, bool) and -length <= part < length:
            ranges.append(range(part % length, part % length + 1))
        else:
            return None
    return tuple(range(r.start, r[-1] + 1, r.step) if len(r) else r for r in ranges)
