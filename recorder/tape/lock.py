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
from dataclasses import asdict
from functools import partial
from typing import Final

from recorder.format import RecordingFormatError, RecordingInUseError
from recorder.stores import ByteStore
from recorder.tape.finalizing import finish_now, finish_when_gone, wait_for_finished
from recorder.tape.holder import Holder, age_text, held_owners

LOCK_KEY: Final = "writer.lock"

_LIMIT_BYTES: Final = 4096

# How long a lock is waited for that a writer of this process, who is gone, is about to give back.
_PATIENCE_SECONDS: Final = 60.0


class WriterLock:
    """The lock of one writer, until it is released, or the writer is gone; made by `acquire`."""

    def __init__(self, store: ByteStore, holder: Holder) -> None:
        self._store = store
        self._holder = holder
        held_owners.add(holder.owner)
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

    @property
    def owner(self) -> str:
        """Random, of this one writer."""
        return self._holder.owner

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
        held_owners.discard(self._holder.owner)

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
    if holder.owner in held_owners:
        wait_for_finished(_PATIENCE_SECONDS)
        if holder.owner not in held_owners:
            return
    committed = f", last commit {age_text(last_commit)}" if last_commit else ""
    what = f"{store.location} is being recorded by {holder.describe()}{committed}"
    if state == "alive":
        raise RecordingInUseError(
            f"{what}, which runs. One recording has one writer: close that one, or record into another store."
        )
    raise RecordingInUseError(f"{what}, and cannot be seen from this host or container. {hint}")


def _release(store: ByteStore, holder: Holder) -> None:
    held_owners.discard(holder.owner)
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
