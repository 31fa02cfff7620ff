"""A picture of the report: what is asked for it, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import xarray as xr

from analysis.report.asked import LAYER, Asked
from analysis.report.figures import Figures, Pool
from analysis.report.scope import Scope

Answers = Mapping[str, xr.DataArray]
LEFT_OUT: Final = "Left out of this layer, so that the page stays small; the line below gives it."
# Figures of answers, of one layer or, without a name, of all together.
Finish = Callable[[Answers, str], Mapping[str, Figures]]


def as_they_are(answers: Answers, _: str) -> Mapping[str, Figures]:
    """Every figure of every answer."""
    return {key: Figures.of(answer) for key, answer in answers.items()}


@dataclass(frozen=True)
class Picture:
    """One picture, the questions behind it, and what is said of it.

    Attributes
    ----------
    name : str
        Identifies it in the page and in names of files.
    kind : str
        How the page draws it.
    title, caption : str
    asked : mapping of str to Asked
        What is asked of all layers together, by the name that the page knows it by.
    of_layers : mapping of str to sequence of Asked, or None
        What is asked of each layer, in the order of the scope; None where a layer has nothing to ask.
    finish : callable
        Makes figures of the answers.
    why_not : str
        Why there is no picture; a sentence.
    about : mapping of str to object
        What the page needs besides.
    """

    name: str
    kind: str
    title: str
    caption: str
    asked: Mapping[str, Asked] = field(default_factory=dict)
    of_layers: Mapping[str, Sequence[Asked | None]] = field(default_factory=dict)
    finish: Finish = as_they_are
    why_not: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A section of the report, and its pictures in order."""

    name: str
    title: str
    intro: str
    pictures: Sequence[Picture]


class Pending:
    """The answers of a picture, lazy at first: for all layers together, and for each of them."""

    def __init__(self, picture: Picture, scope: Scope) -> None:
        self.picture = picture
        self._scope = scope
        self._answers: dict[tuple[str, str], xr.DataArray] = {}
        self.said: dict[tuple[str, str], str] = {}
        for key, asked in picture.asked.items():
            self._ask(key, "", asked)
        for key, each in picture.of_layers.items():
            for layer, asked_or_none in zip(scope.names, each, strict=True):
                if asked_or_none is not None:
                    self._ask(key, layer, asked_or_none)

    def _ask(self, key: str, layer: str, asked: Asked) -> None:
        answer, said = self._scope.ask(asked)
        if said:
            self.said[key, layer] = said
        if answer is not None:
            self._answers[key, layer] = answer

    def line(self, key: str) -> str:
        """The line of Python behind what is asked of all layers together."""
        return self.picture.asked[key].line(self._scope.called)

    def lines(self, key: str, layers: Sequence[str]) -> str | list[str]:
        """The lines behind what is asked of some layers; one, if they differ in their names alone."""
        asked = dict(zip(self._scope.names, self.picture.of_layers[key], strict=True))
        return same_for_all([self._line_of(asked.get(layer)) for layer in layers])

    def _line_of(self, asked: Asked | None) -> str:
        return "" if asked is None else asked.line(self._scope.called, LAYER)

    @property
    def lazy(self) -> list[xr.DataArray]:
        """What is to be computed."""
        return list(self._answers.values())

    def take(self, computed: Sequence[xr.DataArray]) -> None:
        """Take the results, in the order of `lazy`."""
        self._answers = dict(zip(self._answers, computed, strict=True))

    def answer(self, key: str) -> xr.DataArray | None:
        """The answer for all layers together; None if there is none."""
        return self._answers.get((key, ""))

    def figures(self, layer: str = "") -> Mapping[str, Figures]:
        """Figures of one layer, or of all together."""
        answers = {key: answer for (key, name), answer in self._answers.items() if name == layer}
        return self.picture.finish(answers, layer) if answers else {}


def same_for_all(lines: list[str]) -> str | list[str]:
    """One line, where all are the same."""
    return lines[0] if len(set(lines)) == 1 else lines


def packed(
    picture: Picture, pendings: Sequence[Pending | None], scope: Scope, pool: Pool, shown: Collection[str]
) -> dict[str, Any]:
    """A picture of one recording, or of two, as JSON values: its lines, and its figures in each.

    Layers are those of the scope, which is that of the first; a recording that has no such picture has None.
    Of layers that are not among those shown, there is nothing that is of one layer alone.
    """
    tables: dict[str, dict[str, Any]] = {}
    for key in picture.asked:
        each = [pending.figures() if pending else {} for pending in pendings]
        tables[key] = {
            "lines": [pending.line(key) if pending else "" for pending in pendings],
            "data": [pool.packed(figures[key]) if key in figures else None for figures in each],
            "said": [pending.said.get((key, ""), "") if pending else "" for pending in pendings],
        }
    apart = [
        [pending.figures(layer) if pending and layer in shown else {} for layer in scope.names]
        for pending in pendings
    ]
    for key in picture.of_layers:
        tables[key] = {
            "lines": [pending.lines(key, scope.names) if pending else "" for pending in pendings],
            "layers": [
                [pool.packed(figures[key]) if key in figures else None for figures in of_recording]
                for of_recording in apart
            ],
            "said": [
                [
                    ""
                    if pending is None
                    else pending.said.get((key, layer), "")
                    if layer in shown
                    else LEFT_OUT
                    for layer in scope.names
                ]
                for pending in pendings
            ],
        }
    return {
        "name": picture.name,
        "kind": picture.kind,
        "title": picture.title,
        "tables": tables,
        **picture.about,
    }
