"""The command ``spiketape stats``: any statistic that gives a figure for each group, as a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pandas as pd
import xarray as xr

from analysis.asking.rounds import in_rounds
from analysis.cli.asking import Asked, statistics_text
from analysis.cli.clusters import cluster
from analysis.cli.output import FORMATS, WRITERS, format_of, write_csv_for_spreadsheets
from analysis.cli.running import compute_here, errors_as_messages, on_cluster, open_shown
from analysis.questions import PER


def written(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a table is written, and where."""
    for option in (
        click.option(
            "-o",
            "--output",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write to this file, not to the screen. Ends in .csv, .json, .parquet or .txt.",
        ),
        click.option(
            "--safe", is_flag=True, help="CSV in which spreadsheets find no formula: alters such labels."
        ),
        click.option(
            "--format",
            "file_format",
            type=click.Choice(FORMATS),
            help="Of a file, what its name ends in says otherwise; of the screen, table.",
        ),
    ):
        command = option(command)
    return command


def _list_statistics(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(statistics_text())
        context.exit()


def _words(_: click.Context, __: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def asked(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that make up a question; their names are those of `Asked`."""
    texts = {
        "steps": ("A:B", "Only steps A to B, B exclusive; either may be left out."),
        "time": ("A:B", "Only these steps of each trial, counted from its first."),
        "trials": ("A:B|N,N", "Only these trials."),
        "samples": ("A:B|N,N", "Only these samples of each batch."),
        "neurons": ("INDICES", "Only these neurons, by an index along each axis, as in :,::2,[0,3]."),
        "channels": ("A:B|N,N", "Only these channels."),
        "boundary": ("none|N", "Where no trials say so: a sequence is the whole run, or N steps."),
        "unit": ("UNIT", "Of rates and times, such as Hz; step durations must have been recorded."),
    }
    options = [
        click.option(
            "--what",
            default="firing_rate,silent_ratio",
            show_default=True,
            callback=_words,
            help="Statistics, joined by commas; --list names them.",
        ),
        click.option(
            "--per",
            default="layer",
            show_default=True,
            callback=_words,
            metavar="WORDS",
            help=f"What to keep apart: {', '.join(PER)}, or a column of the trials; joined by commas.",
        ),
        click.option("--window", type=click.IntRange(min=1), help="Steps in a window, for --per window."),
        click.option("--layer", "layers", multiple=True, help="Only this layer; may be given several times."),
        click.option("--recording", "recordings", multiple=True, help="Of several, only this one; likewise."),
        click.option(
            "--where",
            "conditions",
            multiple=True,
            metavar="COLUMN=VALUE",
            help="Only samples with this value, such as epoch=3; likewise. A value is JSON, or else text.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="A further parameter of a statistic, such as threshold=0.9; likewise.",
        ),
        *(
            click.option(f"--{name}", default="", metavar=metavar, help=text)
            for name, (metavar, text) in texts.items()
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("path")
@asked
@written
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_statistics,
    help="Name the statistics and end.",
)
@on_cluster
def stats(
    path: str, file_format: str | None, safe: bool, output: Path | None, where: str | None, **question: Any
) -> None:
    """Print statistics of the recording at PATH, a row for each of what is kept apart.

    What several neurons, presentations or intervals were averaged over has a column <name>_defined beside the
    figure: how many of them there were.
    """
    write = writer(file_format, output, safe=safe)
    question["window"] = str(question["window"] or "")
    with errors_as_messages():
        answer = Asked(**question).of(open_shown(path))
        with cluster(where):
            (answer,) = compute_here(*in_rounds([answer]))
        write(table_of(answer))


def writer(file_format: str | None, output: Path | None, *, safe: bool) -> Callable[[pd.DataFrame], None]:
    """The function that writes a table as it is asked for.

    Raises
    ------
    click.UsageError
        If that is not possible.
    """
    output = None if output is None else output.expanduser()
    file_format = file_format or format_of(output)
    if safe and file_format != "csv":
        raise click.UsageError("--safe is for CSV: nothing in other formats is run as a formula")
    if file_format == "parquet" and output is None:
        raise click.UsageError("--format parquet makes a binary file: say where with -o FILE")
    write = write_csv_for_spreadsheets if safe else WRITERS[file_format]
    return lambda table: write(table, output)


def table_of(answer: xr.Dataset) -> pd.DataFrame:
    """A row for each group, a column for each dimension, coordinate and variable."""
    if not answer.dims:
        return pd.DataFrame({name: [values.item()] for name, values in answer.data_vars.items()})
    first = next(iter(answer.data_vars.values()))
    return answer.to_dataframe(dim_order=list(first.dims)).reset_index()
