"""A question to a recording, of which both come: the line of Python that a reader sees, and its answer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import xarray as xr

from analysis.arguments import QuestionError
from analysis.display import printable
from analysis.recording import Recording
from recorder.format import RecordingFormatError

# Stands for the name of the selected layer, which the page puts there.
LAYER: Final = "⟨layer⟩"


@dataclass(frozen=True)
class Asked:
    """A call of a statistic, or of what a layer has.

    Attributes
    ----------
    what : str
        Name of the method; ``"spikes"`` is an attribute.
    arguments : tuple
    keywords : mapping
    view : str
        Name of the recording that is asked, or of a part of it.
    layer, signal : str, optional
        A layer of it, and a signal of that layer.
    chosen : mapping
        What is selected before it is asked, as in `Recording.select`.
    together : tuple of str and int, optional
        Dimension along which so many figures are averaged, to be fewer.
    """

    what: str
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    view: str = "recording"
    layer: str | None = None
    signal: str | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    together: tuple[str, int] | None = None

    def line(self, called: Mapping[str, str], layer: str | None = None) -> str:
        """The line of Python, with names of the views, and that of the layer or what stands for it."""
        parts = [called[self.view]]
        if self.layer is not None:
            parts.append(f"[{self.layer!r}]" if layer is None else f"[{layer}]")
        if self.chosen:
            parts.append(f".select({_listed((), self.chosen)})")
        if self.signal is not None:
            parts.append(f".signals[{self.signal!r}]")
        parts.append(f".{self.what}")
        if self.what != "spikes":
            parts.append(f"({_listed(self.arguments, self.keywords)})")
        if self.together is not None:
            parts.append(f'.coarsen({self.together[0]}={self.together[1]}, boundary="trim").mean()')
        return printable("".join(parts))

    def ask(self, views: Mapping[str, Recording]) -> tuple[xr.DataArray | None, str]:
        """The lazy answer, and what there is to say of it: what is left out, or why there is none."""
        asked: Any = views[self.view]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                asked = asked if self.layer is None else asked[self.layer]
                asked = asked.select(**self.chosen) if self.chosen else asked
                asked = asked if self.signal is None else asked.signals[self.signal]
                answer = getattr(asked, self.what)
                if self.what != "spikes":
                    answer = answer(*self.arguments, **self.keywords)
            except RecordingFormatError:
                raise
            except QuestionError as error:
                return None, printable(error)
        if self.together is not None:
            dimension, number = self.together
            averaged = answer.coarsen({dimension: number}, boundary="trim").mean()
            answer = averaged.assign_attrs(answer.attrs).rename(answer.name)
        return answer, "; ".join(dict.fromkeys(printable(warning.message) for warning in caught))


def _listed(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> str:
    return ", ".join(
        [*map(written, arguments), *(f"{name}={written(each)}" for name, each in keywords.items())]
    )


def written(value: Any) -> str:
    """A value as somebody would write it in Python."""
    if isinstance(value, slice) and value.step is None:
        return f"slice({value.stop})" if value.start is None else f"slice({value.start}, {value.stop})"
    return repr(value)
