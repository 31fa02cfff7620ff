"""Figures of a recording as a table with bars on a terminal, and as a line for logs and pipes.

Names come from whoever makes the recording: they are escaped, and no markup of rich.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.cli.watching.figures import Figures
from analysis.display import bytes_text, printable, shape_text, uncalled_text
from recorder.tape.holding.holder import age_text

_BAR_CELLS: Final = 24
_NUMBER_CELLS: Final = 6
_MAX_NAME: Final = 40
# Columns of a terminal that are not those of bars, where names are not too long.
_OTHER_CELLS: Final = 60
# Lines of a terminal that are not those of layers.
_OTHER_LINES: Final = 8


@dataclass(frozen=True)
class Shown:
    """Everything that is shown at one moment.

    Attributes
    ----------
    location : str
    figures : Figures
    disk_left : int or None
        In bytes.
    gone : sequence of str
        Writers that are gone, in words.
    trouble : str
        Why the recording could not be looked at; empty where it could.
    """

    location: str
    figures: Figures
    disk_left: int | None
    gone: Sequence[str]
    trouble: str = ""

    def line(self) -> str:
        """One line of plain text."""
        figures = self.figures
        parts = [
            figures.committed,
            f"step {figures.steps}",
            *self._pace(),
            *(
                f"{_name(layer.name)} {_rate(layer.rate)} (dead {_percent(layer.dead)})"
                for layer in figures.layers
            ),
            *self._notes(),
        ]
        return "  ".join(parts)

    def table(self, width: int, height: int) -> RenderableType:
        """A table that fits a terminal of this size, with bars where there is room for them."""
        figures = self.figures
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("layer", no_wrap=True)
        for heading in ("neurons", "rate", "so far", "dead"):
            least = None if heading == "neurons" else _NUMBER_CELLS
            table.add_column(heading, justify="right", no_wrap=True, min_width=least)
        table.add_column("rate", no_wrap=True)
        most = max((layer.rate for layer in figures.layers if not math.isnan(layer.rate)), default=0.0)
        listed = figures.layers[: max(height - _OTHER_LINES, 1)]
        bar_cells = max(min(width - _OTHER_CELLS, _BAR_CELLS), 0)
        for layer in listed:
            end = 0.0 if math.isnan(layer.rate) or not most else layer.rate / most
            table.add_row(
                Text(_name(layer.name)),
                shape_text(layer.neuron_shape),
                _rate(layer.rate),
                _rate(layer.rate_so_far),
                _percent(layer.dead),
                Bar(1.0, 0.0, end, width=bar_cells, color="cyan"),
            )
        more = len(figures.layers) - len(listed)
        head = f"step {figures.steps}, committed {age_text(figures.committed)}"
        lines: list[RenderableType] = [
            Text(printable(self.location), style="bold", overflow="ellipsis", no_wrap=True),
            Text("  ".join([head, *self._pace()])),
            table,
            *([Text(f"… and {more} more layers")] if more else []),
            *(Text(note, style="yellow") for note in self._notes()),
        ]
        return Group(*lines)

    def _pace(self) -> list[str]:
        speed, waited = self.figures.steps_per_second, self.figures.waited
        return [
            "– steps/s" if math.isnan(speed) else f"{speed:.4g} steps/s",
            f"waited {_percent(waited)}",
            f"disk left {'–' if self.disk_left is None else bytes_text(self.disk_left)}",
        ]

    def _notes(self) -> list[str]:
        notes = []
        if self.figures.uncalled:
            notes.append(f"not called: {printable(uncalled_text(self.figures.uncalled))}")
        notes += [
            f"the writer is gone, and has not closed the recording: {printable(who)}" for who in self.gone
        ]
        if self.trouble:
            notes.append(f"cannot be looked at: {printable(self.trouble)}")
        if self.figures.state == "closed":
            notes.append("closed")
        return notes


def _name(name: str) -> str:
    shown = printable(name) or "(the network itself)"
    return shown if len(shown) <= _MAX_NAME else f"{shown[: _MAX_NAME - 1]}…"


def _rate(rate: float) -> str:
    return "–" if math.isnan(rate) else f"{rate:.4f}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share:.1%}"
