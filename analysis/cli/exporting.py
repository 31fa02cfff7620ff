"""The command ``spiketape export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from analysis.cli.clusters import cluster
from analysis.cli.progress import progress
from analysis.cli.running import errors_as_messages, on_cluster, open_shown, warnings_as_lines
from analysis.cli.tables.choosing import chosen, select
from analysis.display import printable
from analysis.export import FORMS
from analysis.questions import ManyUnitsWarning


@click.command()
@click.argument("path")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--to", "form", type=click.Choice(FORMS), default="parquet", show_default=True, help="What is made."
)
@chosen
@click.option("--dt", type=float, help="For nwb: how long a step is, where it was not recorded.")
@click.option("--dt-unit", metavar="UNIT", help="Its unit, such as ms; s if it is left out.")
@click.option(
    "--digest/--no-digest",
    default=True,
    help="Whether to compute the digest of a whole recording that does not state it; reads everything.",
)
@on_cluster
def export(
    path: str,
    out: Path,
    form: Any,
    dt: float | None,
    dt_unit: str | None,
    digest: bool,
    where: str | None,
    **part: Any,
) -> None:
    """Write the events of the recording at PATH to OUT, in a form that other tools read.

    parquet: a folder with layer=<name>/part-<k>.parquet, a row for each event (neuron, trial, sample, time,
    step), neurons.parquet, trials.parquet and metadata.json, for DuckDB, polars, pandas, Spark, R.

    nwb: a file <name>.nwb, a unit for each neuron, presentations end to end as trials, for pynapple, neo and
    whatever else reads NWB. Needs pip install 'spiketape[nwb]'.

    Nothing must be at OUT; it is there when all is written. On a cluster, workers write to it, too.
    """
    with errors_as_messages():
        recording = select(open_shown(path), **part)
        with (
            cluster(where),
            warnings_as_lines(ManyUnitsWarning),
            progress("exporting", left="nothing was written") as work,
        ):
            try:
                recording.export(out, form, dt=dt, dt_unit=dt_unit, digest=digest, run=work.compute)
            except ModuleNotFoundError as missing:
                raise click.ClickException(str(missing)) from missing
    click.echo(f"{printable(str(out))}: {len(recording)} layer(s), {form}", err=True)
