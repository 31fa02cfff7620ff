"""Layers side by side: all of them are fed the same steps, so that none is ever ahead of another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from recorder.elsewhere.events import EventTable, is_table
from recorder.elsewhere.pieces import ArrayPiece, Piece, SparsePiece, StepsPiece, is_sparse
from recorder.format.record.metadata import MAX_RANK
from recorder.patterns import AxesError, Pattern, parse_pattern

_STEPS, _ONE_STEP, _ONE_SAMPLE = "t n ...", "n ...", "t ..."


class Window(NamedTuple):
    """Steps of a layer: those from ``first`` to ``last`` (exclusive) of a piece."""

    piece: Piece
    first: int
    last: int


class Feed:
    """The pieces of one layer, in order.

    Attributes
    ----------
    name : str
    is_one : bool
        True if all that there is was given as one piece: an array, a list of steps, a table.
    has_trials : bool
        True if what was given says by itself that its pieces are trials.
    piece : Piece or None
        The piece that comes next or is under way; None at the end.
    done : int
        Steps of it that were taken.
    """

    def __init__(self, name: str, given: Any, axes: str | None) -> None:
        self.name = name
        self.has_trials = isinstance(given, EventTable) and given.has_trials
        pattern = None if axes is None else _plain_pattern(axes)
        whole = None if isinstance(given, EventTable) else self._whole(given, pattern)
        self.is_one = whole is not None or (isinstance(given, EventTable) and not given.has_trials)
        self._neurons: list[int] | None = None
        if isinstance(given, EventTable):
            self._pieces = given.pieces()
        elif whole is not None:
            self._pieces = iter([whole])
        else:
            self._pieces = (self._piece(item, pattern) for item in given)
        self.piece: Piece | None = None
        self.done = 0

    @property
    def left(self) -> int:
        """Steps of the piece that were not taken."""
        return self.piece.shape[0] - self.done if self.piece else 0

    def advance(self) -> None:
        """Go on to the next piece if nothing is left of this one."""
        if self.left:
            return
        self.done = 0
        self.piece = next(self._pieces, None)
        if self.piece is None:
            return
        steps, samples, *neuron = self.piece.shape
        if self._neurons is not None and neuron != self._neurons:
            raise ValueError(
                f"layer {self.name!r} has frames of neuron shape {tuple(neuron)}, but {tuple(self._neurons)} "
                "before; a recording holds one shape for each layer"
            )
        if min(self.piece.shape) < 1 or len(neuron) > MAX_RANK:
            raise ValueError(
                f"layer {self.name!r} has {steps} steps of {samples} samples of neuron shape "
                f"{tuple(neuron)}; expected at least one of each, along at most {MAX_RANK} axes"
            )
        self._neurons = neuron

    def take(self, steps: int) -> Window:
        """Take the next steps, at most those that are left."""
        if self.piece is None:
            raise RuntimeError("nothing is left")
        window = Window(self.piece, self.done, self.done + steps)
        self.done += steps
        return window

    def _whole(self, given: Any, pattern: Pattern | None) -> Piece | None:
        """The only piece, if what was given is one."""
        if is_sparse(given):
            return self._piece(given, pattern)
        if is_table(given):
            raise TypeError(
                f"layer {self.name!r} is a table ({type(given).__name__}); how many neurons and steps there "
                "are does not stand in it: give EventTable(table, neurons=..., steps=...)"
            )
        if hasattr(given, "shape") and hasattr(given, "dtype"):
            return self._piece(given, pattern)
        if isinstance(given, list | tuple):
            if given and not all(hasattr(item, "shape") for item in given):
                return self._piece(np.asarray(given), pattern)
            if pattern is None or not pattern.has_steps:
                return self._piece(given, pattern) if given else None
        if not isinstance(given, Iterable) or isinstance(given, str | bytes):
            raise TypeError(
                f"layer {self.name!r} is a {type(given).__name__}; expected an array, a list of steps, an "
                "iterator of pieces or an EventTable"
            )
        return None

    def _piece(self, given: Any, pattern: Pattern | None) -> Piece:
        if not hasattr(given, "shape") and not (isinstance(given, list | tuple) and given):
            raise TypeError(
                f"layer {self.name!r} has a piece that is a {type(given).__name__}; expected an array, or a "
                "list of arrays, one for each step"
            )
        try:
            if isinstance(given, list | tuple):
                return StepsPiece(given, pattern or self._pattern_of_list(given))
            if is_sparse(given):
                plain = _ONE_SAMPLE if len(given.shape) == 2 else _STEPS
                return SparsePiece(given, pattern or parse_pattern(plain))
            return ArrayPiece(given, pattern or self._pattern_of_array(given))
        except AxesError as error:
            raise ValueError(f"layer {self.name!r} {error}") from error

    def _pattern_of_array(self, array: Any) -> Pattern:
        if len(array.shape) >= 3:
            return parse_pattern(_STEPS)
        raise AxesError(
            f"is an array of shape {list(array.shape)}, and which of its axes are steps, samples and neurons "
            "is not known. Say axes='t ...' for steps of one sample, 'n ...' for one step of several, or "
            "'t n' for steps and samples of a single neuron"
        )

    def _pattern_of_list(self, items: list[Any] | tuple[Any, ...]) -> Pattern:
        if len(items[0].shape) == 2:
            return parse_pattern(_ONE_STEP)
        raise AxesError(
            f"is a list of arrays of shape {list(items[0].shape)}, which may be one step each, or several. "
            "Say axes='n ...' if each is a step of a batch, axes='t n ...' if each is some steps"
        )


def _plain_pattern(axes: str) -> Pattern:
    pattern = parse_pattern(axes)
    if any(len(axis) > 1 for axis in pattern.axes):
        raise ValueError(f"axes is {axes!r}; folded axes cannot be unfolded here: reshape the array first")
    return pattern


def make_feeds(layers: Any, axes: str | Mapping[str, str] | None) -> list[Feed]:
    """The feed of each layer, in the order of the mapping."""
    if not isinstance(layers, Mapping) or not layers:
        given = "empty" if isinstance(layers, Mapping) else type(layers).__name__
        raise TypeError(
            f"layers is {given}; expected a mapping from names of layers to arrays, such as {{'1': spikes}}"
        )
    if isinstance(axes, Mapping):
        unknown = sorted(set(axes) - set(layers))
        if unknown:
            raise ValueError(f"axes names {unknown[0]!r}, which is none of the layers {[*layers]}")
    of = axes if isinstance(axes, Mapping) else dict.fromkeys(layers, axes)
    return [Feed(name, given, of.get(name)) for name, given in layers.items()]


def rounds(feeds: list[Feed], most_slots: int) -> Iterator[int]:
    """Numbers of steps that all layers have next, at most so many that no layer has more slots.

    The pieces of the layers may have different lengths. Whoever asks takes the steps of each feed before the
    next round.

    Raises
    ------
    ValueError
        If a layer has ended and others have not.
    """
    while True:
        for feed in feeds:
            feed.advance()
        ended = [feed.name for feed in feeds if feed.piece is None]
        if len(ended) == len(feeds):
            return
        if ended:
            going_on = next(feed.name for feed in feeds if feed.piece is not None)
            raise ValueError(
                f"layer {ended[0]!r} has no more steps, but layer {going_on!r} has; all layers have as many"
            )
        slots = max(math.prod(feed.piece.shape[1:]) for feed in feeds if feed.piece is not None)
        yield min(max(most_slots // slots, 1), *(feed.left for feed in feeds))
