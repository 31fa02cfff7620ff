"""Rewrite a closed recording for keeping: few files, consolidated metadata, and a digest to quote.

Stored chunks are copied byte for byte, each checked on the way; they are never decoded to be encoded again.
The root document comes last. Until then what is there is no recording, and packing again goes on with it:
shards that are there are whole, as stores write a key whole or not at all. Before the root is written
everything is read back, for the digest.
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
from recorder.format.documents import expected_documents, plain_documents, root_document
from recorder.format.layout import ROOT_DOCUMENT
from recorder.format.metadata import MAX_DOCUMENT_BYTES
from recorder.format.parsing import parse_document
from recorder.format.shards import SHARD_BYTES, decoded_bytes, plan_shards, shard_pieces
from recorder.keeping.digest import digest_recording
from recorder.stores import ByteStore, Folder, is_url, open_store
from recorder.stores.archive import write_archive
from recorder.stores.folder import sync_file, sync_folder
from recorder.stores.opening import local_path
from recorder.stores.read_ahead import read_ahead
from recorder.stores.redaction import without_secrets
from recorder.tape import TapeReader
from recorder.tape.lock import WriterLock
from recorder.tape.reading import as_recorded
from recorder.tape.tables import encode_document, stored_limit

# Says what is being packed, and is removed before the root document is written.
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
    find_digest: FindDigest = digest_recording,
) -> RecordingMetadata:
    """Pack a closed recording.

    Parameters
    ----------
    reader : TapeReader
    destination : str
        A folder, a URL, or a file whose name ends in ``.zip``. Nothing must be there, but for what packing
        the same recording has left that was cut short: it goes on there. Folders and files get their name at
        the end; meanwhile there is a folder of the same name with ``.partial`` behind it. A zip archive needs
        room for the recording twice.
    storage_options : dict, optional
        For a URL, passed to fsspec.
    shard_bytes : int
        Decoded bytes in a shard, at most.
    progress : callable
        Called with the number of chunks done, and of all.
    find_digest : callable
        Computes the digest, see `recorder.keeping.digest`.

    Returns
    -------
    RecordingMetadata
        Of the packed recording.

    Raises
    ------
    RecordingUnfinishedError
        If the recording is not closed.
    RecordingExistsError
        If something else is at the destination.
    RecordingInUseError
        If somebody else is packing to that destination.
    RecordingFormatError
        If the recording is damaged; nothing is then at the destination under its name.
    StoreError, OSError
        If the destination cannot be written.
    """
    if is_url(destination) and not destination.startswith("file://"):
        if destination.partition("?")[0].endswith(".zip"):
            raise RecordingExistsError(
                f"{without_secrets(destination)}: archives are made on a disk. Pack to a local .zip and "
                "upload that, or leave out .zip to have a packed recording in the bucket"
            )
        target = open_store(destination, read_only=False, storage_options=storage_options)
        return pack(reader, target, shard_bytes=shard_bytes, progress=progress, find_digest=find_digest)
    path = Path(os.path.abspath(local_path(destination)))
    _check_free(path)
    if path.is_relative_to(reader.store.location):
        raise RecordingExistsError(f"{path} lies inside the recording that is packed; choose another place")
    # All that is made on the way has this name; what is there already from another try is gone on with.
    work = path.with_name(f"{path.name}.partial")
    try:
        lock = WriterLock.acquire(Folder(work))
    except RecordingInUseError as error:
        raise RecordingInUseError(f"{path} is being packed by somebody else: {error}") from error
    try:
        _check_free(path)  # somebody may have finished meanwhile
        target = Folder(work / "recording")
        packed = pack(reader, target, shard_bytes=shard_bytes, progress=progress, find_digest=find_digest)
        if path.suffix.lower() == ".zip":
            write_archive(work / "recording", work / "archive")
            _rename(work / "archive", path)
            shutil.rmtree(work / "recording")
        else:
            _rename(work / "recording", path)
    finally:
        lock.release()
        with suppress(OSError):
            work.rmdir()  # unless there is something left to go on with, or somebody else's
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
    """Pack into a store, in which the root document is the last to be written; see `pack_recording`."""
    metadata = reader.metadata
    if metadata.state != "closed":
        raise RecordingUnfinishedError(
            f"{reader.store.location} is still being recorded, or was interrupted; only closed recordings "
            f"are packed. Close it: `spiketape recover {reader.store.location} --apply`"
        )
    done_before = _find_packed(metadata, target, shard_bytes)
    if done_before is not None:
        return done_before
    _mark(metadata, target, shard_bytes)
    packed = replace(metadata, shard_bytes=shard_bytes, digest="0" * 64)
    arrays = [
        (folder, decoded_bytes(document), plan_shards(document, shard_bytes))
        for folder, document in plain_documents(metadata).items()
        if document["node_type"] == "array"
    ]
    lost = {key for layer in reader.layers.values() for key in layer.lost_keys()}
    done, total = 0, sum(plan.total_rows for _, _, plan in arrays)
    for folder, chunk_bytes, plan in arrays:
        for shard in range(plan.shards):
            key = plan.shard_key(folder, shard)
            if target.size_of(key) is None:
                keys = list(plan.chunk_keys(folder, shard))
                chunks = _checked_chunks(reader.store, keys, chunk_bytes, lost)
                target.write_pieces(key, shard_pieces(chunks, plan.slots))
            done += min(plan.rows, plan.total_rows - shard * plan.rows)
            progress(done, total)
    documents = expected_documents(packed)
    for folder, document in documents.items():
        target.write(f"{folder}/{ROOT_DOCUMENT}", encode_document(document))
    target.persist()
    packed = replace(packed, digest=_read_back(target, packed, find_digest))
    target.write(ROOT_DOCUMENT, encode_document(root_document(packed, documents)))
    target.persist()
    target.delete(MARKER)
    target.persist()
    return packed


def _mark(metadata: RecordingMetadata, target: ByteStore, shard_bytes: int) -> None:
    """Note in the target what is packed there, or see that it is the same as before."""
    mark = json.dumps(
        {
            "recording_id": metadata.recording_id,
            "commit_number": metadata.commit_number,
            "committed": metadata.committed,
            "shard_bytes": shard_bytes,
        }
    ).encode()
    found = target.read(MARKER, 2**12)
    if found is None and target.is_empty():
        target.write(MARKER, mark)
        target.persist()
    elif found != mark:
        raise RecordingExistsError(
            f"{target.location} holds something else than what packing this recording has left; nothing was "
            "touched. Remove it, or choose another name."
        )
    target.remove_leftovers()


def _read_back(target: ByteStore, packed: RecordingMetadata, find_digest: FindDigest) -> str:
    """The digest of what was packed; every byte is read, and found to be the one that the commit names."""
    reader = TapeReader(as_recorded(target, packed), packed)
    for layer in reader.layers.values():
        layer.sum_counts(0, layer.commit.counts_checksums.rows)
    return find_digest(reader)


def _find_packed(
    metadata: RecordingMetadata, target: ByteStore, shard_bytes: int
) -> RecordingMetadata | None:
    """What stands at the target, if it is this recording packed; None if it is unfinished, or nothing."""
    document = target.read(ROOT_DOCUMENT, MAX_DOCUMENT_BYTES)
    if document is None:
        return None
    with suppress(RecordingFormatError):
        found = parse_document(document, target.location)
        if found == replace(metadata, shard_bytes=shard_bytes, digest=found.digest):
            target.delete(MARKER)
            return found
    raise RecordingExistsError(f"{target.location} holds something already; choose another name")


def _checked_chunks(
    store: ByteStore, keys: list[str], chunk_bytes: int, lost: Container[str]
) -> Iterator[bytes | None]:
    """Stored chunks, each found to match its own checksum; None for those of lost frames.

    That it is the one that the commit names is seen when all is read back.
    """
    kept = [key for key in keys if key not in lost]
    found = read_ahead(store, kept, stored_limit(chunk_bytes))
    for key in keys:
        if key in lost:
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
    """Give what was made its name, which nothing has; durable when this returns."""
    if made.is_file():
        sync_file(made)
    if os.path.lexists(path):
        raise RecordingExistsError(f"{path} has come to be meanwhile; what was packed is at {made}")
    made.rename(path)
    sync_folder(path.parent)
