"""The page: HTML around the figures, with a policy that forbids every request.

Whatever is written into it is escaped: names, labels and notes come from whoever made the recording.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from analysis.display import printable
from analysis.report.definitions import DEFINITIONS
from analysis.report.pictures import Picture, Section

_SCRIPTS: Final = (
    "uplot/uPlot.iife.min.js",
    "data.js",
    "theme.js",
    "grid.js",
    "charts.js",
    "raster.js",
    "strip.js",
    "pictures.js",
    "page.js",
)
_STYLES: Final = ("uplot/uPlot.min.css", "page.css")


@cache
def asset(name: str) -> str:
    """The text of a file that lies beside this one."""
    return files("analysis.report").joinpath("assets", *name.split("/")).read_text(encoding="utf-8")


def page(
    title: str,
    facts: Sequence[Sequence[tuple[str, str]]],
    findings: Sequence[tuple[str, str]],
    setup: Sequence[str],
    sections: Sequence[Section],
    data: Mapping[str, Any],
) -> str:
    """The whole page.

    Parameters
    ----------
    title : str
    facts : sequence of sequence of (str, str)
        Of each recording, each with a name.
    findings : sequence of (str, str)
        Kind and sentence.
    setup : sequence of str
        Lines of Python that come first.
    sections : sequence of Section
    data : mapping
        What the scripts are given; its pictures are those of the sections, in order.
    """
    scripts = [asset(name) for name in _SCRIPTS]
    styles = [asset(name) for name in _STYLES]
    packed = {picture["name"]: picture for picture in data["pictures"]}
    body = [
        _header(data["recordings"]),
        _bar(sections),
        "<main>",
        _overview(facts, findings, setup, data["recordings"]),
        *(_section(section, packed, data["recordings"]) for section in sections),
        _definitions(),
        "</main>",
        "<noscript><p>Pictures are drawn by scripts inside this file, which are switched off.</p></noscript>",
        f'<script type="application/json" id="report">{_json(data)}</script>',
        *(f"<script>{script}</script>" for script in scripts),
    ]
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts, styles)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{_text(title)}</title>",
        *(f"<style>{style}</style>" for style in styles),
    ]
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        *head,
        "</head>",
        "<body>",
        *body,
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """Nothing may be loaded or run but what is in the page, by its hash."""
    of = [" ".join(f"'sha256-{_hash(text)}'" for text in texts) for texts in (scripts, styles)]
    return f"default-src 'none'; script-src {of[0]}; style-src {of[1]}; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _text(value: object) -> str:
    return html.escape(printable(value))


def _json(data: Mapping[str, Any]) -> str:
    """JSON that ends no script and begins no comment, whatever is in it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _header(recordings: Sequence[Mapping[str, str]]) -> str:
    # Each has its colour in charts, where there are two.
    marks = (' class="first"', ' class="second"') if len(recordings) > 1 else ("",)
    each = zip(recordings, marks, strict=True)
    names = " and ".join(f"<strong{mark}>{_text(one['name'])}</strong>" for one, mark in each)
    what = "two recordings, and how they differ" if len(recordings) > 1 else "a recording of spikes"
    return f'<a class="skip" href="#layers">To the layers</a>\n<header><p>{what}</p><h1>{names}</h1></header>'


def _bar(sections: Sequence[Section]) -> str:
    links = [
        ("overview", "Overview"),
        *((each.name, each.title) for each in sections),
        ("definitions", "Definitions"),
    ]
    listed = "".join(f'<a href="#{name}">{_text(title)}</a>' for name, title in links)
    return (
        '<nav aria-label="Layer and sections"><div class="choice"><label for="layer">Layer</label>'
        '<button type="button" id="previous" aria-label="Layer before">&lsaquo;</button>'
        '<select id="layer"></select>'
        '<button type="button" id="next" aria-label="Layer behind">&rsaquo;</button></div>'
        f'<div class="links">{listed}</div></nav>'
    )


def _overview(
    facts: Sequence[Sequence[tuple[str, str]]],
    findings: Sequence[tuple[str, str]],
    setup: Sequence[str],
    recordings: Sequence[Mapping[str, str]],
) -> str:
    found = "".join(f'<li class="{kind}">{_text(text)}</li>' for kind, text in findings)
    listed = []
    for each, recording in zip(facts, recordings, strict=True):
        head = f"<h3>{_text(recording['name'])}</h3>" if len(recordings) > 1 else ""
        rows = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(text)}</dd></div>" for name, text in each)
        listed.append(f'<div>{head}<dl class="facts">{rows}</dl></div>')
    lines = "\n".join(_text(line) for line in setup)
    return (
        f'<section id="overview"><h2>Overview</h2><ul class="findings">{found}</ul>'
        f'<div class="both">{"".join(listed)}</div>'
        "<p>Numbers below come from lines like these; each picture names its own.</p>"
        f"<pre>{lines}</pre></section>"
    )


def _section(
    section: Section, packed: Mapping[str, Mapping[str, Any]], recordings: Sequence[Mapping[str, str]]
) -> str:
    shown = "".join(_figure(picture, packed.get(picture.name), recordings) for picture in section.pictures)
    return (
        f'<section id="{section.name}"><h2>{_text(section.title)}</h2><p>{_text(section.intro)}</p>'
        f'<div class="pictures">{shown}</div></section>'
    )


def _figure(
    picture: Picture, packed: Mapping[str, Any] | None, recordings: Sequence[Mapping[str, str]]
) -> str:
    head = f"<figcaption><h3>{_text(picture.title)}</h3><p>{_text(picture.caption)}</p></figcaption>"
    if packed is None:
        return f'<figure class="{picture.kind}">{head}<p class="why">{_text(picture.why_not)}</p></figure>'
    tables = packed["tables"].items()
    rows = "".join(_source(picture.title, key, table, recordings) for key, table in tables)
    said = list(dict.fromkeys(text for table in packed["tables"].values() for text in _said(table)))
    if not rows:
        why = f'<p class="why">{_text(said[0] if said else "There is nothing to show.")}</p>'
        return f'<figure class="{picture.kind}" data-picture="{picture.name}">{head}{why}</figure>'
    notes = "".join(f'<p class="note">{_text(text)}</p>' for text in said[:3])
    return (
        f'<figure class="{picture.kind}" data-picture="{picture.name}">{head}<div class="plot"></div>'
        f'<p class="readout" aria-live="polite"></p>{notes}<div class="sources">{rows}</div></figure>'
    )


def _said(table: Mapping[str, Any]) -> list[str]:
    """What was said of figures of all layers together."""
    return [] if "layers" in table else [text for text in table["said"] if text]


def _source(title: str, key: str, table: Mapping[str, Any], recordings: Sequence[Mapping[str, str]]) -> str:
    """The lines of Python that give the figures of a table in each recording, and buttons for them."""
    rows = ""
    for which, each in enumerate(recordings):
        if "layers" in table or table["data"][which] is not None:
            of = f" of {each['name']}" if len(recordings) > 1 else ""
            line = table["lines"][which] if isinstance(table["lines"][which], str) else ""
            label = _text(f"{title}: {key}{of} as CSV")
            button = f'<button type="button" aria-label="{label}">CSV</button>'
            rows += f'<div data-table="{key}" data-which="{which}"><code>{_text(line)}</code>{button}</div>'
    return rows


def _definitions() -> str:
    rows = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(text)}</dd></div>" for name, text in DEFINITIONS)
    return f'<section id="definitions"><h2>Definitions</h2><dl class="facts">{rows}</dl></section>'
