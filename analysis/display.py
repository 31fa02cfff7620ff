"""Show recordings and tables as text, HTML and cells.

Names, labels and provenance come from whoever made the recording. Everything that is shown is escaped for
where it goes: control characters for terminals, markup for HTML, formulas for spreadsheets.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_LISTED: Final = 60
_MAX_MEMBERS = 4
# Where a cell begins, or would where spreadsheets part cells at semicolons, and is taken for a formula: also
# behind spaces and quotes, and written with the wide characters of East Asian keyboards.
_FORMULA: Final = re.compile(r"(^|;)(?=[\s\"]*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])")

# Rates at some places of layers, and why there are none.
Glimpse = tuple[Mapping[str, Sequence[float]], str]
NO_GLIMPSE: Final[Glimpse] = ({}, "")


@dataclass(frozen=True)
class LayerSummary:
    """Facts about a layer that are shown."""

    name: str
    layer_class: str
    neuron_shape: tuple[int, ...]
    dtype: str
    frames: int
    steps: int
    lost_frames: int
    signals: tuple[str, ...] = ()
    value_range: tuple[float, float] = (0.0, 1.0)
    value_scale: float | None = 1.0
    part: str = ""


@dataclass(frozen=True)
class RecordingSummary:
    """Facts about a recording that are shown."""

    location: str
    state: str
    created: str
    committed: str
    trials: int
    recordings: Sequence[str]
    selected: Mapping[str, Sequence[Any]]
    layers: Sequence[LayerSummary]
    uncalled: Mapping[str, int]


def printable(value: object) -> str:
    r"""Text that does nothing to a terminal: control and formatting characters are written as escapes.

    Examples
    --------
    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def spreadsheet_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula and no terminal for a command.

    What begins like a formula, at the beginning of text or behind a semicolon, gets an apostrophe in front;
    control characters, tabs among them, are written as escapes.

    Examples
    --------
    >>> spreadsheet_cell("=1+1"), spreadsheet_cell("a;=1+1"), spreadsheet_cell(-1.5)
    ("'=1+1", "a;'=1+1", -1.5)
    """
    return printable(_FORMULA.sub(r"\1'", value)) if isinstance(value, str) else value


def shape_text(shape: tuple[int, ...]) -> str:
    """A neuron shape, e.g. ``64 × 8 × 8``; ``1`` for a single neuron."""
    return " × ".join(map(str, shape)) or "1"


def uncalled_text(uncalled: Mapping[str, int]) -> str:
    """Layers that were not called, and since which step."""
    listed = [f"{name!r} since step {step}" if step else repr(name) for name, step in uncalled.items()]
    return ", ".join(listed[:MAX_LISTED]) + (", …" if len(listed) > MAX_LISTED else "")


def bytes_text(size: float) -> str:
    """A size in bytes for people, e.g. ``3.4 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def cell_text(value: object) -> str:
    """A value as it stands in a text table."""
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.6g}"
    return printable(value)


