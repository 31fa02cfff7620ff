"""One writer for each recording: a small file in it says who is writing.

The lock names its owner, host and process. In folders it is made in one step, whole or not at all, so that of
two writers who begin together one is refused; likewise in buckets that know conditional writes. Other stores
offer no such step: there it is looked for, written, and read again, and two writers that begin in the same
instant may both go on. So may two that take over the same dead one, but in folders. The later one owns it;
the other finds that out before its next commit, as every commit asks whether the lock is still its own.

A process that is gone cannot give its lock back. On the host that took it that can be seen, and whoever
resumes or overwrites the recording takes the lock over. What another host does cannot be seen: there somebody
has to say that the writer is gone, with ``take_over=True``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Literal

from recorder.format.errors import RecordingFormatError, RecordingInUseError
from recorder.format.finalizing import finish_now, finish_when_gone, wait_for_finished
from recorder.format.stores import ByteStore

LOCK_KEY: Final = "writer.lock"

_LIMIT_BYTES: Final = 4096

# How long a lock is waited for that a writer of this process, who is gone, is about to give back.
_PATIENCE_SECONDS: Final = 60.0
# Owners in this very process: a lock that names the process, but none of them, was left behind.
_held: set[str] = set()


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
            return "alive" if self.owner in _held else "dead"
        return _process_state(self.process, self.process_started)

    def describe(self) -> str:
        """Host, process and age, for people."""
        return f"process {self.process} on host {self.host}, since {self.since} ({_age(self.since)})"


class WriterLock:
    """The lock of one writer, until it is released, or the writer is gone; made by `acquire`."""

    def __init__(self, store: ByteStore, holder: Holder) -> None:
        self._store = store
        self._holder = holder
        _held.add(holder.owner)
        # Also when a writer is forgotten, and at the interpreter's exit.
        self._release = finish_when_gone(self, partial(_release, store, holder))

    @classmethod
    def acquire(cls, store: ByteStore, *, take_over: bool = False) -> WriterLock:
        """Take the lock of a recording; that of a writer seen to be dead is taken over.

        Parameters
        ----------
        store : ByteStore
        take_over : bool
            Take it over too where the writer cannot be seen, as on another host. One that is seen to run
            never loses it.

        Raises
        ------
        RecordingInUseError
            If another writer has it, or may have.
        """
        holder = Holder.this_process()
        document = json.dumps(asdict(holder)).encode()
        with store.exclusively():
            refuse_if_held(store, take_over=take_over)
            # Known as held before it can be seen: another thread would take it for one left behind.
            lock = cls(store, holder)
            try:
                if store.size_of(LOCK_KEY) is not None:
                    # Only then: it might be that of somebody who began just now.
                    store.delete(LOCK_KEY)
                is_taken = not store.write_new(LOCK_KEY, document)
                store.persist()
            except BaseException:
                lock.release()
                raise
        if is_taken:
            lock.release()
            raise RecordingInUseError(f"{store.location} has just been taken by another writer")
        return lock

    def check(self) -> None:
        """Make sure that the recording still belongs to this writer.

        Raises
        ------
        RecordingInUseError
            If it was taken over, or the lock is gone.
        """
        try:
            holder = read_holder(self._store)
        except RecordingFormatError:
            holder = None
        if holder is None or holder.owner != self._holder.owner:
            now = "is gone" if holder is None else f"belongs to {holder.describe()}"
            raise RecordingInUseError(
                f"{self._store.location}: the lock {LOCK_KEY} of this writer {now}; the recording was moved, "
                "removed or taken over meanwhile, and nothing more is written to it"
            )

    def leave(self) -> None:
        """Let others write who take the lock over; the file stays."""
        self._release.detach()
        _held.discard(self._holder.owner)

    def release(self) -> None:
        """Let others write; nothing happens if that was done before."""
        finish_now(self._release)


def read_holder(store: ByteStore) -> Holder | None:
    """Who holds the lock of a recording, None if nobody does.

    Raises
    ------
    RecordingFormatError
        If the lock cannot be understood.
    """
    document = store.read(LOCK_KEY, _LIMIT_BYTES)
    if document is None:
        return None
    try:
        fields = json.loads(document)
        holder = Holder(**fields)
    except (ValueError, TypeError, RecursionError) as error:
        raise RecordingFormatError(f"{store.location}/{LOCK_KEY} cannot be understood: {error}") from error
    expected = {name: int if name == "process" else str for name in fields}
    if {name: type(value) for name, value in fields.items()} != expected or holder.process < 1:
        raise RecordingFormatError(f"{store.location}/{LOCK_KEY} cannot be understood: {fields}")
    return holder


def refuse_if_held(store: ByteStore, *, take_over: bool = False) -> None:
    """Raise RecordingInUseError if a writer holds the lock of a recording, or may hold it; see `acquire`."""
    hint = (
        "If that writer is gone, pass take_over=True, or delete the file "
        f"{LOCK_KEY} in the recording. If it is not, two writers would destroy what both record."
    )
    try:
        holder = read_holder(store)
    except RecordingFormatError as error:
        if take_over:
            return
        raise RecordingInUseError(f"{store.location} may be in use: {error}. {hint}") from error
    if holder is None:
        return
    last_commit = _last_commit(store)
    state = holder.state(last_commit)
    if state == "dead" or (state == "unknown" and take_over):
        return
    if holder.owner in _held:
        wait_for_finished(_PATIENCE_SECONDS)
        if holder.owner not in _held:
            return
    committed = f", last commit {_age(last_commit)}" if last_commit else ""
    what = f"{store.location} is being recorded by {holder.describe()}{committed}"
    if state == "alive":
        raise RecordingInUseError(
            f"{what}, which runs. One recording has one writer: close that one, or record into another store."
        )
    raise RecordingInUseError(f"{what}, and cannot be seen from this host or container. {hint}")


def _release(store: ByteStore, holder: Holder) -> None:
    _held.discard(holder.owner)
    if holder.process != os.getpid():
        return  # a forked child, which never owned it
    # Where the store has become unreachable the lock stays, and is seen to be left behind.
    with contextlib.suppress(OSError, RecordingFormatError):
        found = read_holder(store)
        if found is not None and found.owner == holder.owner:
            store.delete(LOCK_KEY)


def _last_commit(store: ByteStore) -> str:
    """When the recording was last committed, ISO 8601; empty where that is unknown."""
    # Not parsed, as the record may be damaged.
    with contextlib.suppress(OSError, RecordingFormatError):
        document = store.read("zarr.json", 2**28) or b""
        found = re.search(rb'"committed": "([-0-9:.T+Z]{1,40})"', document)
        if found:
            return found[1].decode()
    return ""


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


def _age(since: str) -> str:
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
