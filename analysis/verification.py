"""Check a whole recording on whatever scheduler is active: threads, or a `dask.distributed` cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dask.base import compute
from dask.delayed import delayed

from recorder.format.reading import TapeReader
from recorder.format.verification import (
    Problem,
    check_blocks,
    check_documents,
    check_tables,
    count_blocks,
)
from spiketape_worker import Parcel

TASK_BYTES: Final = 64 * 2**20


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
        sent = Parcel(layer)
        tasks.append(delayed(Parcel(check_tables))(sent, trials))
        blocks = count_blocks(layer.commit)
        block_bytes = layer.plan.block_frames // 8 * layer.plan.neurons
        step = max(TASK_BYTES // block_bytes, 1)
        tasks += [
            delayed(Parcel(check_blocks))(sent, first, min(first + step, blocks))
            for first in range(0, blocks, step)
        ]
    # One damaged table is found by every task that needs it.
    found = {problem: None for problems in run(*tasks) for problem in problems}
    return list(found)
