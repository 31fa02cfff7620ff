"""Who holds the lock of a recording, and whether that process still runs."""

from __future__ import annotations

import os
import re
import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

# Owners in this very process: a lock that names the process, but none of them, was left behind.
held_owners: set[str] = set()


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as stored.

    Attributes
    ----------
    owner : str
        Random, of this one writer.
    host : str
    machine, boot, namespace : str
        What tells hosts of the same name, starts of one host, and containers apart; empty where unknown.
    process : int
    process_started : str
        When the process started, in clock ticks of the host, as numbers of processes are used again; empty
        where unknown.
    since : str
        When the lock was taken, ISO 8601 in UTC.
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
            machine=_read_text("/etc/machine-id"),
            boot=_read_text("/proc/sys/kernel/random/boot_id"),
            namespace=_read_link("/proc/self/ns/pid"),
            process=os.getpid(),
            process_started=_process_started(os.getpid()),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def state(self, last_commit: str = "") -> Literal["alive", "dead", "unknown"]:
        """Whether the owner still runs, as far as this process can see.

        ``last_commit`` is when the recording was last committed, ISO 8601, empty where unknown.
        """
        here = Holder.this_process()
        if (self.host, self.machine) != (here.host, here.machine):
            return "unknown"
        if self.boot != here.boot:
            # Machines made from one image may share name and number: one of them may write at this moment.
            moments = [moment for moment in (self.since, last_commit) if moment]
            return "dead" if all(map(_is_before_boot, moments)) else "unknown"
        if self.namespace != here.namespace:
            return "unknown"
        if (self.process, self.process_started) == (here.process, here.process_started):
            return "alive" if self.owner in held_owners else "dead"
        return _process_state(self.process, self.process_started)

    def describe(self) -> str:
        """Host, process and age, for people."""
        return f"process {self.process} on host {self.host}, since {self.since} ({age_text(self.since)})"


def _is_before_boot(moment: str) -> bool:
    """Whether a moment, ISO 8601, lies before this host was started; False where that is unknown."""
    try:
        return datetime.fromisoformat(moment).timestamp() < _booted()
    except (ValueError, OverflowError):
        return False


def _booted() -> float:
    """When this host was started, in seconds of Unix time; 0 where that is unknown."""
    found = re.search(r"^btime (\d+)$", _read_text("/proc/stat"), re.MULTILINE)
    return float(found[1]) if found else 0.0


def age_text(since: str) -> str:
    """How long ago a moment, ISO 8601, was."""
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
        return "unknown"  # os.kill would end the process there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return "dead"
    except (OSError, OverflowError):
        pass  # it runs under another user
    found = _process_started(process)
    return "dead" if started and found and found != started else "alive"


def _process_started(process: int) -> str:
    """Start of a process in clock ticks since boot (proc(5), field 22); empty where that is unknown.

    A zombie, which has ended and is only waited for, is given another one: it writes no more.
    """
    # The name of the program, in parentheses, may hold spaces and parentheses itself.
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
