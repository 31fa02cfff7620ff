"""Pictures for notebooks and papers, drawn into axes of matplotlib, which is imported when one is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray

from analysis.arguments import QuestionError, text
from analysis.display import printable
from analysis.statistics import Statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Limits of what a picture can show, and of what is read into memory for it.
MAX_SLOTS: Final = 2**28
MAX_EVENTS: Final = 2**20
MAX_CELLS: Final = 2**22
# How many lines part presentations, and how many names stand beside each other.
_MAX_PARTED: Final = 400
_MAX_NAMED: Final = 30
_MAX_LETTERS: Final = 32
# Of a line of text, and of a character's width, in letters' heights.
_LINE: Final = 1.4
_CHARACTER: Final = 0.6
_IN_TIME: Final = ("step", "time", "window")


class Plots:
    """Pictures of a recording, or of one layer; comes from ``recording.plot`` and ``layer.plot``.

    Each method draws into ``ax``, the current axes if it is left out, and returns it. What is drawn is what
    is selected: ``recording.select(trials=0, samples=0).plot.raster()``. Figures are computed at once, on the
    active Dask scheduler.

    Parameters
    ----------
    of : Statistics
        What is asked: a recording or a layer.
    rows : {"layer", "neuron"}
        What is kept apart.
    spikes : callable
        Returns the lazy spikes of each layer, by name.
    """

    def __init__(self, of: Statistics, rows: str, spikes: Callable[[], Mapping[str, xr.DataArray]]) -> None:
        self._of = of
        self._rows = rows
        self._spikes = spikes

    def raster(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw a mark for each event, over the steps; neurons are rows, layers lie above each other.

        Rows count the selected neurons, in C order. Where one sample of each step is selected, the steps are
        those of the recording. Of several samples the presentations, or without trials the samples, stand one
        behind the other, and what is counted are their steps. Lines part presentations; they have their
        label, if they have any.

        Parameters
        ----------
        ax : matplotlib axes, optional
        **style
            For ``Axes.plot``, such as ``color`` and ``markersize``.

        Raises
        ------
        QuestionError
            If there is no layer; if more than 2²⁸ slots would be read, or more than 2²⁰ events drawn: select
            less.
        ModuleNotFoundError
            If matplotlib is missing.
        """
        ax = _axes(ax)
        layers = self._spikes()
        _refuse_no_layers(len(layers))
        slots = sum(spikes.size for spikes in layers.values())
        if slots > MAX_SLOTS:
            raise QuestionError(
                f"a raster of this would read {slots} slots, expected {MAX_SLOTS} at most: select fewer "
                "steps, trials, samples or neurons, as in select(trials=0, samples=0)"
            )
        read = dict(zip(layers, compute(*layers.values()), strict=True))
        events = sum(int(np.count_nonzero(spikes)) for spikes in read.values())
        if events > MAX_EVENTS:
            raise QuestionError(
                f"a raster of this would have {events} marks, expected {MAX_EVENTS} at most: select fewer "
                "steps, trials, samples or neurons"
            )
        places = _Places.of(list(read.values()))
        style = {"marker": "|", "linestyle": "none", "color": "black", "markersize": 3, **style}
        below, ticks = 0, list[float]()
        for x, spikes in zip(places.x, read.values(), strict=True):
            flat = spikes.values.reshape(len(spikes), math.prod(spikes.shape[1:]))
            frame, neuron = flat.nonzero()
            ax.plot(x[frame], neuron + below, **style)
            ticks.append(below + (flat.shape[1] - 1) / 2)
            if below:
                ax.axhline(below - 0.5, color="lightgray", linewidth=0.8)
            below += flat.shape[1]
        places.draw(ax)
        ax.set_xlabel(places.label)
        ax.set_ylim(-0.5, max(below, 1) - 0.5)
        if self._rows == "layer":
            _name_rows(ax, ticks, list(map(_text, read)))
            ax.set_ylabel("layer, neuron by neuron")
        else:
            ax.set_ylabel("neuron")
        return ax

    def rates(
        self,
        per: str = "step",
        ax: Axes | None = None,
        *,
        window: int | None = None,
        unit: str | None = None,
        **style: Any,
    ) -> Axes:
        """Draw firing rates, a line for each layer, over what is kept apart.

        Parameters
        ----------
        per : str
            ``"step"``, ``"time"``, ``"window"``, ``"trial"``, or a column of the trials.
        ax : matplotlib axes, optional
        window : int, optional
            Steps in a window, for ``per="window"``.
        unit : str, optional
            Of the rates, such as ``"Hz"``; spikes per neuron and step if it is left out.
        **style
            For ``Axes.plot``.

        Raises
        ------
        QuestionError
            As `firing_rate`; if there is no layer, or a line would have more than 2²⁰ places: take windows.
        ModuleNotFoundError
            If matplotlib is missing.
        """
        ax = _axes(ax)
        is_recording = self._rows == "layer"
        rates = self._rate("layer" if is_recording else None, per, window, unit)
        if rates.sizes[per] > MAX_EVENTS:
            raise QuestionError(
                f"a line of rates per {per} would have {rates.sizes[per]} places, expected {MAX_EVENTS} at "
                'most: ask per="window" with a window= of more steps, or select fewer steps'
            )
        (rates,) = compute(rates)
        x, label = _along(rates, per)
        for line in rates if is_recording else [rates]:
            name = {"label": _text(line["layer"].item())} if is_recording else {}
            ax.plot(x, line.values, **{"marker": "" if per in _IN_TIME else "o", **name, **style})
        ax.set(xlabel=label, ylabel=_quantity(rates))
        ax.set_ylim(bottom=0)
        if is_recording and rates.sizes["layer"] <= _MAX_NAMED:
            ax.legend()
        return ax

    def heatmap(
        self,
        per: str = "step",
        ax: Axes | None = None,
        *,
        window: int | None = None,
        unit: str | None = None,
        **style: Any,
    ) -> Axes:
        """Draw firing rates as colours: a row for each layer of a recording, or each neuron of a layer.

        Parameters
        ----------
        per, ax, window, unit
            As in `rates`.
        **style
            For ``Axes.pcolormesh``, such as ``cmap`` and ``vmax``.

        Raises
        ------
        QuestionError
            As `firing_rate`, and if there is no layer or step, or the picture would have more than 2²² cells.
        ModuleNotFoundError
            If matplotlib is missing.
        """
        ax = _axes(ax)
        rates = self._rate(self._rows, per, window, unit)
        if not rates.size:
            raise QuestionError(
                f"a heat map of this would have no cells, as there is no {per}; expected one: select "
                "more steps, trials, samples or neurons"
            )
        if rates.size > MAX_CELLS:
            raise QuestionError(
                f"a heat map of this would have {rates.size} cells, expected {MAX_CELLS} at most: select "
                'fewer neurons or steps, or ask per="window" with a window= of more steps'
            )
        (rates,) = compute(rates)
        rates = rates.transpose(..., per)
        x, label = _along(rates, per)
        values = rates.values.reshape(-1, len(x))
        is_number = x.dtype.kind in "iuf"
        mesh = ax.pcolormesh(
            x if is_number else np.arange(len(x)), np.arange(len(values)), values, shading="nearest", **style
        )
        ax.figure.colorbar(mesh, ax=ax, label=_quantity(rates))
        if not is_number:
            _name_columns(ax, list(map(_text, x)))
        ax.set(xlabel=label, ylabel=self._rows)
        if self._rows == "layer":
            _name_rows(ax, list(range(len(values))), [_text(name) for name in rates["layer"].values])
        return ax

    def _rate(self, rows: str | None, per: str, window: int | None, unit: str | None) -> xr.DataArray:
        along = '"step", "time", "window", "trial", or a column of the trials'
        words = [text(per, "per", along)] if rows is None else [rows, text(per, "per", along)]
        options = {name: value for name, value in (("window", window), ("unit", unit)) if value is not None}
        rates = self._of.firing_rate(words, **options)  # type: ignore[arg-type]
        if per not in rates.dims:
            raise QuestionError(f"per={per!r} is nothing to draw along; expected {along}")
        _refuse_no_layers(rates.sizes.get("layer", 1))
        return rates


