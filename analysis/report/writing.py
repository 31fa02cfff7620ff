"""From one recording, or two, to the file: ask everything in one pass, say what was found, write the page."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dask.base import compute

from analysis.asking.rounds import in_rounds
from analysis.display import printable
from analysis.recording import Recording
from analysis.report.differing import differences
from analysis.report.figures import Pool
from analysis.report.page import page
from analysis.report.pictures import Pending, Picture, Section, packed
from analysis.report.scope import Scope, scope_of
from analysis.report.sections.activity import activity_of, maps_of, strip_of
from analysis.report.sections.facts import facts_of, layer_facts
from analysis.report.sections.findings import findings_of
from analysis.report.sections.raster import Raster
from analysis.report.sections.timing import timing_of
from analysis.report.sections.together import course_of, together_of

MAX_BYTES: Final = 3_000_000


def write_report(
    recordings: Sequence[Recording],
    path: str | os.PathLike[str],
    *,
    run: Callable[..., tuple[Any, ...]] = compute,
) -> Path:
    """Write a page that shows one recording, or two and how they differ; see `Recording.report`."""
    target = Path(path).expanduser()
    text = report_text(recordings, run=run)
    made = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        made.write_text(text, encoding="utf-8", newline="\n")
        made.replace(target)
    finally:
        with suppress(FileNotFoundError):
            made.unlink()
    return target


def report_text(
    recordings: Sequence[Recording],
    *,
    run: Callable[..., tuple[Any, ...]] = compute,
    limit_bytes: int = MAX_BYTES,
) -> str:
    """The page as text; parameters as `write_report`.

    If it were larger than the limit, what is of one layer alone is left out of every second layer, and again,
    until it fits or nothing more can be left out.
    """
    names = [_short(recording.location) for recording in recordings]
    if len(set(names)) < len(names):
        names = [f"{name} ({which})" for name, which in zip(names, "ab", strict=False)]
    every = zip(recordings, names, ("recording", "other"), strict=False)
    scopes = [scope_of(recording, name, variable) for recording, name, variable in every]
    asked = [_Asked.of(scope) for scope in scopes]
    lazy = [answer for one in asked for answer in one.lazy]
    computed = iter(run(*in_rounds(lazy)))
    for one in asked:
        one.take([next(computed) for _ in one.lazy])
    findings = [finding for one in asked for finding in _findings(one, names, asked)]
    if len(recordings) == 2:
        findings = [*differences(recordings[0], recordings[1], run), *findings]
    shown = asked[0].scope.names
    while True:
        text = _page(asked, names, findings, shown)
        if len(text.encode()) <= limit_bytes or not shown:
            return text
        shown = shown[::2] if len(shown) > 1 else ()


def _findings(one: _Asked, names: Sequence[str], asked: Sequence[_Asked]) -> list[tuple[str, str]]:
    """Findings about a recording, with its name where there are two."""
    of = f"{names[asked.index(one)]}: " if len(asked) > 1 else ""
    return [(kind, of + text) for kind, text in findings_of(one.scope, one.answer)]


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
        # Of a recording that has only just begun there is nothing to show.
        sections = _sections(scope) if scope.names else []
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


def _sections(scope: Scope) -> list[Section]:
    neurons = Section(
        "neurons",
        "Neurons",
        "Which neurons fire, at which step, and where they lie.",
        [_RASTER, maps_of(scope)],
    )
    before, behind = (strip_of, activity_of), (timing_of, together_of, course_of)
    return [*(of(scope) for of in before), neurons, *(of(scope) for of in behind)]


_RASTER: Final = Picture(
    "raster",
    "raster",
    "Raster",
    "Spikes of some neurons of the chosen layer, evenly drawn from those that fire there; a presentation "
    "beside the next. Drag to zoom.",
)


def _page(
    asked: Sequence[_Asked],
    names: Sequence[str],
    findings: Sequence[tuple[str, str]],
    shown: Collection[str],
) -> str:
    first, pool = asked[0], Pool()
    pictures = []
    for section in first.sections:
        for picture in section.pictures:
            if picture is _RASTER:
                pictures.append(_packed_raster(asked, pool, shown))
            elif picture.name in first.pendings:
                each = [one.pendings.get(picture.name) for one in asked]
                pictures.append(packed(picture, each, first.scope, pool, shown))
    data = {
        "recordings": [{"name": name, "short": name} for name in names],
        "layers": layer_facts(first.scope),
        "pictures": pictures,
        "lists": pool.lists,
    }
    return page(
        f"{' and '.join(names)} – spiketape report",
        [facts_of(one.scope) for one in asked],
        findings,
        ["import analysis", *(line for one in asked for line in one.scope.setup)],
        first.sections,
        data,
    )


def _packed_raster(asked: Sequence[_Asked], pool: Pool, shown: Collection[str]) -> dict[str, Any]:
    each = [one.raster.packed(one.spikes, asked[0].scope.names, pool, shown) for one in asked]
    table = {key: [one[key] for one in each] for key in ("lines", "layers", "said")}
    about = {"name": _RASTER.name, "kind": _RASTER.kind, "title": _RASTER.title}
    return {**about, "tables": {"spikes": table}}
