"""A part of an export, and what the digest needs of the same chunks, which are decoded once for both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.kernels.exporting.event_tables import TableLayout, WrittenPart, write_part
from analysis.kernels.rounds import decoded, in_one_round
from analysis.kernels.selecting.source import Source, reader_of, trains_owner
from analysis.kernels.selecting.trial_table import TrialStarts
from recorder.format.bits import Packed
from recorder.keeping.digest import hash_leaves, leaf_count, leaf_frames


def write_hashed_part(
    source: Source, first: int, last: int, starts: TrialStarts, layout: TableLayout, path: str
) -> tuple[WrittenPart, list[bytes]]:
    """As `write_part`; also the hashes of the leaves that begin in these frames, see `hash_leaves`."""
    reader = reader_of(source)
    size, leaves = leaf_frames(reader.plan.neurons), leaf_count(reader)

    def read(chunks: Sequence[int]) -> Iterator[Packed]:
        return decoded(
            trains_owner(source), chunks, lambda some, passing: reader.chunks(some, passing=passing)
        )

    written, hashes = in_one_round(
        [
            (write_part, (source, first, last, starts, layout, path)),
            (hash_leaves, (reader, min(-(-first // size), leaves), min(-(-last // size), leaves), read)),
        ]
    )
    return written, hashes