@dataclass(frozen=True)
class _Places:
    """Where the frames of layers stand along the axis of steps.

    Attributes
    ----------
    x : list of int64 array
        For each layer, the place of each frame.
    label : str
        What the axis says.
    begins : int64 array
        Places at which presentations begin, ascending.
    names : list of str
        Their labels; empty where they have none.
    """

    x: list[NDArray[np.int64]]
    label: str
    begins: NDArray[np.int64]
    names: list[str]

    @classmethod
    def of(cls, layers: Sequence[xr.DataArray]) -> _Places:
        """Places for the frames of these layers, side by side."""
        keys = [key for key in ("recording", "trial", "sample") if key in layers[0].coords]
        columns = [
            np.unique(np.concatenate([layer[key].values for layer in layers]), return_inverse=True)[1]
            for key in keys
        ]
        step = np.concatenate([layer["step"].values for layer in layers])
        _, first, which = np.unique(np.stack(columns), axis=1, return_index=True, return_inverse=True)
        begins = np.full(len(first), np.iinfo(np.int64).max)
        np.minimum.at(begins, which, step)
        ends = np.zeros(len(first), np.int64)
        np.maximum.at(ends, which, step + 1)
        x, label = step, "step"
        in_turn = np.argsort(begins, kind="stable")
        if (begins[in_turn][1:] < ends[in_turn][:-1]).any():
            # Several at once: one behind the other.
            lengths = ends - begins
            behind = np.cumsum(lengths) - lengths
            x, begins, in_turn = step - begins[which] + behind[which], behind, np.arange(len(first))
            label = "step, one presentation behind the other"
        cuts = np.cumsum([len(layer) for layer in layers])[:-1]
        names = []
        if all("label" in layer.coords for layer in layers):
            labels = np.concatenate([layer["label"].values.astype(object) for layer in layers])[first]
            names = ["" if value != value else _text(value) for value in labels[in_turn]]  # noqa: PLR0124 - NaN
        return cls(np.split(x, cuts), label, begins[in_turn], names)

    def draw(self, ax: Axes) -> None:
        """Draw a line where a presentation begins, and its label above, where there is room for that."""
        if not 1 < len(self.begins) <= _MAX_PARTED:
            return
        for begin in self.begins:
            ax.axvline(begin - 0.5, color="lightgray", linewidth=0.8, zorder=0)
        if len(self.begins) <= _MAX_NAMED:
            names = [_cut(name) for name in self.names]
            begins = self.begins[: len(names)]
            for place in _apart(ax, begins.tolist(), [len(name) * _CHARACTER for name in names]):
                transform = ax.get_xaxis_transform()
                ax.text(begins[place], 1.01, names[place], transform=transform, fontsize="small")


