"""Other processes for tests: Python that is started, told to go on line by line, and killed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from forking import Forked
from recorder.tape.holding.finalizing import wait_for_finished

ROOT = Path(__file__).parents[2]
_SUPPORT = Path(__file__).parent
SUPPORT = [_SUPPORT, *(_SUPPORT / room for room in ("compared", "recorded", "surroundings"))]


@contextmanager
def python(
    code: str,
    *arguments: object,
    beside: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A Python process that can import our packages and what supports tests; killed at the end.

    With ``beside=__file__`` it can import that test module, too.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**_environment(beside), **(environment or {})},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def forked(code: str, *arguments: object, beside: str | Path | None = None) -> Iterator[Forked]:
    """Do what `python` does, in a fork of a process that has imported torch, which takes seconds.

    It has the memory of that process, so nobody measures it here.
    """
    process = Forked(code, *arguments, environment=_environment(beside))
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _environment(beside: str | Path | None) -> dict[str, str]:
    path = os.pathsep.join(map(str, [ROOT, *SUPPORT, *([Path(beside).parent] if beside else [])]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


Process: TypeAlias = subprocess.Popen[str] | Forked


def finished(process: Process, seconds: float = 120) -> str:
    """What a process has printed, once it has ended well."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return out


def line(process: Process) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    found = process.stdout.readline()
    assert found, process.communicate()[1]
    return found.strip()


def collect_garbage() -> None:
    """Collect it, and return when what was forgotten has been finished."""
    gc.collect()
    wait_for_finished()
