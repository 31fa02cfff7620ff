"""Ctrl-C ends a command at once, whatever it does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

import click

from analysis.display import printable

# What shells say of a process that Ctrl-C has ended.
INTERRUPTED: Final = 130


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
