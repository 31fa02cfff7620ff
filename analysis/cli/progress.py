"""How far a long command has come: a line on terminals, and a sentence if Ctrl-C ends it.

Where nobody sees standard error, as in logs and pipes, nothing is shown.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from dask.base import compute, persist
from dask.callbacks import Callback
from rich import progress as bars
from rich.console import Console
from rich.text import Text

SHOWN_AFTER_SECONDS: Final = 1.0


class Interrupted(KeyboardInterrupt):
    """Ctrl-C has ended a command; its text says what was done until then."""


class Progress:
    """Counts what a command has done, and shows it; made by `progress`.

    It is called as ``work(done, total)``, from any thread. The line appears after a second, so that short
    commands show nothing.
    """

    def __init__(self, doing: str, unit: str) -> None:
        self._doing = doing
        self._unit = unit
        self._done = self._total = 0
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._console = _console()
        self._bar: bars.Progress | None = None

    def begin(self, doing: str, unit: str) -> None:
        """Begin the next part of the work, with a line of its own."""
        self.stop()
        with self._lock:
            self._doing, self._unit = doing, unit
            self._done = self._total = 0
            self._began = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Say that ``done`` of ``total`` is done."""
        with self._lock:
            self._done, self._total = done, total
            is_late = time.monotonic() - self._began >= SHOWN_AFTER_SECONDS
            if self._bar is None and self._console is not None and is_late:
                self._bar = _bar(self._unit, self._console)
                self._bar.add_task(self._doing, completed=done, total=total)
                self._bar.start()
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], completed=done, total=total)

    def compute(self, *collections: Any, note: Callable[[Any], object] | None = None) -> tuple[Any, ...]:
        """As `dask.compute`, in threads or on the cluster in use; tasks are what is counted.

        Parameters
        ----------
        *collections : dask collections
        note : callable, optional
            Called with the result of each task that ends, in the thread of the caller. On a cluster, where
            results stay with the workers, only if Ctrl-C is pressed, with those of ``collections``.
        """
        if (client := _client()) is not None:
            return _compute_there(client, self, collections, note)
        with _Tasks(self, note):
            return tuple(compute(*collections))

    def so_far(self) -> str:
        """What is done, e.g. ``"interrupted while verifying, when 3 of 8 tasks were done"``."""
        done = f", when {self._done} of {self._total} {self._unit} were done" if self._total else ""
        return f"interrupted while {self._doing}{done}"

    def stop(self) -> None:
        """Take the line away."""
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None


@contextmanager
def progress(doing: str, unit: str = "tasks", *, left: Callable[[], str] | str = "") -> Iterator[Progress]:
    """Show inside the ``with`` block how far a command has come.

    Parameters
    ----------
    doing : str
        What it does, e.g. ``"verifying"``.
    unit : str
        What is counted, in the plural.
    left : str, or callable that returns it
        What becomes of the work if Ctrl-C ends it, e.g. ``"nothing was written"``.

    Raises
    ------
    Interrupted
        If Ctrl-C ends the block. Its text is `Progress.so_far` and ``left``.
    """
    work = Progress(doing, unit)
    try:
        yield work
    except KeyboardInterrupt as interrupt:
        said = left() if callable(left) else left
        raise Interrupted("; ".join(filter(None, [work.so_far(), said]))) from interrupt
    finally:
        work.stop()


def _console() -> Console | None:
    """Standard error, if somebody sees there what changes in place."""
    console = Console(stderr=True)
    return console if sys.stderr.isatty() and not console.is_dumb_terminal else None


def _bar(unit: str, console: Console) -> bars.Progress:
    """A line with count, rate and time left."""
    return bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.MofNCompleteColumn(),
        _Rate(unit),
        bars.TimeRemainingColumn(),
        bars.TextColumn("left"),
        console=console,
        transient=True,
    )


class _Rate(bars.ProgressColumn):
    """How many of what is counted are done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: bars.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{self._unit}, {'–' if speed is None else f'{speed:.1f}'}/s")


class _Tasks(Callback):
    """Counts the tasks that threads of this process have done."""

    def __init__(self, work: Progress, note: Callable[[Any], object] | None) -> None:
        self._work = work
        self._note = note

    def _start_state(self, _graph: Any, state: Any) -> None:
        self._work(*_counts(state))

    def _posttask(self, _key: Any, result: Any, _graph: Any, state: Any, _worker: Any) -> None:
        self._work(*_counts(state))
        if self._note is not None:
            self._note(result)


def _counts(state: Any) -> tuple[int, int]:
    done = len(state["finished"])
    return done, done + sum(len(state[name]) for name in ("ready", "waiting", "running"))


def _client() -> Any:
    """The client of the cluster in use; None if there is none."""
    try:
        from distributed import default_client  # noqa: PLC0415 - an extra

        return default_client()
    except (ModuleNotFoundError, ValueError):
        return None


def _compute_there(
    client: Any, work: Progress, collections: Sequence[Any], note: Callable[[Any], object] | None
) -> tuple[Any, ...]:
    from distributed import futures_of  # noqa: PLC0415 - an extra
    from distributed.diagnostics.progressbar import TextProgressBar  # noqa: PLC0415

    class Listener(TextProgressBar):
        def _draw_bar(self, remaining: int, all: int, **_: Any) -> None:  # noqa: A002 - its name there
            work(all - remaining, all)

        def _draw_stop(self, **_: Any) -> None:
            pass

    # What is kept on the workers can be watched.
    kept = persist(*collections)
    futures = futures_of(kept)
    try:
        Listener(futures)  # type: ignore[no-untyped-call]
    except KeyboardInterrupt:
        if note is not None:
            for result in client.gather([future for future in futures if future.status == "finished"]):
                note(result)
        raise
    return tuple(compute(*kept))
