"""A real terminal for tests: a command that runs in one, what it shows there, and the keys pressed."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from processes import ROOT, SUPPORT

# The terminal becomes the one whose Ctrl-C interrupts the process.
_START = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
SPIKETAPE = [sys.executable, "-P", "-m", "analysis.cli"]


class Terminal:
    """A command in a terminal.

    Attributes
    ----------
    shown : str
        All that the terminal was sent so far, escape sequences included.
    """

    def __init__(self, process: subprocess.Popen[bytes], leader: int) -> None:
        self.process = process
        self._leader = leader
        self.shown = ""

    def wait_for(self, text: str, seconds: float = 100) -> None:
        """Return once the terminal was sent this text."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert self._read(deadline), f"{text!r} was not shown, but {self.shown!r}"

    def press_ctrl_c(self) -> None:
        """Press Ctrl-C: the terminal interrupts the process that it belongs to."""
        os.write(self._leader, b"\x03")

    def end(self, seconds: float = 100) -> int:
        """The exit status of the command, once it has ended; all that it showed is read."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        return self.process.wait(max(deadline - time.monotonic(), 1))

    def _read(self, deadline: float) -> bool:
        remaining = max(deadline - time.monotonic(), 0)
        if not select.select([self._leader], [], [], remaining)[0]:
            return False
        try:
            read = os.read(self._leader, 2**16)
        except OSError:  # nobody has the other end open
            return False
        self.shown += read.decode(errors="replace")
        return bool(read)


@contextmanager
def terminal(
    *command: object, width: int = 100, height: int = 30, environment: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """Run a command in a terminal of this size; it is killed at the end."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (height, width))
    path = os.pathsep.join(map(str, [ROOT, *SUPPORT]))
    process = subprocess.Popen(
        [sys.executable, "-c", _START, *map(str, command)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": path, **(environment or {})},
    )
    os.close(follower)
    try:
        yield Terminal(process, leader)
    finally:
        process.kill()
        process.wait()
        os.close(leader)
