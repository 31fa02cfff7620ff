"""The command ``spiketape rates``: how much layers fire, as a table."""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd
import xarray as xr

from analysis.cli.clusters import cluster
from analysis.cli.running import complete_path, compute_here, errors_as_messages, on_cluster, open_shown
from analysis.cli.tables.choosing import need_one_layer, select
from analysis.cli.tables.stats import table_of, writer, written
from analysis.questions import PER
from analysis.recording import Recording


@click.command()
@click.argument("path", shell_complete=complete_path)
@click.option(
    "--per",
    default="layer",
    show_default=True,
    metavar="|".join(PER),
    help="What to keep apart; several at once are joined by commas, as in layer,step.",
)
@click.option("--window", type=click.IntRange(min=1), help="Steps in a window, for --per window.")
@click.option("--layer", "layers", multiple=True, help="Only this layer; may be given several times.")
@click.option("--steps", metavar="A:B", help="Only steps A to B, B exclusive; either may be left out.")
@written
@on_cluster
def rates(
    path: str,
    per: str,
    window: int | None,
    layers: tuple[str, ...],
    steps: str | None,
    file_format: str | None,
    safe: bool,
    output: Path | None,
    where: str | None,
) -> None:
    """Print firing rates and silent ratios of the recording at PATH.

    The firing rate is spikes per neuron and step, the silent ratio the share of neurons that never fired.

    CSV holds names and labels exactly as they are. Spreadsheets run what begins with = + - or @ as a
    formula: have files with labels of strangers made with --safe before you open them there.
    """
    write = writer(file_format, output, safe=safe)
    with errors_as_messages():
        words = [word.strip() for word in per.split(",")]
        recording = select(open_shown(path), layers=layers, steps=steps or "")
        need_one_layer(recording, words, per)
        with cluster(where):
            table = _rates(recording, words, window)
        write(table)


def _rates(recording: Recording, per: list[str], window: int | None) -> pd.DataFrame:
    """Firing rates and silent ratios, a row for each of what is kept apart."""
    both = xr.Dataset(
        {
            "firing_rate": recording.firing_rate(per, window=window),
            "silent_ratio": recording.silent_ratio(per, window=window),
        }
    )
    computed: tuple[xr.Dataset, ...] = compute_here(both)
    (both,) = computed
    return table_of(both)
