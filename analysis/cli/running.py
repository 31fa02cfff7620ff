"""The way in which each command runs: errors as messages, and where it computes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from analysis.arguments import QuestionError
from analysis.cli.clusters import ClusterError
from analysis.cli.options import as_options
from analysis.cli.progress import progress
from analysis.display import printable
from analysis.members import JointRecordingError
from analysis.questions import UnknownLayerError
from recorder.format import LostFramesWarning, RecordingFormatError, StoreError
from recorder.stores.redaction import without_secrets

if TYPE_CHECKING:
    from analysis.recording import Recording

on_cluster = click.option(
    "--cluster",
    "where",
    metavar="WHERE",
    help="Compute there: local[:WORKERS], slurm[:JOBS], or the address or file of a scheduler of Dask.",
)


def open_shown(path: str) -> Recording:
    """The recording at a path; that frames are lost is a line on standard error and no warning of Python."""
    # Takes a second, and whoever keeps recordings needs none of it.
    from analysis.opening.recordings import open_recording  # noqa: PLC0415

    with warnings_as_lines(LostFramesWarning):
        return open_recording(path)


@contextmanager
def warnings_as_lines(*categories: type[Warning]) -> Iterator[None]:
    """What is warned of is a line on standard error, once; of these categories always."""
    with warnings.catch_warnings(record=True) as caught:
        for category in categories:
            warnings.simplefilter("always", category)
        yield
    for message in dict.fromkeys(printable(warning.message) for warning in caught):
        click.echo(message, err=True)


def compute_here(*collections: Any) -> tuple[Any, ...]:
    """As `dask.compute`, with progress where somebody sees it."""
    with progress("computing", left="no figure was printed or written") as work:
        return work.compute(*collections)


@contextmanager
def errors_as_messages(failure: type[click.ClickException] = click.ClickException) -> Iterator[None]:
    """A line on standard error and an exit status, instead of a traceback, for what is no bug of ours."""
    try:
        yield
    except UnknownLayerError as error:
        raise click.BadParameter(printable(error), param_hint="--layer") from error
    except QuestionError as error:
        options = [option for each in click.get_current_context().command.params for option in each.opts]
        raise click.UsageError(printable(as_options(str(error), options))) from error
    except (RecordingFormatError, JointRecordingError, StoreError, ClusterError, OSError) as error:
        raise failure("\n".join(map(printable, without_secrets(error).splitlines()))) from error


def complete_path(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete the name of a file or folder; a URL is typed by hand."""
    return [CompletionItem(incomplete, type="file")]
