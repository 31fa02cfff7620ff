"""Check every byte that a commit promises, and list everything that is wrong.

Reading raises at the first damage. Verification goes on after it, and returns all damage as a list of
`Problem`. The functions can run inside Dask tasks, one range of blocks in each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format import LayerCommit, RecordingFormatError, RecordingMetadata
from recorder.format.arrays import group_document
from recorder.format.bits import Packed, count_per_neuron
from recorder.format.documents import expected_documents
from recorder.format.layout import ATTRIBUTE, ROOT_DOCUMENT
from recorder.format.record.metadata import MAX_DOCUMENT_BYTES
from recorder.stores import ByteStore
from recorder.stores.files.archive import Archive
from recorder.stores.links import LinkedStore
from recorder.stores.sharded import ShardedStore
from recorder.tape import LayerReader, TapeReader
from recorder.tape.layers.counts_reading import CountsReader
from recorder.tape.layers.signal_reading import SignalReader
from recorder.tape.tables import rows_checksum


@dataclass(frozen=True)
class Problem:
    """A difference between a recording and what its commit promises.

    Attributes
    ----------
    what : str
        Description for people, which names the file.
    layer : str or None
        Name of the layer concerned; None if it is no single layer.
    frame, last_frame : int or None
        Range of frames that cannot be trusted, ``last_frame`` exclusive; None if no frames are affected, or
        if it is unknown which.
    is_redundant : bool
        True if the damaged data can be computed again from other data, without loss.
    signal : str or None
        Name of the signal of the layer whose frames these are, or ``"operations"`` where there is no layer;
        None if they are those of its spikes.
    """

    what: str
    layer: str | None = None
    frame: int | None = None
    last_frame: int | None = None
    is_redundant: bool = False
    signal: str | None = None

    def __str__(self) -> str:
        return self.what


def check_documents(reader: TapeReader) -> list[Problem]:
    """Check the table of trials, and the Zarr documents, which readers other than ours rely on."""
    problems: list[Problem] = []
    location, metadata = reader.store.location, reader.metadata
    found = _read_document(reader, ROOT_DOCUMENT, problems)
    if found is not None:
        root = {**found, "attributes": {ATTRIBUTE: None}}
        consolidated = root.pop("consolidated_metadata", None)
        if root != group_document({ATTRIBUTE: None}):
            problems.append(Problem(f"{location}/{ROOT_DOCUMENT} does not describe a group as it should"))
        problems += _check_consolidated(consolidated, metadata, location)
    for folder, expected in expected_documents(metadata).items():
        key = f"{folder}/{ROOT_DOCUMENT}"
        document = _read_document(reader, key, problems)
        if document is not None and not _agrees(document, expected, metadata.state == "recording"):
            problems.append(Problem(f"{location}/{key} does not describe what the commit names: {document}"))
    redundant = [replace(problem, is_redundant=True) for problem in problems]
    return [*redundant, *_failures(reader.trials), *_check_archive(reader.store)]


def _check_archive(store: ByteStore) -> list[Problem]:
    """Check the structure of a zip archive, if the recording lies in one, which zip programs rely on."""
    archive = store.inner if isinstance(store, ShardedStore) else store
    archive = archive.found if isinstance(archive, LinkedStore) else archive
    damage = archive.find_damage() if isinstance(archive, Archive) else None
    return [] if damage is None else [Problem(f"{archive.location}: {damage}")]


def check_tables(layer: LayerReader, trials: int) -> list[Problem]:
    """Check the segments and checksums of a layer; ``trials`` is the number of trials in the commit."""
    problems = [
        *_failures(layer.kept_segments),
        *_failures(layer.checksums),
        *_failures(layer.counts_checksums),
    ]
    return problems or _check_trials(layer, trials)


def check_signal_tables(signal: SignalReader, trials: int) -> list[Problem]:
    """Check the segments and checksums of a signal, as `check_tables` does those of a layer."""
    problems = [*_failures(signal.kept_segments), *_failures(signal.checksums)]
    return problems or _check_trials(signal, trials)


def _check_trials(part: LayerReader | SignalReader, trials: int) -> list[Problem]:
    segments = part.segments()
    if len(segments) == 0 or segments.trial.max() < trials:
        return []
    named = f"{part.store.location}/{part.folder}/segments names trial {segments.trial.max()}"
    return [Problem(f"{named}, but {trials} trials were begun")]


def check_signal_chunks(signal: SignalReader, first: int, last: int) -> list[Problem]:
    """Check the chunks ``first`` to ``last`` (exclusive) of a signal.

    Each must be the one that the commit names, decode to the right length, and hold 0 in its padding. Chunks
    all of whose frames are lost are left out.
    """
    plan, problems = signal.plan, []
    places = [
        (chunk, part)
        for chunk in range(first, last)
        if not signal.is_lost(chunk)
        for part in range(plan.parts)
    ]
    for (chunk, part), read in zip(places, signal.stored_parts(places), strict=True):
        try:
            _check_values(signal, chunk, part, read())
        except (RecordingFormatError, OSError) as error:
            begin = chunk * plan.chunk_frames
            end = min(begin + plan.chunk_frames, signal.frames)
            problems.append(Problem(str(error), signal.layer, begin, end, signal=signal.name))
    return problems


def _check_values(signal: SignalReader, chunk: int, part: int, values: NDArray[Any]) -> None:
    """Raise RecordingFormatError if stored values are not those of the commit, or their padding is not 0."""
    plan = signal.plan
    neurons = plan.part_slice(part)
    behind = signal.frames - chunk * plan.chunk_frames
    is_finished_tail = signal.commit.checksums.rows == signal.chunks and behind < plan.chunk_frames
    # As bytes, of which NaN has some, and -0.0 has one.
    if values[neurons.stop - neurons.start :].tobytes().strip(b"\0"):
        raise signal.chunk_error(chunk, part, "holds values of neurons that the signal does not have")
    if is_finished_tail and values[:, behind:].tobytes().strip(b"\0"):
        raise signal.chunk_error(chunk, part, "holds values behind its last frame")
    signal.committed_part(chunk, part, values)


def check_blocks(layer: LayerReader, first: int, last: int) -> list[Problem]:
    """Check the chunks of blocks ``first`` to ``last`` (exclusive) of a layer, and their counts.

    Each chunk must be the one that the commit names, decode to the right length, and be silent in its
    padding; ``counts`` must have the number of spikes of each neuron. The last block may be partial. Chunks
    all of whose frames are lost are left out, and so are counts of blocks with lost frames. Of a layer of
    counts, blocks are segments.
    """
    if isinstance(layer, CountsReader):
        return _check_rows(layer, first, last)
    plan = layer.plan
    problems: list[Problem] = []
    chunks_of = {block: _kept_chunks(layer, block) for block in range(first, last)}
    places = product(chain.from_iterable(chunks_of.values()), range(plan.parts))
    reads = layer.stored_parts(places, to_the_end=True)
    for block, chunks in chunks_of.items():
        # Spikes of each neuron in the block; None if a chunk of it is damaged.
        spikes: NDArray[np.int64] | None = np.zeros(plan.neurons, np.int64)
        for chunk, part in product(chunks, range(plan.parts)):
            try:
                counted = _count_part(layer, chunk, part, next(reads)())
            except (RecordingFormatError, OSError) as error:
                first_frame = chunk * plan.chunk_frames
                last_frame = min(first_frame + plan.chunk_frames, layer.frames)
                problems.append(Problem(str(error), layer.name, first_frame, last_frame))
                spikes = None
            else:
                if spikes is not None:
                    spikes[plan.part_slice(part)] += counted
        if block < layer.commit.counts_checksums.rows:
            problems += _check_block(layer, block, None if layer.has_lost_frames(block) else spikes)
    return problems


def _check_rows(layer: CountsReader, first: int, last: int) -> list[Problem]:
    """Check the counts of the segments ``first`` to ``last`` (exclusive) of a layer that has no bits."""

    def check(begin: int, end: int) -> list[Problem]:
        return _failures(lambda: [*layer.kept_rows(range(begin, end))])

    if _failures(layer.kept_segments) or _failures(layer.counts_checksums) or not check(first, last):
        return []  # tables are checked by themselves
    segments, problems = layer.segments(), []
    for segment in range(first, last):
        frames = int(segments.first_frame[segment]), int(segments.last_frame[segment])
        problems += [Problem(p.what, layer.name, *frames) for p in check(segment, segment + 1)]
    return problems


def _kept_chunks(layer: LayerReader, block: int) -> list[int]:
    """Numbers of the chunks of a block, without chunks all of whose frames are marked lost."""
    first = block * layer.plan.block_chunks
    last = min(first + layer.plan.block_chunks, layer.plan.chunk_count(layer.frames))
    return [chunk for chunk in range(first, last) if not layer.is_lost(chunk)]


def _check_block(layer: LayerReader, block: int, spikes: NDArray[np.int64] | None) -> list[Problem]:
    """Check the counts of a block against its ``spikes``, [neurons]; None if these are not known."""
    found = _failures(partial(_check_counts, layer, block, spikes))
    # Counts are redundant if the commit names the counts of these spikes, as they can be written again. They
    # are also redundant if ``spikes`` is None: frames of the block are damaged or lost, so that recovery
    # leaves its counts unused.
    if spikes is None or not _failures(partial(_check_name, layer, block, spikes)):
        return [Problem(p.what, layer.name, is_redundant=True) for p in found]
    first_frame = block * layer.plan.block_frames
    last_frame = min(first_frame + layer.plan.block_frames, layer.frames)
    return [Problem(p.what, layer.name, first_frame, last_frame) for p in found]


def count_blocks(commit: LayerCommit) -> int:
    """Number of blocks, as in `check_blocks`, that the frames of a layer lie in; a partial one counts."""
    if commit.counts_only:
        return commit.segments.rows
    return -(-commit.frames // commit.plan.block_frames)


def _count_part(layer: LayerReader, chunk: int, part: int, trains: Packed) -> NDArray[np.int64]:
    """Check one part of a chunk, given its stored trains; return the number of spikes of each neuron.

    Raises RecordingFormatError if it is not the part that the commit names, or its padding is not silent.
    """
    plan = layer.plan
    neurons = plan.part_slice(part)
    committed = layer.committed_part(chunk, part, trains)
    if trains[neurons.stop - neurons.start :].any():
        raise layer.chunk_error(chunk, part, "holds spikes of neurons that the layer does not have")
    # While recording goes on, the last chunk may hold frames after the committed ones.
    is_finished_tail = layer.commit.checksums.rows == plan.chunk_count(layer.frames)
    behind = layer.frames - chunk * plan.chunk_frames
    if is_finished_tail and behind < plan.chunk_frames:
        bits = np.unpackbits(trains[:, behind // 8 :], axis=1)[:, behind % 8 :]
        if bits.any():
            raise layer.chunk_error(chunk, part, "holds spikes behind its last frame")
    return count_per_neuron(committed)


def _check_counts(layer: LayerReader, block: int, spikes: NDArray[np.int64] | None) -> None:
    """Raise RecordingFormatError unless a row of counts is the one named, and equals ``spikes``."""
    stored = layer.counts(block, block + 1).reshape(-1)
    if spikes is not None and not np.array_equal(stored, spikes):
        neuron = int(np.argmax(stored != spikes))
        raise RecordingFormatError(
            f"{layer.store.location}/{layer.tables.counts.folder}: block {block} of layer {layer.name!r} has "
            f"{stored[neuron]} spikes of neuron {neuron} (in C order), but its chunks have {spikes[neuron]}; "
            f"{np.count_nonzero(stored != spikes)} neurons differ"
        )


def _check_name(layer: LayerReader, block: int, spikes: NDArray[np.int64]) -> None:
    """Raise RecordingFormatError unless the checksum that the commit names is that of ``spikes``."""
    if rows_checksum(spikes.astype(np.uint32)) != layer.counts_checksums()[block]:
        raise RecordingFormatError(f"block {block} has other spikes than were counted")


def _check_consolidated(consolidated: Any, metadata: RecordingMetadata, location: str) -> Iterator[Problem]:
    where = f"{location}/{ROOT_DOCUMENT}: its consolidated metadata"
    if metadata.state == "recording":
        if consolidated is not None:
            yield Problem(f"{where} should not be there while recording")
    elif not isinstance(consolidated, dict) or consolidated.get("metadata") != expected_documents(metadata):
        yield Problem(f"{where} does not describe what the commit names")


def _agrees(document: dict[str, Any], expected: dict[str, Any], may_be_longer: bool) -> bool:
    if document == expected:
        return True
    shape = document.get("shape")
    if not (may_be_longer and "shape" in expected and isinstance(shape, list) and shape):
        return False
    if not isinstance(shape[0], int):
        return False
    # A longer shape was written for the next commit, whose record is not written yet.
    rows = max(shape[0], expected["shape"][0])
    return document == {**expected, "shape": [rows, *expected["shape"][1:]]}


def _read_document(reader: TapeReader, key: str, problems: list[Problem]) -> dict[str, Any] | None:
    place = f"{reader.store.location}/{key}"
    try:
        stored = reader.store.read(key, MAX_DOCUMENT_BYTES)
        document = None if stored is None else json.loads(stored)
    except (ValueError, RecursionError) as error:
        problems.append(Problem(f"{place} cannot be read: {error}"))
        return None
    if not isinstance(document, dict):
        problems.append(Problem(f"{place} is {'missing' if stored is None else 'no JSON object'}"))
        return None
    return document


def _failures(check: Callable[[], object]) -> list[Problem]:
    try:
        check()
    except (RecordingFormatError, OSError) as error:
        return [Problem(str(error))]
    return []
