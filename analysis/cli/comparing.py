"""The command ``spiketape compare``."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import click

from analysis.cli.clusters import cluster
from analysis.cli.running import complete_path, compute_here, errors_as_messages, on_cluster, open_shown
from analysis.cli.tables.choosing import chosen, select
from analysis.comparison import Comparison
from analysis.comparison import compare as compare_recordings


class NotComparedError(click.ClickException):
    """Nothing could be compared: the exit status is that of diff, as 1 says that recordings differ."""

    exit_code = 2


@click.command()
@click.argument("a", shell_complete=complete_path)
@click.argument("b", shell_complete=complete_path)
@click.option("--by", metavar="COLUMN", help="Column of the trials that says which presentations to compare.")
@click.option("--within", type=click.IntRange(min=0), default=0, help="Steps by which a spike may be off.")
@chosen
@click.option(
    "--format", "file_format", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@on_cluster
def compare(
    a: str, b: str, by: str | None, within: int, file_format: str, where: str | None, **part: Any
) -> None:
    """Compare the recordings at A and B bit by bit; exit status 1 if they differ, 2 if that cannot be told.

    Frames stand for each other if they have the same time in the same trial, for the same sample; with --by,
    samples that have the same value in a column, such as the number of an image. Signals of the same name are
    compared, too; labels are not. Of both, the same part may be chosen.
    """
    with errors_as_messages(NotComparedError), cluster(where):
        one, other = (select(open_shown(path), **part) for path in (a, b))
        found = compare_recordings(one, other, by=by, within=within, run=compute_here)
    if file_format == "json":
        click.echo(json.dumps(_facts(found), indent=2, allow_nan=False))
    else:
        click.echo("\n".join(["equal" if found.equal else "different", *found.lines()]))
    sys.exit(not found.equal)


def _facts(found: Comparison) -> dict[str, Any]:
    """The outcome as JSON values; an agreement of no spikes is null."""
    table = found.to_dataset()
    layers = []
    for place, name in enumerate(table.layer.values.tolist()):
        numbers = {key: column.values[place].item() for key, column in table.data_vars.items()}
        if math.isnan(numbers["agreement"]):
            numbers["agreement"] = None
        alone = zip("ab", found.layers[name].first_unmatched, strict=True)
        numbers |= {f"first_unmatched_{which}": None if at is None else vars(at) for which, at in alone}
        layers.append({"layer": name, **numbers})
    signals = [
        {
            **{key: value for key, value in vars(signal).items() if key not in ("first", "unmatched")},
            "unmatched_a": signal.unmatched[0],
            "unmatched_b": signal.unmatched[1],
            "largest": signal.largest if math.isfinite(signal.largest) else None,
            "first": None if signal.first is None else vars(signal.first),
        }
        for signal in found.signals.values()
    ]
    return {
        "equal": found.equal,
        "first": None if found.first is None else vars(found.first),
        "only_in_a": list(found.only_in[0]),
        "only_in_b": list(found.only_in[1]),
        "within": found.within,
        "layers": layers,
        "signals": signals,
        "signals_only_in_a": [list(key) for key in found.signals_only_in[0]],
        "signals_only_in_b": [list(key) for key in found.signals_only_in[1]],
    }
