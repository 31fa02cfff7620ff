"""The lock that gives each recording one writer: a small file in it that names the writer.

In folders, and in buckets that support conditional writes, the lock is created atomically: of two writers
that begin at once, one is refused. Other stores have no atomic creation. There a writer looks for a lock,
writes its own and reads it back, so that two writers that begin at once may both go on. The same can happen
outside folders when two writers take over the lock of the same dead one. In both cases the later one owns the
lock, and the other notices when it writes, because writes look at the lock (`recorder.tape.holding.fence`).

A process that was killed does not remove its lock. On the same host, the next writer can see that the process
is dead, and takes the lock over. The processes of another host cannot be seen; there the user has to say that
the writer is dead, with ``take_over=True``.
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
from recorder.tape.holding.fence import LOCK_KEY, FencedStore, read_holder
from recorder.tape.holding.finalizing import finish_now, finish_when_gone, wait_for_finished
from recorder.tape.holding.holder import Holder, age_text, held_owners

__all__ = ["LOCK_KEY", "WriterLock", "read_holder", "refuse_if_held"]

# Most time to wait for the lock of a writer of this process that was deleted, but not yet finalized.
_PATIENCE_SECONDS: Final = 60.0


class WriterLock:
    """The right of one writer to write to one recording; made by `acquire`.

    The right exists twice: as a file in the store, which names a `Holder` with a random owner, and as this
    object. `release` ends it and removes the file; this also happens when the object is deleted, or when the
    interpreter ends. `leave` ends it and keeps the file, as a kill does.

    A lock may be lost at any moment, to a writer that takes it over. So whoever holds it writes through
    `store`, which compares the file with this object, and writes nothing more once the lock is lost.

    Attributes
    ----------
    store : FencedStore
        The store as its holder writes to it.
    """

    def __init__(self, store: ByteStore, holder: Holder) -> None:
        self.store = FencedStore(store, holder)
        self._holder = holder
        held_owners.add(holder.owner)
        # Releases the lock also when this object is deleted, and when the interpreter ends.
        self._release = finish_when_gone(self, partial(_release, store, holder))

    @classmethod
    def acquire(cls, store: ByteStore, *, take_over: bool = False) -> WriterLock:
        """Take the lock of a recording, also from a writer that is known to be dead.

        Parameters
        ----------
        store : ByteStore
        take_over : bool
            Take the lock also from a writer that cannot be seen, as on another host. A writer that is known
            to run never loses its lock.

        Raises
        ------
        RecordingInUseError
            If another writer holds the lock, or may hold it.
        """
        holder = Holder.this_process()
        document = json.dumps(asdict(holder)).encode()
        with store.exclusively():
            takes_over = refuse_if_held(store, take_over=take_over)
            # The owner is noted in `held_owners` before the file exists. Otherwise another thread could take
            # the file for one left by a dead writer.
            lock = cls(store, holder)
            try:
                if takes_over:
                    # Deleted only if it was there then: a file that appears later is a new writer's lock.
                    store.delete(LOCK_KEY)
                is_taken = not store.write_new(LOCK_KEY, document)
                store.persist()
                if not is_taken:
                    lock.store.begin(takes_over=takes_over)
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
        """Check that this writer still holds the lock.

        Raises
        ------
        RecordingInUseError
            If the lock was taken over, or its file is gone or malformed.
        """
        self.store.check()

    def leave(self) -> None:
        """Give up the lock, but keep its file; the next writer takes it over."""
        self._release.detach()
        held_owners.discard(self._holder.owner)

    def release(self) -> None:
        """Give up the lock and remove its file; nothing happens if that was done before."""
        finish_now(self._release)


def refuse_if_held(store: ByteStore, *, take_over: bool = False) -> bool:
    """Raise RecordingInUseError if a writer holds the lock of a recording, or may hold it; see `acquire`.

    Returns
    -------
    bool
        True if there is a lock, which may be taken over; False if there is none.
    """
    hint = (
        "If that writer is gone, pass take_over=True, or delete the file "
        f"{LOCK_KEY} in the recording. If it is not, two writers would destroy what both record."
    )
    try:
        holder = read_holder(store)
    except RecordingFormatError as error:
        if take_over:
            return True
        raise RecordingInUseError(f"{store.location} may be in use: {error}. {hint}") from error
    if holder is None:
        return False
    last_commit = _last_commit(store)
    state = holder.state(last_commit)
    if state == "dead" or (state == "unknown" and take_over):
        return True
    if holder.owner in held_owners:
        wait_for_finished(_PATIENCE_SECONDS)
        if holder.owner not in held_owners:
            return True
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
        return  # this is a forked child, and the lock belongs to its parent
    # If the store cannot be reached, the lock file stays; the next writer finds that its owner is dead.
    with contextlib.suppress(OSError, RecordingFormatError):
        store.end_writer(holder.owner)
        found = read_holder(store)
        if found is not None and found.owner == holder.owner:
            store.delete(LOCK_KEY)


def _last_commit(store: ByteStore) -> str:
    """Time of the recording's last commit, ISO 8601; empty if it is unknown."""
    # Found by a search and not by parsing, because the commit record may be damaged.
    with contextlib.suppress(OSError, RecordingFormatError):
        document = store.read("zarr.json", 2**28) or b""
        found = re.search(rb'"committed": "([-0-9:.T+Z]{1,40})"', document)
        if found:
            return found[1].decode()
    return ""
