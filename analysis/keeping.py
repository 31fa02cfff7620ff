"""Check a whole recording on whatever scheduler is active: threads, or a `dask.distributed` cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from dask.base import compute
from dask.delayed import delayed

from recorder.keeping import Problem
from recorder.keeping.digest import (
    hash_leaves,
    hash_signal_leaves,
    join_digest,
    join_recordings,
    leaf_bytes,
    leaf_count,
    signal_leaf_count,
    signal_leaf_frames,
)
from recorder.keeping.verification import (
    check_blocks,
    check_documents,
    check_signal_chunks,
    check_signal_tables,
    check_tables,
    count_blocks,
)
from recorder.tape import LayerReader, TapeReader
from recorder.tape.layers.signal_reading import SignalReader
from recorder.tape.reading import Which
from spiketape_worker import Parcel

TASK_BYTES: Final = 64 * 2**20

Key = TypeVar("Key")


class Kept:
    """The part of a recording that tells how it is kept."""

    _readers: Sequence[TapeReader]

    def stored_bytes(self) -> int:
        """Bytes that the recording takes in its store; asks about every file, which may take a while."""
        return sum(reader.store.size("") for reader in self._readers)

    def digest(self) -> str:
        """SHA-256 over all that was recorded, to quote: 64 hexadecimal digits, the same for every form of it.

        As recorded, packed, zipped or in a bucket. Several recordings that are opened as one have a digest
        together, of theirs in their order. Names and shapes of layers, spikes, steps, samples,
        trials and labels enter it, whatever is selected; provenance and the way of storing do not. Reads
        every chunk; computed at once, on the active Dask scheduler. FORMAT.md defines it.

        Raises
        ------
        RecordingFormatError
            If something is missing or damaged; it names file, layer and frames.
        """
        return find_digest(self._readers)


def find_problems(
    reader: TapeReader, run: Callable[..., tuple[list[Problem], ...]] = compute
) -> list[Problem]:
    """Everything in a recording that is not as its commit promises.

    Each chunk's checksum, length and padding, its spikes counted again and compared with ``counts``,
    segments, trials, and the documents for stock Zarr readers. Reads every committed byte.

    Parameters
    ----------
    reader : TapeReader
        The recording as of a commit; it may go on growing.
    run : callable
        What computes, as `dask.compute` does.

    Returns
    -------
    list of Problem
        Empty if the recording is sound.
    """
    trials = reader.metadata.trials.trials
    tasks = [delayed(Parcel(check_documents))(Parcel(reader))]
    for layer in reader.layers.values():
        for bits in layer.bits:
            tasks += _bits_tasks(bits, trials)
    for series in reader.series.values():
        tasks += _signal_tasks(series, trials)
    # One damaged table is found by every task that needs it.
    found = {problem: None for problems in run(*tasks) for problem in problems}
    return list(found)


def _bits_tasks(bits: LayerReader, trials: int) -> list[Any]:
    """Tasks that check one boolean array of a layer, and its small arrays."""
    sent = Parcel(bits)
    blocks = count_blocks(bits.commit)
    step = max(TASK_BYTES // (bits.plan.block_frames // 8 * bits.plan.neurons), 1)
    return [
        delayed(Parcel(check_tables))(sent, trials),
        *(
            delayed(Parcel(check_blocks))(sent, first, min(first + step, blocks))
            for first in range(0, blocks, step)
        ),
    ]


def _signal_tasks(signal: SignalReader, trials: int) -> list[Any]:
    """Tasks that check one signal."""
    sent = Parcel(signal)
    step = max(TASK_BYTES // (signal.plan.chunk_frames * signal.plan.neurons * signal.commit.itemsize), 1)
    return [
        delayed(Parcel(check_signal_tables))(sent, trials),
        *(
            delayed(Parcel(check_signal_chunks))(sent, first, min(first + step, signal.chunks))
            for first in range(0, signal.chunks, step)
        ),
    ]


def find_digest(
    readers: TapeReader | Sequence[TapeReader], run: Callable[..., tuple[Any, ...]] = compute
) -> str:
    """SHA-256 over what was recorded, however it is stored: 64 hexadecimal digits.

    Parameters
    ----------
    readers : TapeReader, or several
        The recording as of a commit, or the recordings that are opened as one.
    run : callable
        What computes, as `dask.compute` does.

    Raises
    ------
    RecordingFormatError
        If a chunk is missing or damaged; it names file, layer and frames.
    """
    if isinstance(readers, TapeReader):
        return _find_one(readers, run)
    return join_recordings([_find_one(reader, run) for reader in readers])


def _find_one(reader: TapeReader, run: Callable[..., tuple[Any, ...]]) -> str:
    tasks = DigestTasks.of(reader)
    return tasks.join(run(*tasks.every))


@dataclass(frozen=True, eq=False)
class DigestTasks:
    """What is to be computed for the digest of a recording: lists of hashes, of some leaves each.

    Attributes
    ----------
    reader : TapeReader
    bits : sequence of ((str, str), task)
        Of boolean arrays, by layer and plane; leaves in order.
    series : sequence of (Which, task)
        Likewise of signals and counted operations.
    """

    reader: TapeReader
    bits: Sequence[tuple[tuple[str, str], Any]]
    series: Sequence[tuple[Which, Any]]

    @classmethod
    def of(cls, reader: TapeReader, events: Mapping[str, Sequence[Any]] | None = None) -> DigestTasks:
        """All tasks; those of the events of layers are given, where somebody else reads their chunks."""
        given = events or {}
        bits = [
            ((one.name, one.plane), task)
            for layer in reader.layers.values()
            for one in layer.bits
            for task in (_leaf_tasks(one) if one.plane or one.name not in given else given[one.name])
        ]
        series = [
            (which, task) for which, values in reader.series.items() for task in _signal_leaf_tasks(values)
        ]
        return cls(reader, bits, series)

    @property
    def every(self) -> list[Any]:
        """All tasks, in order."""
        return [task for _, task in [*self.bits, *self.series]]

    def join(self, hashed: Sequence[list[bytes]]) -> str:
        """The digest, from the results of all tasks in order."""
        bits = _joined([which for which, _ in self.bits], hashed)
        series = _joined([which for which, _ in self.series], hashed[len(self.bits) :])
        return join_digest(self.reader, bits, series)


def _joined(keys: Sequence[Key], hashed: Sequence[list[bytes]]) -> Mapping[Key, list[bytes]]:
    # Of what has no frames there are no tasks, and no leaves.
    found: dict[Key, list[bytes]] = defaultdict(list)
    for key, hashes in zip(keys, hashed, strict=False):
        found[key] += hashes
    return found


def _leaf_tasks(bits: LayerReader) -> Iterator[Any]:
    leaves, step, sent = leaf_count(bits), max(TASK_BYTES // leaf_bytes(bits), 1), Parcel(bits)
    for first in range(0, leaves, step):
        yield delayed(Parcel(hash_leaves))(sent, first, min(first + step, leaves))


def _signal_leaf_tasks(signal: SignalReader) -> Iterator[Any]:
    size = signal_leaf_frames(signal) * signal.plan.neurons * signal.commit.itemsize
    leaves, step, sent = signal_leaf_count(signal), max(TASK_BYTES // size, 1), Parcel(signal)
    for first in range(0, leaves, step):
        yield delayed(Parcel(hash_signal_leaves))(sent, first, min(first + step, leaves))
