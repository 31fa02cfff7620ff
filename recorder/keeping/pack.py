"""Pack a closed recording for keeping: few files, consolidated metadata, and a digest to quote.

Stored chunks are checked and copied byte for byte into shards. Then everything is read back and checked, and
the digest is computed. The root document is written last, so that an interrupted packing leaves no recording.
When packing is started again it goes on: every shard that exists is complete, because stores write a key
whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from recorder.format import (
    RecordingExistsError,
    RecordingFormatError,
    RecordingInUseError,
    RecordingMetadata,
    RecordingUnfinishedError,
)
from recorder.format.chunks import checksum, stored_checksum
from recorder.format.documents import (
    encode_document,
    encode_root,
    expected_documents,
    plain_documents,
    root_document,
)
from recorder.format.layout import ROOT_DOCUMENT
from recorder.format.parsing.record import parse_document
from recorder.format.record.metadata import MAX_DOCUMENT_BYTES
from recorder.format.shards import SHARD_BYTES, decoded_bytes, plan_shards, shard_pieces
from recorder.keeping.digest import digest_recording
from recorder.stores import ByteStore, Folder, is_url, open_store
from recorder.stores.addresses import local_path
from recorder.stores.files.archive import write_archive
from recorder.stores.files.syncing import sync_file, sync_folder
from recorder.stores.read_ahead import read_ahead
from recorder.stores.redaction import shown_address
from recorder.tape import TapeReader
from recorder.tape.holding.lock import WriterLock
from recorder.tape.reading import as_recorded
from recorder.tape.tables import stored_limit

# Key of the document that says what is being packed. It is removed after the root document is written.
MARKER: Final = "packing.json"

Progress = Callable[[int, int], None]
FindDigest = Callable[[TapeReader], str]


def pack_recording(
    reader: TapeReader,
    destination: str,
    *,
    storage_options: dict[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda _done, _total: None,
    archiving: Progress = lambda _done, _total: None,
    find_digest: FindDigest = digest_recording,
) -> RecordingMetadata:
    """Pack a closed recording.

    Parameters
    ----------
    reader : TapeReader
        The recording to pack.
    destination : str
        A folder, a URL, or a file whose name ends in ``.zip``. Nothing may be there, except what an
        interrupted packing of the same recording has left; packing then goes on. Until a folder or file is
        finished, its data lie in a folder whose name has ``.partial`` appended. A zip archive temporarily
        needs room for two copies.
    storage_options : dict, optional
        Options for fsspec. Used for URLs only.
    shard_bytes : int
        Most decoded bytes in a shard.
    progress : callable
        Called as ``progress(done, total)`` after each shard, with numbers of chunks along the first axes.
    archiving : callable
        Likewise, while a zip archive is written, with numbers of bytes; first with none done.
    find_digest : callable
        Function that computes the digest of the packed recording, given a `TapeReader`.

    Returns
    -------
    RecordingMetadata
        Commit record of the packed recording.

    Raises
    ------
    RecordingUnfinishedError
        If the recording is not closed.
    RecordingExistsError
        If something else is at the destination.
    RecordingInUseError
        If somebody else is packing to that destination.
    RecordingFormatError
        If the recording is damaged. There is no recording at the destination then.
    StoreError, OSError
        If the destination cannot be written.
    """
    if is_url(destination) and not destination.startswith("file://"):
        if destination.partition("?")[0].endswith(".zip"):
            raise RecordingExistsError(
                f"{shown_address(destination)}: archives are made on a disk. Pack to a local .zip and "
                "upload that, or leave out .zip to have a packed recording in the bucket"
            )
        target = open_store(destination, read_only=False, storage_options=storage_options)
        return pack(reader, target, shard_bytes=shard_bytes, progress=progress, find_digest=find_digest)
    path = Path(os.path.abspath(local_path(destination)))
    _check_free(path)
    if path.is_relative_to(reader.store.location):
        raise RecordingExistsError(f"{path} lies inside the recording that is packed; choose another place")
    # Everything is made in this folder, which may hold data from an interrupted packing.
    work = path.with_name(f"{path.name}.partial")
    try:
        lock = WriterLock.acquire(Folder(work))
    except RecordingInUseError as error:
        raise RecordingInUseError(f"{path} is being packed by somebody else: {error}") from error
    try:
        _check_free(path)  # again, as another process may have finished before the lock was taken
        target = Folder(work / "recording")
        packed = pack(reader, target, shard_bytes=shard_bytes, progress=progress, find_digest=find_digest)
        if path.suffix.lower() == ".zip":
            write_archive(work / "recording", work / "archive", archiving)
            _rename(work / "archive", path)
            shutil.rmtree(work / "recording")
        else:
            _rename(work / "recording", path)
    finally:
        lock.release()
        with suppress(OSError):
            work.rmdir()  # fails, as it should, if the folder still holds data
    return packed


def _check_free(path: Path) -> None:
    if os.path.lexists(path):
        raise RecordingExistsError(f"{path} exists; nothing was touched. Choose another name.")


def pack(
    reader: TapeReader,
    target: ByteStore,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda _done, _total: None,
    find_digest: FindDigest = digest_recording,
) -> RecordingMetadata:
    """Pack into a store, where the root document is written last; parameters as in `pack_recording`."""
    metadata = reader.metadata
    if metadata.state != "closed":
        raise RecordingUnfinishedError(
            f"{reader.store.location} is still being recorded, or was interrupted; only closed recordings "
            f"are packed. Close it: `spiketape recover {reader.store.location} --apply`"
        )
    done_before = _find_packed(metadata, target, shard_bytes, find_digest)
    if done_before is not None:
        return done_before
    _mark(metadata, target, shard_bytes)
    packed = replace(metadata, shard_bytes=shard_bytes, digest="0" * 64)
    arrays = [
        (folder, decoded_bytes(document), plan_shards(document, shard_bytes))
        for folder, document in plain_documents(metadata).items()
        if document["node_type"] == "array"
    ]
    absent = {key for layer in reader.layers.values() for bits in layer.bits for key in bits.absent_keys()}
    absent |= {key for values in reader.series.values() for key in values.absent_keys()}
    done, total = 0, sum(plan.total_rows for _, _, plan in arrays)
    for folder, chunk_bytes, plan in arrays:
        for shard in range(plan.shards):
            key = plan.shard_key(folder, shard)
            if target.size_of(key) is None:
                keys = list(plan.chunk_keys(folder, shard))
                chunks = _checked_chunks(reader.store, keys, chunk_bytes, absent)
                target.write_pieces(key, shard_pieces(chunks, plan.slots))
            done += min(plan.rows, plan.total_rows - shard * plan.rows)
            progress(done, total)
    documents = expected_documents(packed)
    for folder, document in documents.items():
        target.write(f"{folder}/{ROOT_DOCUMENT}", encode_document(document))
    target.persist()
    packed = replace(packed, digest=_read_back(target, packed, find_digest))
    if not _write_root(target, encode_root(root_document(packed, documents), target.location)):
        # Somebody else was first: with this recording, or with another, which is an error.
        packed = _find_packed(metadata, target, shard_bytes, find_digest) or packed
    target.persist()
    target.delete(MARKER)
    target.persist()
    return packed


def _mark(metadata: RecordingMetadata, target: ByteStore, shard_bytes: int) -> None:
    """Write a marker that says what is being packed, or check that the marker there says the same."""
    mark = json.dumps(
        {
            "recording_id": metadata.recording_id,
            "commit_number": metadata.commit_number,
            "committed": metadata.committed,
            "shard_bytes": shard_bytes,
        }
    ).encode()
    found = target.read(MARKER, 2**12)
    if found is None and target.is_empty() and target.write_new(MARKER, mark):
        target.persist()
    elif target.read(MARKER, 2**12) != mark:
        raise RecordingExistsError(
            f"{target.location} holds something else than what packing this recording has left; nothing was "
            "touched. Remove it, or choose another name."
        )
    target.remove_leftovers()


def _read_back(target: ByteStore, packed: RecordingMetadata, find_digest: FindDigest) -> str:
    """Read back and check every byte that was packed; return the digest."""
    reader = TapeReader(as_recorded(target, packed), packed)
    for layer in reader.layers.values():
        for bits in layer.bits:
            bits.totals()
    return find_digest(reader)


def _write_root(target: ByteStore, document: bytes) -> bool:
    """Write the root document; False if there is one that somebody else has written."""
    if not isinstance(target, Folder):
        return target.write_new(ROOT_DOCUMENT, document)
    # Where files cannot be linked, a new file is not written at once; and nobody else packs to this folder.
    is_free = target.size_of(ROOT_DOCUMENT) is None
    if is_free:
        target.write(ROOT_DOCUMENT, document)
    return is_free


def _find_packed(
    metadata: RecordingMetadata, target: ByteStore, shard_bytes: int, find_digest: FindDigest
) -> RecordingMetadata | None:
    """Commit record at the target if it is this recording, packed; None if there is no root document yet.

    Raises RecordingExistsError if it is anything else, and RecordingFormatError if what is there is damaged
    or has another digest than it states.
    """
    document = target.read(ROOT_DOCUMENT, MAX_DOCUMENT_BYTES)
    if document is None:
        return None
    found = None
    with suppress(RecordingFormatError):
        found = parse_document(document, target.location)
    if found is None or found != replace(metadata, shard_bytes=shard_bytes, digest=found.digest):
        raise RecordingExistsError(f"{target.location} holds something already; choose another name")
    digest = _read_back(target, found, find_digest)
    if digest != found.digest:
        raise RecordingFormatError(
            f"{target.location} states the digest {found.digest}, and what it holds has {digest}: it was "
            "altered. Remove it, or choose another name"
        )
    target.delete(MARKER)
    return found


def _checked_chunks(
    store: ByteStore, keys: list[str], chunk_bytes: int, absent: Container[str]
) -> Iterator[bytes | None]:
    """Yield the stored bytes of each chunk, checked against their own checksum; None for absent chunks.

    Reading back compares the chunks with the commit.
    """
    kept = [key for key in keys if key not in absent]
    found = read_ahead(store, kept, stored_limit(chunk_bytes))
    for key in keys:
        if key in absent:
            yield None
            continue
        stored = next(found)()
        if stored is None:
            raise RecordingFormatError(f"{store.location}/{key} is missing; nothing was packed")
        if len(stored) <= 4 or checksum(stored[:-4]) != stored_checksum(stored):
            raise RecordingFormatError(
                f"{store.location}/{key} is damaged: its {len(stored)} bytes do not match their own crc32c"
            )
        yield stored


def _rename(made: Path, path: Path) -> None:
    """Rename the finished folder or file to ``path``, where nothing is; durable when this returns."""
    if made.is_file():
        sync_file(made)
    if os.path.lexists(path):
        raise RecordingExistsError(f"{path} has come to be meanwhile; what was packed is at {made}")
    made.rename(path)
    sync_folder(path.parent)
