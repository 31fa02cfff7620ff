"""Processes that begin with torch imported, as forks of one that has done it.

That one is this file, run as a script; each process of tests starts its own. It is sent a request for each
fork over a socket, with the ends of pipes that become its input and outputs. The fork gets a parent that does
nothing but wait for it, and tells its number and how it ended by a fourth pipe.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

MOST_BYTES = 2**20


class Forked:
    """What is needed here of `subprocess.Popen`, of a process that is forked and then runs code.

    Parameters
    ----------
    code : str
    arguments : object
        ``sys.argv[1:]``, as text.
    environment : mapping of str to str
        All of its environment. Of what is read while Python starts, only ``PYTHONPATH`` is heeded.
    folder : Path, optional
        Its working folder; by default that of this process.
    """

    def __init__(
        self, code: str, *arguments: object, environment: Mapping[str, str], folder: Path | None = None
    ) -> None:
        request = {
            "code": code,
            "arguments": [str(each) for each in arguments],
            "environment": dict(environment),
            "folder": str(folder or Path.cwd()),
        }
        (given, stdin), (stdout, out), (stderr, err), (told, tells) = (os.pipe() for _ in range(4))
        theirs = [given, out, err, tells]
        socket.send_fds(_nursery(), [json.dumps(request).encode()], theirs)
        for end in theirs:
            os.close(end)
        self.stdin: TextIO | None = os.fdopen(stdin, "w")
        self.stdout, self.stderr, self._told = map(os.fdopen, (stdout, stderr, told))
        self.pid = int(self._told.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status, as `subprocess.Popen` gives it, or None while it runs."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            with self._told:
                self.returncode = int(self._told.readline())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for it to end; its exit status."""
        if self.returncode is None and not select.select([self._told], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Close its input, and wait for it to end; what it has printed."""
        if self.stdin is not None and not self.stdin.closed:
            # It may have ended, and never read it.
            with contextlib.suppress(BrokenPipeError):
                self.stdin.close()
        with ThreadPoolExecutor(2) as readers:
            said = [readers.submit(_rest, stream) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            out, err = (each.result(timeout) for each in said)
        return out, err

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)


def _rest(stream: TextIO) -> str:
    if stream.closed:
        return ""
    with stream:
        return stream.read()


@functools.cache
def _nursery() -> socket.socket:
    """The socket of the process that forks, which is started by the first call, and ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    nursery = subprocess.Popen(
        [sys.executable, "-P", __file__, str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    theirs.close()

    def end() -> None:
        ours.close()
        nursery.wait()

    atexit.register(end)
    return ours


def _serve(control: socket.socket) -> tuple[dict[str, Any], Sequence[int]] | None:
    """Fork for each request; return it in the fork. None once nobody can send one any more."""
    while True:
        message, ends, _, _ = socket.recv_fds(control, MOST_BYTES, 4)
        if not message:
            return None
        if os.fork():
            for end in ends:
                os.close(end)
            continue
        control.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        *stdio, tells = ends
        child = os.fork()
        if not child:
            os.close(tells)
            return json.loads(message), stdio
        for end in stdio:
            os.close(end)
        os.write(tells, f"{child}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(tells, f"{status}\n".encode())
        os._exit(0)


def _become(request: dict[str, Any], stdio: Sequence[int]) -> dict[str, Any]:
    """Make this process the one that was asked for; the namespace in which its code is to run."""
    for number, end in enumerate(stdio):
        os.dup2(end, number)
        os.close(end)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[:0] = filter(None, request["environment"].get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["-c", *request["arguments"]]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    return main.__dict__


if __name__ == "__main__":
    import numpy  # noqa: F401 - so that forks have it
    import torch  # noqa: F401
    import zarr  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Forks end sooner if they leave alone what was imported here.
    gc.freeze()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        exec(compile(asked[0]["code"], "<string>", "exec"), _become(*asked))  # noqa: S102 - it is for this
