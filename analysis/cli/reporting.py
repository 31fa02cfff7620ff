"""The command ``spiketape report``."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.cli.clusters import cluster
from analysis.cli.progress import progress
from analysis.cli.running import errors_as_messages, on_cluster, open_shown
from analysis.display import printable


@click.command()
@click.argument("paths", metavar="PATH [PATH]", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="report.html",
    show_default=True,
    help="Write to this file; one that is there is replaced.",
)
@on_cluster
def report(paths: tuple[str, ...], output: Path, where: str | None) -> None:
    """Write a page with pictures of the recording at PATH, to look at in any browser.

    The page is one file that makes no request, and the same to the last byte for the same recording. Of two
    recordings it shows both, how they differ, and what spiketape compare finds.
    """
    if len(paths) > 2:
        raise click.UsageError(
            f"{len(paths)} paths; expected one, or two to compare. A quoted pattern such as 'runs/*.zarr', "
            "or the name of a run, shows several recordings as one"
        )
    with errors_as_messages():
        first, *others = map(open_shown, paths)
        with cluster(where), progress("reporting", left="no page was written") as work:
            written = first.report(output, other=others[0] if others else None, run=work.compute)
    click.echo(printable(written), err=True)
