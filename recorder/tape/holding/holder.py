"""The process that holds the lock of a recording, and how to find out if it still runs."""

from __future__ import annotations

import hmac
import os
import re
import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

# Owners of the locks that this process holds. A stored lock that names this process and another owner is
# left over from an earlier writer.
held_owners: set[str] = set()


@dataclass(frozen=True)
class Holder:
    """The description of a writer, as stored in its lock.

    Attributes
    ----------
    owner : str
        Random identifier of this one writer.
    host : str
        Name of the host.
    machine : str
        Hash of the identifier of the machine, which tells hosts of the same name apart; empty where unknown.
    boot : str
        Hash of the identifier of the boot, which changes when the host is restarted; empty where unknown.
    namespace : str
        PID namespace, which tells containers of one host apart; empty where unknown.
    process : int
        Process ID.
    process_started : str
        Start of the process in clock ticks since boot, which tells apart processes that reuse an ID; empty
        where unknown.
    since : str
        Time at which the lock was taken, ISO 8601 in UTC.
    """

    owner: str
    host: str
    machine: str
    boot: str
    namespace: str
    process: int
    process_started: str
    since: str

    @classmethod
    def this_process(cls) -> Holder:
        """A new owner in the calling process."""
        return cls(
            owner=uuid.uuid4().hex,
            host=socket.gethostname(),
            machine=_hashed(_machine()),
            boot=_hashed(_boot()),
            namespace=_read_link("/proc/self/ns/pid"),
            process=os.getpid(),
            process_started=_process_started(os.getpid()),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def state(self, last_commit: str = "") -> Literal["alive", "dead", "unknown"]:
        """Say if the owner still runs, as far as this process can find out.

        Parameters
        ----------
        last_commit : str
            Time of the recording's last commit, ISO 8601; empty where unknown.
        """
        here = Holder.this_process()
        # Locks of earlier versions hold the identifiers themselves.
        if self.host != here.host or self.machine not in (here.machine, _machine()):
            return "unknown"
        if self.boot not in (here.boot, _boot()):
            # Either this host was restarted since, or the owner runs on another machine made from the same
            # image, with the same name and identifier. The owner is surely dead only if its last sign of life
            # is older than the boot of this host.
            moments = [moment for moment in (self.since, last_commit) if moment]
            return "dead" if all(map(_is_before_boot, moments)) else "unknown"
        if self.namespace != here.namespace:
            return "unknown"
        if (self.process, self.process_started) == (here.process, here.process_started):
            return "alive" if self.owner in held_owners else "dead"
        return _process_state(self.process, self.process_started)

    def describe(self) -> str:
        """Text with process, host and age, to show to people."""
        return f"process {self.process} on host {self.host}, since {self.since} ({age_text(self.since)})"


def _machine() -> str:
    return _read_text("/etc/machine-id")


def _boot() -> str:
    return _read_text("/proc/sys/kernel/random/boot_id")


def _hashed(identifier: str) -> str:
    """Hash that stands for a secret identifier of this host in this package alone; empty if that is empty.

    Recordings are published, and machine-id(5) asks that the identifier itself stays on the machine.
    """
    return hmac.digest(identifier.encode(), b"spiketape writer.lock", "sha256").hex() if identifier else ""


def _is_before_boot(moment: str) -> bool:
    """True if a moment, ISO 8601, lies before the boot of this host; False if that is unknown."""
    try:
        return datetime.fromisoformat(moment).timestamp() < _booted()
    except (ValueError, OverflowError):
        return False


def _booted() -> float:
    """Time of this host's boot, in seconds of Unix time; 0 if it is unknown."""
    found = re.search(r"^btime (\d+)$", _read_text("/proc/stat"), re.MULTILINE)
    return float(found[1]) if found else 0.0


def age_text(since: str) -> str:
    """Text that says how long ago a moment, ISO 8601, was."""
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()
    except (ValueError, TypeError):
        return "of unknown age"
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} seconds ago"


def _process_state(process: int, started: str) -> Literal["alive", "dead", "unknown"]:
    if os.name == "nt":
        return "unknown"  # on Windows, os.kill(process, 0) would end the process
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return "dead"
    except (OSError, OverflowError):
        pass  # the process exists, but belongs to another user
    found = _process_started(process)
    return "dead" if started and found and found != started else "alive"


def _process_started(process: int) -> str:
    """Start of a process in clock ticks since boot (proc(5), field 22); empty where that is unknown.

    For a zombie, which has ended and writes no more, the result is ``"ended"``, which equals no start.
    """
    # Split after the last parenthesis, as the name of the program, in parentheses, may contain some.
    fields = _read_text(f"/proc/{process}/stat").rpartition(")")[2].split()
    if len(fields) < 20:
        return ""
    return "ended" if fields[0] in "ZXx" else fields[19]


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _read_link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
