"""What is attached to the trials of data that is written: labels and other columns, a trial at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recorder.elsewhere.feeding import Feed


class AttachedColumns:
    """The columns of each trial, in order.

    Parameters
    ----------
    labels, trials
        As given to `write_recording`.
    feeds : list of Feed
        Layers, of which no piece was taken.

    Attributes
    ----------
    are_trials : bool
        Whether pieces are trials.

    Raises
    ------
    TypeError, ValueError
        If what is attached does not go with the way in which the layers are given.
    """

    def __init__(self, labels: Any, trials: Any, feeds: list[Feed]) -> None:
        is_one = all(feed.is_one for feed in feeds)
        has_own = [feed.name for feed in feeds if feed.has_trials]
        self.are_trials = bool(has_own) or labels is not None or trials not in (None, False)
        self._labels: Iterator[Any] | None = None
        self._columns: Iterator[Any] | None = None
        if not self.are_trials:
            return
        one = next((feed.name for feed in feeds if feed.is_one), None)
        several = next((feed.name for feed in feeds if not feed.is_one), None)
        if one is not None and several is not None:
            raise ValueError(
                f"layer {several!r} is given in pieces, which are trials, and layer {one!r} as one array: "
                "give all of them in pieces, one for each trial"
            )
        if labels is not None:
            self._labels = iter([labels]) if is_one else _each("labels", labels)
        if isinstance(trials, Mapping):
            if not is_one:
                raise TypeError(
                    "trials is one mapping, but layers are given in pieces, which are trials: give an "
                    "iterable of mappings, one for each piece"
                )
            self._columns = iter([trials])
        elif trials is not None and not isinstance(trials, bool):
            self._columns = _each("trials", trials)

    def next(self, trial: int) -> dict[str, Any]:
        """Columns of the next trial, which has this number among the pieces."""
        columns: dict[str, Any] = {}
        for name, values in (("trials", self._columns), ("labels", self._labels)):
            if values is None:
                continue
            try:
                value = next(values)
            except StopIteration:
                raise ValueError(
                    f"{name} has {trial} items, but there are more pieces; one is expected for each"
                ) from None
            if name == "labels":
                columns["label"] = value
            elif isinstance(value, Mapping):
                columns |= value
            else:
                raise TypeError(f"trials holds {value!r}; expected mappings from names to values")
        return columns

    def refuse_more(self, trials: int) -> None:
        """Raise ValueError if something is left when all pieces were written."""
        for name, values in (("trials", self._columns), ("labels", self._labels)):
            if values is not None and next(values, self) is not self:
                raise ValueError(
                    f"{name} has more items than there are pieces, {trials}; one is expected for each. The "
                    "recording holds all pieces"
                )


def _each(name: str, given: Any) -> Iterator[Any]:
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise TypeError(
            f"{name} is {type(given).__name__}, but layers are given in pieces, which are trials: give an "
            "iterable with an item for each piece"
        )
    return iter(given)