def _refuse_no_layers(layers: int) -> None:
    if not layers:
        raise QuestionError(
            "there is no layer to draw, expected one at least: nothing has been committed yet, or none is "
            "selected"
        )


def _name_rows(ax: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Names of rows, as many as have room above each other."""
    kept = _apart(ax, places, [_LINE] * len(places), across=False)
    ax.set_yticks([places[place] for place in kept], [_cut(names[place]) for place in kept])


def _name_columns(ax: Axes, names: Sequence[str]) -> None:
    """Names of columns, at a slant where they have no room beside each other."""
    names = list(map(_cut, names))
    places = list(range(len(names)))
    widths = [(len(name) + 2) * _CHARACTER for name in names]
    is_level = len(_apart(ax, places, widths)) == len(places)
    kept = places if is_level else _apart(ax, places, [_LINE] * len(places))
    ax.set_xticks(kept, [names[place] for place in kept])
    if not is_level:
        ax.tick_params(axis="x", labelrotation=45)
        for label in ax.get_xticklabels():
            label.set(horizontalalignment="right", rotation_mode="anchor")


def _apart(ax: Axes, places: Sequence[float], sizes: Sequence[float], *, across: bool = True) -> list[int]:
    """Which texts have room, in turn; places are those of the axis, sizes in letters' heights."""
    from matplotlib import rcParams  # noqa: PLC0415 - an extra

    low, high = sorted(ax.get_xlim() if across else ax.get_ylim())
    extent = ax.get_window_extent()
    pixels = extent.width if across else extent.height
    letter = rcParams["font.size"] * ax.figure.dpi / 72 * (high - low) / pixels
    kept: list[int] = []
    free = -math.inf
    for index, (place, length) in enumerate(zip(places, sizes, strict=True)):
        if place >= free:
            kept.append(index)
            free = place + length * letter
    return kept


def _cut(name: str) -> str:
    """A name without its middle, if it is long, as names differ at their ends."""
    if len(name) <= _MAX_LETTERS:
        return name
    half = _MAX_LETTERS // 2
    return f"{name[:half]}…{name[-half:]}"


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"plots need {missing.name}, which is not installed: pip install 'spiketape[plot]'",
            name=missing.name,
        ) from missing
    return pyplot.gca()


def _along(rates: xr.DataArray, per: str) -> tuple[NDArray[Any], str]:
    """Coordinates of what is kept apart, and what the axis says; in the world's time where that is known."""
    for name, coordinate in rates.coords.items():
        found, _, unit = str(name).partition("_")
        if found == per and unit and coordinate.dims == (per,) and coordinate.dtype.kind == "f":
            return coordinate.values, _text(f"{per} ({unit})")
    return rates[per].values, _text(per)


def _quantity(rates: xr.DataArray) -> str:
    return str(rates.attrs["long_name"])


def _text(value: object) -> str:
    """Text that matplotlib shows as it is: no formula, no command of TeX, and in legends."""
    from matplotlib import rcParams  # noqa: PLC0415 - an extra

    shown = printable(value)
    if rcParams["text.usetex"]:
        return "".join(c if c.isalnum() or c in " .,:" else rf"\char{ord(c)} " for c in shown)
    shown = shown.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown  # legends leave out what begins so
