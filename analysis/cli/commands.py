# ruff: noqa: ARG002 - click hands contexts to methods that need none.
"""The command ``spiketape``: what is in a recording, and how much its layers fire.

Figures go to standard output or a file, everything else to standard error. The exit status is 0 if all went
well, 1 if something is wrong with the recording or the machine, 2 if the command was called wrongly, and 130
if Ctrl-C has ended it.

To import what a command needs takes a second or two. So a command is imported when it is called, and not to
list it or to complete its name.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Final, NamedTuple, NoReturn

import click
from click.shell_completion import CompletionItem, get_completion_class

from analysis.cli import end_without
from analysis.display import printable

# What shells say of a process that Ctrl-C has ended.
INTERRUPTED: Final = 130


class Listed(NamedTuple):
    """A command as it is listed.

    Attributes
    ----------
    place : str
        Module of this package and name of the command.
    sentence : str
        What it does: the first sentence of its help.
    """

    place: str
    sentence: str


SECTIONS: Final = {
    "Look": {
        "info": Listed(
            "facts.info",
            "Say what is in the recording at PATH: layers, sizes, state, and where it comes from.",
        ),
        "rates": Listed(
            "tables.rates.rates", "Print firing rates and silent ratios of the recording at PATH."
        ),
        "stats": Listed(
            "tables.stats.stats",
            "Print statistics of the recording at PATH, a row for each of what is kept apart.",
        ),
        "compare": Listed(
            "comparing.compare",
            "Compare the recordings at A and B bit by bit; exit status 1 if they differ, 2 if that "
            "cannot be told.",
        ),
        "report": Listed(
            "reporting.report",
            "Write a page with pictures of the recording at PATH, to look at in any browser.",
        ),
        "watch": Listed(
            "watching.watch.watch",
            "Show how the recording at PATH comes along, until it is closed or Ctrl-C is pressed.",
        ),
    },
    "Keep": {
        "verify": Listed(
            "keeping.verify",
            "Check everything in the recording at PATH against what was promised when it was recorded.",
        ),
        "recover": Listed(
            "keeping.recover",
            "Close the interrupted recording at PATH, and drop what lies behind its last commit.",
        ),
        "pack": Listed(
            "keeping.pack",
            "Rewrite the closed recording at SOURCE for keeping: few files, checked, with its digest.",
        ),
        "digest": Listed(
            "keeping.digest",
            "Print the digest of the recording at PATH, to quote: SHA-256 over all that was recorded.",
        ),
    },
    "Hand over": {
        "import": Listed(
            "importing.import_files",
            "Make a recording of spikes in FILES: layers of one run, which have the same steps.",
        ),
        "export": Listed(
            "exporting.export",
            "Write the events of the recording at PATH to OUT, in a form that other tools read.",
        ),
    },
    "In many jobs": {
        "merge": Listed(
            "tables.merging.merge",
            "Print statistics from PARTS, the files that `spiketape stats --shard` has written, one for "
            "each shard.",
        ),
    },
    "In a shell": {
        "completion": Listed(
            "commands.completion", "Print what makes SHELL complete commands, options and statistics."
        ),
    },
}
"""Commands by what they are for, in the order in which they are listed."""


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


class ByTask(Commands):
    """The commands of `SECTIONS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of the sections."""
        return [name for name, _ in _all()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported; None if there is none."""
        place = next((listed.place for name, listed in _all() if name == cmd_name), None)
        if place is None:
            return None
        module, _, attribute = place.rpartition(".")
        try:
            command: click.Command = getattr(import_module(f"analysis.cli.{module}"), attribute)
        except ModuleNotFoundError as missing:
            end_without(missing)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list of commands for each section."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, listed.sentence) for name, listed in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands that begin so, and options."""
        names = [
            CompletionItem(name, help=listed.sentence)
            for name, listed in _all()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def _all() -> Iterator[tuple[str, Listed]]:
    return (command for commands in SECTIONS.values() for command in commands.items())


@click.group(cls=ByTask, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="spiketape", message="%(package)s %(version)s")
def main() -> None:
    """Look into recordings of spiking neural networks.

    PATH is a folder, a URL such as s3://bucket/run.zarr, or anything else that recordings are opened by: the
    name of a distributed run, or a quoted pattern such as 'runs/*.zarr', for several as one.

    Exit status: 0 all went well, 1 something is wrong with the recording, 2 the command was called wrongly,
    130 Ctrl-C has ended it.
    """


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print what makes SHELL complete commands, options and statistics.

    \b
    bash:  eval "$(spiketape completion bash)"                       in ~/.bashrc
    zsh:   eval "$(spiketape completion zsh)"                        in ~/.zshrc
    fish:  spiketape completion fish > ~/.config/fish/completions/spiketape.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"this version of click does not know how {shell} completes")
    root = click.get_current_context().find_root().command
    click.echo(found(root, {}, "spiketape", "_SPIKETAPE_COMPLETE").source())