def text_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table aligned with spaces; numbers to the right."""
    cells = [[cell_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    is_number = [all(isinstance(row[column], int | float) for row in rows) for column in range(len(headings))]
    lines = []
    for row in [list(headings), *cells]:
        aligned = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, is_number, strict=True)
        ]
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def describe_layer(layer: LayerSummary) -> str:
    """A layer in one line."""
    return (
        f"<Layer {printable(layer.name)!r}: {printable(layer.layer_class)}, "
        f"neurons {shape_text(layer.neuron_shape)}, {layer.steps} steps, {layer.frames} frames"
        f"{f', {layer.lost_frames} frames lost' if layer.lost_frames else ''}"
        f"{printable(_signals_of(layer)) if layer.signals else ''}"
        f"{f', {values_text(layer.value_range, layer.value_scale)}' if _has_values(layer) else ''}"
        f"{f', kept in part: {printable(layer.part)}' if layer.part else ''}>"
    )


def _has_values(layer: LayerSummary) -> bool:
    return (layer.value_range, layer.value_scale) != ((0, 1), 1)


def values_text(value_range: Sequence[float], scale: float | None) -> str:
    """What a layer put out, e.g. ``values from -1 to 1.5, multiples of 0.5``."""
    least, most = value_range
    multiples = (
        "multiples of another number in each recording" if scale is None else f"multiples of {scale:g}"
    )
    return f"values from {least:g} to {most:g}, {multiples}"


def _value_facts(layers: Sequence[LayerSummary]) -> list[str]:
    graded = [layer for layer in layers if _has_values(layer)]
    listed = "; ".join(
        f"layer {layer.name!r}, {values_text(layer.value_range, layer.value_scale)}"
        for layer in graded[:_MAX_MEMBERS]
    )
    more = f"; and {len(graded) - _MAX_MEMBERS} more layers" * (len(graded) > _MAX_MEMBERS)
    return [printable(f"not only zeros and ones: {listed}{more}")] if graded else []


def _part_facts(layers: Sequence[LayerSummary]) -> list[str]:
    in_part = [layer for layer in layers if layer.part]
    listed = "; ".join(f"layer {layer.name!r}, {layer.part}" for layer in in_part[:_MAX_MEMBERS])
    more = f"; and {len(in_part) - _MAX_MEMBERS} more layers" * (len(in_part) > _MAX_MEMBERS)
    return [printable(f"kept in part: {listed}{more}")] if in_part else []


def _signals_of(layer: LayerSummary) -> str:
    several = "s" if len(layer.signals) > 1 else ""
    return f", signal{several} {', '.join(map(repr, layer.signals))}"


def _signal_facts(layers: Sequence[LayerSummary]) -> list[str]:
    with_signals = [layer for layer in layers if layer.signals]
    listed = "; ".join(f"layer {layer.name!r}{_signals_of(layer)}" for layer in with_signals[:_MAX_MEMBERS])
    more = f"; and of {len(with_signals) - _MAX_MEMBERS} more layers" * (len(with_signals) > _MAX_MEMBERS)
    return [printable(f"beside the spikes: {listed}{more}")] if with_signals else []


def describe_recording(recording: RecordingSummary) -> str:
    """A recording as text, a line for each layer."""
    lines = [f"<Recording {printable(recording.location)}>", *(f"  {line}" for line in _facts(recording))]
    table = text_table(_LAYER_HEADINGS, [_layer_row(layer) for layer in recording.layers[:MAX_LISTED]])
    lines += [f"  {line}" for line in table.splitlines()]
    if len(recording.layers) > MAX_LISTED:
        lines.append(f"  … and {len(recording.layers) - MAX_LISTED} more layers")
    return "\n".join(lines)


def layer_html(layer: LayerSummary, glimpse: Glimpse = NO_GLIMPSE) -> str:
    """A layer as HTML, for notebooks."""
    facts = [*_lost_facts([layer]), *_part_facts([layer]), *_value_facts([layer]), *_signal_facts([layer])]
    return _html_table(f"Layer {layer.name}", facts, [layer], 0, glimpse)


def recording_html(recording: RecordingSummary, glimpse: Glimpse = NO_GLIMPSE) -> str:
    """A recording as HTML, for notebooks."""
    listed = recording.layers[:MAX_LISTED]
    more = len(recording.layers) - len(listed)
    return _html_table(f"Recording {recording.location}", _facts(recording), listed, more, glimpse)


_LAYER_HEADINGS = ("layer", "class", "neurons", "steps", "frames")


def _layer_row(layer: LayerSummary) -> tuple[object, ...]:
    return layer.name, layer.layer_class, shape_text(layer.neuron_shape), layer.steps, layer.frames


def _facts(recording: RecordingSummary) -> list[str]:
    state = "closed" if recording.state == "closed" else f"not closed, last commit {recording.committed}"
    trials = f"{recording.trials} trials, " if recording.trials else ""
    facts = [printable(f"{trials}created {recording.created}, {state}")]
    facts += _lost_facts(recording.layers)
    facts += _part_facts(recording.layers)
    facts += _value_facts(recording.layers)
    facts += _signal_facts(recording.layers)
    if recording.uncalled:
        facts.append(
            printable(f"monitored, and not recorded at the end: {uncalled_text(recording.uncalled)}")
        )
    if len(recording.recordings) > 1:
        names = ", ".join(recording.recordings[:_MAX_MEMBERS])
        more = ", …" if len(recording.recordings) > _MAX_MEMBERS else ""
        facts.append(printable(f"{len(recording.recordings)} recordings as one: {names}{more}"))
    for name, values in recording.selected.items():
        shown = (
            f"{values[0]} to {values[1] - 1}" if name == "steps" else ", ".join(map(str, values[:MAX_LISTED]))
        )
        facts.append(printable(f"selected {name}: {shown}{', …' if len(values) > MAX_LISTED else ''}"))
    return facts


def _lost_facts(layers: Sequence[LayerSummary]) -> list[str]:
    lost = [f"{layer.lost_frames} of layer {layer.name!r}" for layer in layers if layer.lost_frames]
    listed = ", ".join(lost[:MAX_LISTED]) + (", …" if len(lost) > MAX_LISTED else "")
    return [printable(f"frames lost, and left out of all figures: {listed}")] if lost else []


def _html_table(
    title: str, facts: Sequence[str], layers: Sequence[LayerSummary], more: int, glimpse: Glimpse
) -> str:
    rates, trouble = glimpse
    most = max((max(each) for each in rates.values()), default=0.0)

    def cells(tag: str, values: Sequence[object]) -> str:
        return "".join(
            f"<{tag} style='text-align:left'>{html.escape(printable(value))}</{tag}>" for value in values
        )

    def picture(layer: LayerSummary) -> str:
        return (
            f"<td>{_sparkline(rates[layer.name], most) if layer.name in rates else ''}</td>" if rates else ""
        )

    rows = "".join(f"<tr>{cells('td', _layer_row(layer))}{picture(layer)}</tr>" for layer in layers)
    headings = cells("th", [*_LAYER_HEADINGS, *(["rate, from first to last frame"] if rates else [])])
    facts = [*facts, *([printable(trouble)] if trouble else [])]
    behind = f"<div>… and {more} more layers</div>" if more else ""
    return (
        f"<div><strong>{html.escape(printable(title))}</strong>"
        + "".join(f"<div>{html.escape(fact)}</div>" for fact in facts)
        + f"<table><thead><tr>{headings}</tr></thead><tbody>{rows}</tbody></table>"
        + f"{behind}</div>"
    )


def _sparkline(rates: Sequence[float], most: float) -> str:
    """Bars in one scale for all layers; what they show is also said in words."""
    said = f"firing rate between {min(rates):.4f} and {max(rates):.4f}"
    bars = "".join(
        f"<rect x='{place}' y='{1 - height:.3f}' width='.9' height='{height:.3f}'/>"
        for place, height in enumerate(rate / most if most else 0.0 for rate in rates)
    )
    return (
        f"<svg width='120' height='16' viewBox='0 0 {len(rates)} 1' preserveAspectRatio='none' role='img' "
        f"aria-label='{said}' fill='currentColor'><title>{said}</title>{bars}</svg>"
    )


def provenance_lines(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Lines with the notes of a recorder; modules of the network one below the other, as far as they fit."""
    for name, value in provenance.items():
        entries = value if name == "modules" and isinstance(value, list) else [value]
        shown = [_entry_text(entry) for entry in entries[:MAX_LISTED]]
        if len(entries) > MAX_LISTED:
            shown.append(f"… and {len(entries) - MAX_LISTED} more")
        for line, text in enumerate(line for entry in shown for line in entry.splitlines() or [""]):
            yield f"  {printable(name) if line == 0 else '':<12} {printable(text)}"


def _entry_text(entry: Any) -> str:
    if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("class"), str):
        shapes = entry.get("shapes")
        return f"{entry['name'] or '(itself)'}: {entry['class']}{f' {json.dumps(shapes)}' if shapes else ''}"
    return entry if isinstance(entry, str) else json.dumps(entry)
