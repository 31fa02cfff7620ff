"""Names of the stores into which the processes of one distributed run record. All functions are pure.

Each process, called a *rank*, makes a recording of its own. The names of these recordings differ only in the
number of the rank.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

# Key of the provenance under which a rank is described.
PROVENANCE_KEY: Final = "distributed"

_RANK_NAME = re.compile(r"(?P<stem>.+)\.rank-(?P<rank>\d{5,})-of-(?P<ranks>\d{5,})(?P<suffix>(\.[^./]+)?)/*")


@dataclass(frozen=True)
class RankName:
    """The parts of the name of a rank's store.

    Attributes
    ----------
    run : str
        Location that the user gave for the whole run.
    rank : int
        Number of this rank, counted from 0.
    ranks : int
        Number of ranks in the run.
    """

    run: str
    rank: int
    ranks: int


def rank_location(run: str, rank: int, ranks: int) -> str:
    """Location of the store of one rank; the ranks of a run lie in one folder.

    Examples
    --------
    >>> rank_location("runs/run.zarr", 3, 8)
    'runs/run.rank-00003-of-00008.zarr'
    """
    stem, suffix = _split(run)
    return f"{stem}.rank-{rank:05}-of-{ranks:05}{suffix}"


def rank_pattern(run: str) -> str:
    """Pattern for `glob` that matches the locations of all ranks of a run."""
    stem, suffix = map(glob.escape, _split(run))
    return f"{stem}.rank-*-of-*{suffix}"


def parse_rank_location(location: str) -> RankName | None:
    """Parse the location of a rank's store; None if it is not named like one.

    Examples
    --------
    >>> parse_rank_location("runs/run.rank-00003-of-00008.zarr")
    RankName(run='runs/run.zarr', rank=3, ranks=8)
    """
    found = _RANK_NAME.fullmatch(location)
    if found is None:
        return None
    return RankName(found["stem"] + found["suffix"], int(found["rank"]), int(found["ranks"]))


def missing_ranks(names: Iterable[RankName]) -> dict[str, list[int]]:
    """Ranks without a name among ``names``, by run, for each run that has at least one name there."""
    present: dict[tuple[str, int], set[int]] = {}
    for name in names:
        present.setdefault((name.run, name.ranks), set()).add(name.rank)
    missing: dict[str, list[int]] = {}
    for (run, ranks), there in present.items():
        missing.setdefault(run, []).extend(rank for rank in range(ranks) if rank not in there)
    return missing


@dataclass(frozen=True)
class RankRecord:
    """The description of a rank in the provenance of its recording, under ``"distributed"``.

    Attributes
    ----------
    run : str
        Random identifier that all ranks of one run share; empty if they could not agree on one.
    rank : int
        Number of this rank, counted from 0.
    ranks : int
        Number of ranks in the run.
    """

    run: str
    rank: int
    ranks: int

    def to_provenance(self) -> dict[str, Any]:
        """JSON values to add to the provenance."""
        return {PROVENANCE_KEY: {"run": self.run, "rank": self.rank, "ranks": self.ranks}}

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, Any]) -> RankRecord | None:
        """Parse a recording's provenance; None if it describes no rank, or is malformed."""
        said = provenance.get(PROVENANCE_KEY)
        if not isinstance(said, Mapping):
            return None
        run, rank, ranks = (said.get(field) for field in ("run", "rank", "ranks"))
        if not (isinstance(run, str) and isinstance(rank, int) and isinstance(ranks, int)):
            return None
        return cls(run, rank, ranks) if 0 <= rank < ranks else None


def ranks_of_one_run(recordings: Iterable[tuple[str, Mapping[str, Any]]]) -> list[RankRecord] | None:
    """The ranks that some recordings are, if they are different ranks of one and the same run.

    Parameters
    ----------
    recordings : iterable of (str, mapping)
        Location and provenance of each. The names are asked only where ranks could not agree on an
        identifier of their run.

    Returns
    -------
    list of RankRecord, or None
        None if one is no rank, if their runs differ or are unknown, or if a rank is there twice.
    """
    records: list[RankRecord] = []
    runs = set()
    for location, provenance in recordings:
        record, name = RankRecord.from_provenance(provenance), parse_rank_location(location)
        if record is None or (not record.run and name is None):
            return None
        records.append(record)
        runs.add((record.run, record.ranks, "" if record.run or name is None else name.run))
    return records if len(runs) == 1 and len({record.rank for record in records}) == len(records) else None


def _split(run: str) -> tuple[str, str]:
    folder, slash, name = run.rstrip("/").rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    return f"{folder}{slash}{stem}", f"{dot}{suffix}"
