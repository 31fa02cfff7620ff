"""The command ``spiketape stats``: any statistic, as a table."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pandas as pd
import xarray as xr

from analysis.asking.rounds import in_rounds
from analysis.asking.shards import Sharded, name_of
from analysis.cli.clusters import cluster
from analysis.cli.running import complete_path, compute_here, errors_as_messages, on_cluster, open_shown
from analysis.cli.tables.asking import DEFAULT_PER, Asked, complete_statistics, statistics_text
from analysis.cli.tables.choosing import chosen
from analysis.cli.tables.output import FORMATS, SUFFIXES, WRITERS, format_of, write_csv_for_spreadsheets
from analysis.cli.tables.parts import MAX_SHARDS, Part, commits_of
from analysis.display import printable
from analysis.questions import PER
from recorder.stores.redaction import shown_address


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


def _shard(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    shard, shards = map(int, found.groups()) if found else (0, 0)
    if not 0 <= shard < shards <= MAX_SHARDS:
        raise click.BadParameter(
            f"{printable(repr(text))}; expected the number of a shard, from 0 on, and how many there are, as "
            f"in 3/16, the fourth of 16 ({MAX_SHARDS} at most)"
        )
    return shard, shards


def asked(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that make up a question, besides what is chosen; their names are those of `Asked`."""
    texts = {
        "boundary": ("none|N", "Where no trials say so: a sequence is the whole run, or N steps."),
        "unit": ("UNIT", "Of rates or times, or both, as in Hz,ms; step durations must have been recorded."),
    }
    options = [
        click.option(
            "--what",
            default="firing_rate,silent_ratio",
            show_default=True,
            callback=_words,
            shell_complete=complete_statistics,
            help="Statistics, joined by commas; --list names them.",
        ),
        click.option(
            "--per",
            default=",".join(DEFAULT_PER),
            show_default=True,
            callback=_words,
            metavar="WORDS",
            help=f"What to keep apart: {', '.join(PER)}, or a column of the trials; joined by commas.",
        ),
        click.option("--window", type=click.IntRange(min=1), help="Steps in a window, for --per window."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="A further parameter of a statistic, such as threshold=0.9; likewise. null is None.",
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
@click.argument("path", shell_complete=complete_path)
@asked
@chosen
@written
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_statistics,
    help="Name the statistics and end.",
)
@click.option(
    "--shard",
    metavar="N/M",
    callback=_shard,
    help="Compute only shard N of M, counted from 0, and write it to -o FILE, for spiketape merge.",
)
@on_cluster
def stats(
    path: str,
    file_format: str | None,
    safe: bool,
    output: Path | None,
    shard: tuple[int, int] | None,
    where: str | None,
    **question: Any,
) -> None:
    """Print statistics of the recording at PATH, a row for each of what is kept apart.

    What several neurons, presentations or intervals were averaged over has a column <name>_defined beside the
    figure: how many of them there were.
    """
    question["window"] = str(question["window"] or "")
    if shard is not None:
        if output is None or file_format or safe:
            raise click.UsageError(
                "--shard writes no table, but a part of one: give it -o FILE, and no format"
            )
        if output.suffix.lower() in SUFFIXES:
            raise click.UsageError(
                f"{printable(output)} is no table, but a part of one: let it end in .npz, and have "
                "spiketape merge write the table"
            )
        with errors_as_messages():
            _write_part(path, Asked(**question), shard, output.expanduser(), where)
        return
    write = writer(file_format, output, safe=safe)
    with errors_as_messages():
        answer = Asked(**question).of(open_shown(path))
        with cluster(where):
            (answer,) = compute_here(*in_rounds([answer]))
        write(table_of(answer))


def _write_part(path: str, question: Asked, shard: tuple[int, int], output: Path, where: str | None) -> None:
    recording = open_shown(path)
    commits = commits_of(recording)
    sharded = Sharded.of(question.of(recording.anywhere()), shard[1])
    with cluster(where):
        (results,) = compute_here(sharded.results(shard[0]))
    named = dict(zip(map(name_of, sharded.keys(shard[0])), results, strict=True))
    Part(*shard, question, commits, shown_address(path), named).write(output)


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
