"""The command: look, show, wait, until the recording is closed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.live import Live

from analysis.cli.progress import Interrupted
from analysis.cli.running import errors_as_messages
from analysis.cli.watching.figures import Figures, Watched
from analysis.cli.watching.showing import Shown
from analysis.opening.readers import open_readers
from recorder.format import RecordingFormatError, StoreError
from recorder.stores.redaction import shown_address, without_secrets

Show = Callable[[Shown], None]


@click.command()
@click.argument("path")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look whether something was committed.",
)
def watch(path: str, every: float) -> None:
    """Show how the recording at PATH comes along, until it is closed or Ctrl-C is pressed.

    On a terminal a table that changes at each commit, elsewhere a line for each: the firing rate of each
    layer in what was committed last and in all, the share of dead neurons, which have never fired, steps a
    second, the share of time for which the network waited for the writer, room left on the disk, and layers
    that are not called. Spikes are read once, when they have been committed; counts that were kept in place
    of them at each commit.
    """
    with errors_as_messages(), _shower() as show:
        watched = Watched(open_readers(path))
        try:
            _watch(watched, shown_address(path), every, show)
        except KeyboardInterrupt as interrupt:
            raise Interrupted("no longer watching; the recording goes on") from interrupt


def _watch(watched: Watched, location: str, every: float, show: Show) -> None:
    figures: Figures | None = None
    while figures is None or figures.state != "closed":
        trouble, gone, left = "", [], None
        try:
            figures = watched.look() or figures
            gone, left = watched.gone(), watched.disk_left()
        except (RecordingFormatError, StoreError, OSError) as error:
            if figures is None:
                raise
            trouble = without_secrets(error).partition("\n")[0]  # it may be there again in a moment
        if figures is not None:
            show(Shown(location, figures, left, gone, trouble))
            if figures.state != "closed":
                time.sleep(every)


@contextmanager
def _shower() -> Iterator[Show]:
    """Function that shows what is known: in place on a terminal, otherwise a line where something is new."""
    console = Console()
    if not sys.stdout.isatty() or console.is_dumb_terminal:
        yield _lines()
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda shown: live.update(shown.table(console.width, console.height), refresh=True)


def _lines() -> Show:
    last: tuple[object, ...] = ()

    def show(shown: Shown) -> None:
        nonlocal last
        now = (shown.figures, *shown.gone, shown.trouble)
        if now != last:
            last = now
            click.echo(shown.line())
            sys.stdout.flush()

    return show
