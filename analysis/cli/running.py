"""The way in which each command runs: errors as messages, where it computes, and how Ctrl-C ends it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

from analysis.arguments import QuestionError
from analysis.cli.clusters import ClusterError
from analysis.cli.options import as_options
from analysis.cli.progress import progress
from analysis.display import printable
from analysis.members import JointRecordingError
from analysis.opening import open_recording
from analysis.questions import UnknownLayerError
from analysis.recording import Recording
from recorder.format import LostFramesWarning, RecordingFormatError, StoreError
from recorder.stores.redaction import without_secrets

# What shells say of a process that Ctrl-C has ended.
INTERRUPTED: Final = 130

on_cluster = click.option(
    "--cluster",
    "where",
    metavar="WHERE",
    help="Compute there: local[:WORKERS], slurm[:JOBS], or the address or file of a scheduler of Dask.",
)


def open_shown(path: str) -> Recording:
    """The recording at a path; that frames are lost is a line on standard error and no warning of Python."""
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


class Commands(click.Group):
    """Commands that Ctrl-C ends at once, with a sentence and the exit status 130."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            with _interrupts_again():
                return super().invoke(context)
        except KeyboardInterrupt as interrupt:
            end_interrupted(str(interrupt) or "interrupted")


@contextmanager
def _interrupts_again() -> Iterator[None]:
    """Have Ctrl-C noticed even where it gets lost: a second later it comes again, until this block ends.

    Where another thread takes the signal, whatever the main thread waits for goes on. And an interrupt that
    comes in a callback, such as that of a weak reference, is only printed by Python.
    """
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    in_main = threading.current_thread() is threading.main_thread()
    if not (is_ours and in_main and hasattr(signal, "pthread_kill")):
        yield  # somebody else wants it, or has it ignored; or this is Windows
        return
    # Python writes the number of each signal that it handles, whichever thread has taken it.
    taken, told = os.pipe()
    os.set_blocking(told, False)
    main, ended = threading.get_ident(), threading.Event()

    def insist() -> None:
        while not ended.is_set():
            if os.read(taken, 1) == bytes([signal.SIGINT]):
                while not ended.wait(1):
                    signal.pthread_kill(main, signal.SIGINT)

    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    thread = threading.Thread(target=insist, daemon=True, name="spiketape-interrupts")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        os.write(told, b"\0")
        thread.join()
        os.close(taken)
        os.close(told)


def end_interrupted(sentence: str) -> NoReturn:
    """End this process at once: threads that still compute for nobody are not waited for."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    with suppress(OSError):
        # Behind the ^C that a terminal shows.
        click.echo("\n" * sys.stderr.isatty() + f"spiketape: {printable(sentence)}", err=True)
    os._exit(INTERRUPTED)


def complete_path(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete the name of a file or folder; a URL is typed by hand."""
    return [CompletionItem(incomplete, type="file")]
