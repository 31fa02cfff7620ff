"""From one recording, or two, to the file: ask everything in one pass, say what was found, write the page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dask.base import compute

from analysis.asking.rounds import in_rounds
from analysis.display import printable
from analysis.questions import QuestionError
from analysis.recording import Recording
from analysis.report.activity import activity_of, maps_of, strip_of
from analysis.report.facts import facts_of, layer_facts
from analysis.report.figures import Pool
from analysis.report.findings import findings_of
from analysis.report.page import page
from analysis.report.pictures import Pending, Picture, Section, packed
from analysis.report.raster import Raster
from analysis.report.scope import Scope, scope_of
from analysis.report.timing import timing_of
from analysis.report.together import course_of, together_of

MAX_BYTES: Final = 3_000_000


def write_report(
    recording: Recording,
    path: str | os.PathLike[str],
    *,
    run: Callable[..., tuple[Any, ...]] = compute,
) -> Path:
    """Write a page that shows a recording; see `Recording.report`."""
    target = Path(path).expanduser()
    text = report_text([recording], run=run)
    made = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        made.write_text(text, encoding="utf-8", newline="\n")
        made.replace(target)
    finally:
        with suppress(FileNotFoundError):
            made.unlink()
    return target


def report_text(recordings: Sequence[Recording], *, run: Callable[..., tuple[Any, ...]] = compute) -> str:
    """The page as text; parameters as `write_report`."""
    names = [_short(recording.location) for recording in recordings]
    scopes = [scope_of(recording, name) for recording, name in zip(recordings, names, strict=True)]
    for scope, name in zip(scopes, names, strict=True):
        if not scope.names:
            raise QuestionError(f"{printable(name)} has no layers yet, and so there is nothing to report on")
    asked = [_Asked.of(scope) for scope in scopes]
    lazy = [answer for one in asked for answer in one.lazy]
    computed = iter(run(*in_rounds(lazy)))
    for one in asked:
        one.take([next(computed) for _ in one.lazy])
    return _page(asked, names)


def _short(location: str) -> str:
    """The last part of a place, by which a page names it: the folders above it are nobody's business."""
    return printable(location.rstrip("/").rpartition("/")[2].rpartition("\\")[2]) or "recording"


@dataclass(eq=False)
class _Asked:
    """All that is asked of one recording."""

    scope: Scope
    sections: Sequence[Section]
    pendings: dict[str, Pending]
    raster: Raster
    spikes: Sequence[Any]

    @classmethod
    def of(cls, scope: Scope) -> _Asked:
        neurons = Section(
            "neurons",
            "Neurons",
            "Which neurons fire, at which step, and where they lie.",
            [_RASTER, maps_of(scope)],
        )
        before, behind = (strip_of, activity_of), (timing_of, together_of, course_of)
        sections = [*(of(scope) for of in before), neurons, *(of(scope) for of in behind)]
        pendings = {
            picture.name: Pending(picture, scope)
            for section in sections
            for picture in section.pictures
            if picture is not _RASTER and not picture.why_not
        }
        raster = Raster.of(scope)
        return cls(scope, sections, pendings, raster, raster.lazy())

    @property
    def lazy(self) -> list[Any]:
        return [*(answer for pending in self.pendings.values() for answer in pending.lazy), *self.spikes]

    def take(self, computed: Sequence[Any]) -> None:
        rest = iter(computed)
        for pending in self.pendings.values():
            pending.take([next(rest) for _ in pending.lazy])
        self.spikes = list(rest)

    def answer(self, picture: str, key: str) -> Any:
        """The answer behind a picture; None if there is none."""
        return self.pendings[picture].answer(key) if picture in self.pendings else None


_RASTER: Final = Picture(
    "raster",
    "raster",
    "Raster",
    "Spikes of some neurons of the chosen layer, evenly drawn from those that fire there; a presentation "
    "beside the next. Drag to zoom.",
)


def _page(asked: Sequence[_Asked], names: Sequence[str]) -> str:
    first, pool = asked[0], Pool()
    pictures = []
    for section in first.sections:
        for picture in section.pictures:
            if picture is _RASTER:
                each = [one.raster.packed(one.spikes, pool) for one in asked]
                table = {
                    "line": each[0]["line"],
                    "layers": [one["layers"] for one in each],
                    "said": [[""] * len(first.scope.names) for _ in each],
                }
                pictures.append(
                    {
                        "name": picture.name,
                        "kind": picture.kind,
                        "title": picture.title,
                        "tables": {"spikes": table},
                    }
                )
            elif picture.name in first.pendings:
                pictures.append(packed([one.pendings[picture.name] for one in asked], first.scope, pool))
    rates = first.answer("time", "rate")
    times = rates.sizes["time"] if rates is not None and "time" in rates.dims else None
    data = {
        "recordings": [{"name": name, "short": name} for name in names],
        "layers": layer_facts(first.scope),
        "pictures": pictures,
        "lists": pool.lists,
    }
    return page(
        f"{' and '.join(names)} – spiketape report",
        [facts_of(one.scope, times) for one in asked],
        [finding for one in asked for finding in findings_of(one.scope, one.answer)],
        ["import analysis", *(line for one in asked for line in one.scope.setup)],
        first.sections,
        data,
    )
