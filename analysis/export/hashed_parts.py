"""A part of an export, and what the digest needs of the same chunks, which are decoded once for both."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from analysis.kernels.exporting.event_tables import TableLayout, WrittenPart, write_part
from analysis.kernels.rounds import in_one_round
from analysis.kernels.selecting.source import Source, read_whole, reader_of
from analysis.kernels.selecting.trial_table import TrialStarts
from recorder.keeping.digest import hash_leaves, leaf_count, leaf_frames


def leaves_of_parts(source: Source, firsts: Sequence[int]) -> list[tuple[int, int]]:
    """Leaves of each part: those that begin in its frames; all of them, also of lost frames, are in one."""
    reader = reader_of(source)
    size, leaves = leaf_frames(reader.plan.neurons), leaf_count(reader)
    begins = [0, *(min(-(-first // size), leaves) for first in firsts[1:]), leaves]
    return list(pairwise(begins))


def write_hashed_part(
    source: Source,
    first: int,
    last: int,
    starts: TrialStarts,
    layout: TableLayout,
    path: str,
    leaves: tuple[int, int],
) -> tuple[WrittenPart, list[bytes]]:
    """As `write_part`; also the hashes of some leaves, from the first to the last (exclusive)."""
    written, hashes = in_one_round(
        [
            (write_part, (source, first, last, starts, layout, path)),
            (hash_leaves, (reader_of(source), *leaves, partial(read_whole, source))),
        ]
    )
    return written, hashes
