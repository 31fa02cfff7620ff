"""Check that a new recording may begin at a store, replaces nothing but a recording, and can be written."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from recorder.format import (
    RecordingExistsError,
    RecordingFormatError,
    RecordingInUseError,
    RecordingWriteError,
)
from recorder.format.layout import (
    ATTRIBUTE,
    CATEGORIES,
    GROUPS,
    ROOT_DOCUMENT,
)
from recorder.format.record.metadata import MAX_DOCUMENT_BYTES, MAX_NAME_LENGTH
from recorder.stores import ByteStore
from recorder.stores.files.folder import PARTIAL, WRITING
from recorder.stores.redaction import without_secrets
from recorder.tape.holding.lock import LOCK_KEY, WriterLock, refuse_if_held


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


def check_names(layers: Iterable[str]) -> None:
    """Raise ValueError for names of layers that no recording can hold."""
    for name in layers:
        if len(name) > MAX_NAME_LENGTH:
            raise ValueError(
                f"the name of layer '{name[:40]}…' has {len(name)} characters, a recording holds at most "
                f"{MAX_NAME_LENGTH}. Give the modules that it lies in shorter names, or leave it out with "
                "layers="
            )
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"the name of layer {name!r} holds half a character (a surrogate), which cannot be stored. "
                "Give the module another name, or leave it out with layers="
            ) from None


@contextmanager
def write_errors(store: ByteStore) -> Iterator[None]:
    """Say of which store an error of the operating system is, and what to do."""
    try:
        yield
    except (RecordingExistsError, RecordingInUseError, RecordingFormatError):
        raise
    except OSError as error:
        raise RecordingWriteError(
            f"cannot record to {store.location}: {without_secrets(error)}. Make it writable, or choose "
            "another store"
        ) from error
