"""The command ``spiketape import``: spikes of other tools become a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import click

from analysis.cli.progress import progress
from analysis.cli.running import errors_as_messages
from analysis.display import printable
from recorder.elsewhere import EventTable, write_recording
from recorder.elsewhere.events import Several
from recorder.elsewhere.files import TableSizes, read_labels, read_layers
from recorder.stores.redaction import shown_address


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILES...")
@click.option("-o", "--output", required=True, metavar="STORE", help="The recording: a folder or a URL.")
@click.option(
    "--axes",
    multiple=True,
    metavar="[LAYER=]AXES",
    help="What the axes of arrays are, such as 'n t ...', if they are not steps, samples, neurons.",
)
@click.option(
    "--neurons",
    multiple=True,
    metavar="[LAYER=]SHAPE",
    help="Of tables: shape of a layer, such as 2,32,32; once for all, or once for each, as where there is a "
    "column layer.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Of tables: number of steps, of each trial.")
@click.option("--samples", type=click.IntRange(min=1), default=1, help="Of tables: samples of each step.")
@click.option("--trials", type=click.IntRange(min=1), help="Of tables with a column trial: how many.")
@click.option(
    "--several",
    type=click.Choice(get_args(Several)),
    default="error",
    help="Of tables: what several events of a neuron in one step are: an error, a spike count, or one spike.",
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Labels, one for each sample, or for each trial of a table: a .npy file, or a text with lines.",
)
@click.option("--dt", type=float, help="How long a step is, in --dt-unit.")
@click.option("--dt-unit", metavar="UNIT", help="Its unit, such as ms.")
@click.option("--licence", metavar="TEXT", help="Under what licence the recording may be used.")
@click.option("--citation", metavar="TEXT", help="How it is to be cited.")
@click.option("--overwrite", is_flag=True, help="Replace a recording that is there.")
@click.option("--resume", is_flag=True, help="Go on with an import that was cut short: the same files again.")
@click.option("--append", is_flag=True, help="Put what is in the files behind what the recording holds.")
def import_files(
    files: tuple[str, ...],
    output: str,
    axes: tuple[str, ...],
    neurons: tuple[str, ...],
    steps: int | None,
    samples: int,
    trials: int | None,
    several: Several,
    labels: Path | None,
    **options: Any,
) -> None:
    """Make a recording of spikes in FILES: layers of one run, which have the same steps.

    Arrays [steps, samples, neurons...] of zeros and ones: a .npy file is a layer of its name, .npz and .pt
    files hold layers by name. Write NAME=FILE for another name.

    Tables with a row for each spike (.parquet, ascending in time, or .npz) have columns step, or trial and
    time; sample, if there are several; neuron, or channel, height, width; and layer, if there are several.
    All count from 0. How many there are of each is said by options, as silent ones are in no row.
    """
    shapes = {name: _shape(text) for name, text in _by_layer("--neurons", neurons).items()}
    of_arrays = _by_layer("--axes", axes)
    sizes = TableSizes(shapes, steps, samples, trials, several)
    left = "ask for the same again with --resume to go on from the last commit"
    with errors_as_messages(), progress("importing", left=left), ExitStack() as opened:
        try:
            layers = read_layers(files, sizes, opened)
            of_tables = shapes or steps or trials or several != "error"
            if of_tables and not any(isinstance(x, EventTable) for x in layers.values()):
                raise click.UsageError(
                    "--neurons, --steps, --trials and --several are of tables, and there is none"
                )
            location = write_recording(
                output,
                layers,
                axes=_axes_of(layers, of_arrays),
                labels=None if labels is None else read_labels(labels),
                **options,
            )
        except ModuleNotFoundError as missing:
            raise click.ClickException(f"{missing.name} is not installed, these files need it") from missing
        except (ValueError, TypeError) as error:
            raise click.ClickException(printable(error)) from error
    click.echo(printable(f"{shown_address(location)}: {len(layers)} layer(s), closed"), err=True)


def _by_layer(option: str, given: Sequence[str]) -> dict[str, str]:
    """What is given of each layer, by its name; of the name ``""`` for all others."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.rpartition("=")
        if name in found or (equals and not name):
            raise click.BadParameter(f"{text!r}: expected [LAYER=]…, each layer once", param_hint=option)
        found[name] = value
    return found


def _axes_of(layers: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """Axes by layer, where they are given."""
    unknown = sorted(given.keys() - layers.keys() - {""})
    if unknown:
        raise click.BadParameter(f"there is no layer {unknown[0]!r}, only {[*layers]}", param_hint="--axes")
    return {name: given.get(name, given.get("", "")) for name in layers if {name, ""} & given.keys()}


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(",") if text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no shape; expected numbers such as 128 or 2,32,32", param_hint="--neurons"
        ) from None
