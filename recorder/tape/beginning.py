"""Check that a new recording may begin at a store, and replaces nothing but a recording."""

from __future__ import annotations

import itertools
import json

from recorder.format import RecordingExistsError
from recorder.format.layout import (
    ATTRIBUTE,
    CATEGORIES,
    GROUPS,
    ROOT_DOCUMENT,
)
from recorder.format.metadata import MAX_DOCUMENT_BYTES
from recorder.stores import ByteStore
from recorder.stores.folder import PARTIAL, WRITING
from recorder.tape.lock import LOCK_KEY, WriterLock, refuse_if_held


def is_unbegun(store: ByteStore) -> bool:
    """True if the store is empty, or holds only leftovers of a writer killed before its first commit."""
    begun_with = {LOCK_KEY, *(f"{group}/{ROOT_DOCUMENT}" for group in GROUPS)}
    keys = store.keys()
    first = next(keys, None)
    # Not as a list, because a recording that has lost its root document may have millions of keys.
    for key in itertools.chain([first] if first else [], keys):
        target = PARTIAL.sub("", key)
        if WRITING.match(key):
            continue
        if target not in begun_with and (target == key or target != ROOT_DOCUMENT):
            return False
    return first is not None or store.is_empty()


def check_room(store: ByteStore, overwrite: bool, take_over: bool, own: WriterLock | None = None) -> None:
    """Raise unless a new recording may begin at the store; errors as in `TapeWriter.create`.

    ``own`` is the lock of the caller, who may hold it already.
    """
    if store.is_empty():
        return
    if own is None:
        refuse_if_held(store, take_over=take_over)
    if is_unbegun(store):
        return
    if not (_has_record(store) or (overwrite and _is_what_is_left(store))):
        raise RecordingExistsError(
            f"{store.location} exists and is not a recording; nothing was touched. Choose another store."
        )
    if not overwrite:
        raise RecordingExistsError(
            f"{store.location} already holds a recording. Pass resume=True to go on with it, overwrite=True "
            "to replace it, or choose another store."
        )


def _is_what_is_left(store: ByteStore) -> bool:
    """True if the store holds only a lock and arrays: an interrupted ``overwrite`` removed the root first."""
    ours = (LOCK_KEY, *(f"{group}/" for group in (*GROUPS, CATEGORIES)))
    keys = iter(store.keys())
    return store.read(LOCK_KEY, MAX_DOCUMENT_BYTES) is not None and all(
        key.startswith(ours) or WRITING.match(key) for key in keys
    )


def _has_record(store: ByteStore) -> bool:
    """True if the root document has a commit record, be it sound or damaged."""
    try:
        document = store.read(ROOT_DOCUMENT, MAX_DOCUMENT_BYTES)
        root = json.loads(document or b"null")
    except (ValueError, RecursionError):
        return False
    attributes = root.get("attributes") if isinstance(root, dict) else None
    return isinstance(attributes, dict) and ATTRIBUTE in attributes
