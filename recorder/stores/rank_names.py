"""Names of the stores that the processes of one distributed run record into. Pure functions.

Each process, a *rank*, has a recording of its own; nothing is shared between them but the name of the run.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

# Where a rank stands in provenance.
PROVENANCE_KEY: Final = "distributed"

_RANK_NAME = re.compile(r"(?P<stem>.+)\.rank-(?P<rank>\d{5,})-of-(?P<ranks>\d{5,})(?P<suffix>(\.[^./]+)?)/*")


@dataclass(frozen=True)
class RankName:
    """What the name of a rank's store says.

    Attributes
    ----------
    run : str
        Location of the run, as the user gave it.
    rank, ranks : int
        This rank, counted from 0, and how many there are.
    """

    run: str
    rank: int
    ranks: int


def rank_location(run: str, rank: int, ranks: int) -> str:
    """Location of a rank's store, beside the others of its run.

    Examples
    --------
    >>> rank_location("runs/run.zarr", 3, 8)
    'runs/run.rank-00003-of-00008.zarr'
    """
    stem, suffix = _split(run)
    return f"{stem}.rank-{rank:05}-of-{ranks:05}{suffix}"


def rank_pattern(run: str) -> str:
    """Pattern, as of `glob`, that the locations of all ranks of a run match."""
    stem, suffix = map(glob.escape, _split(run))
    return f"{stem}.rank-*-of-*{suffix}"


def parse_rank_location(location: str) -> RankName | None:
    """What a location says about its rank; None if it is no rank's.

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
    """Ranks that are not among some names, for each run of which any is there."""
    present: dict[tuple[str, int], set[int]] = {}
    for name in names:
        present.setdefault((name.run, name.ranks), set()).add(name.rank)
    missing: dict[str, list[int]] = {}
    for (run, ranks), there in present.items():
        missing.setdefault(run, []).extend(rank for rank in range(ranks) if rank not in there)
    return missing


@dataclass(frozen=True)
class RankRecord:
    """What a recording says about its rank, in its provenance under ``"distributed"``.

    Attributes
    ----------
    run : str
        Random identifier that the ranks of one run have in common; empty where they could not agree.
    rank, ranks : int
    """

    run: str
    rank: int
    ranks: int

    def to_provenance(self) -> dict[str, Any]:
        """Provenance that says so."""
        return {PROVENANCE_KEY: {"run": self.run, "rank": self.rank, "ranks": self.ranks}}

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, Any]) -> RankRecord | None:
        """What a recording's provenance says; None if it is no rank's, or what it says makes no sense."""
        said = provenance.get(PROVENANCE_KEY)
        if not isinstance(said, Mapping):
            return None
        run, rank, ranks = (said.get(field) for field in ("run", "rank", "ranks"))
        if not (isinstance(run, str) and isinstance(rank, int) and isinstance(ranks, int)):
            return None
        return cls(run, rank, ranks) if 0 <= rank < ranks else None


def _split(run: str) -> tuple[str, str]:
    folder, slash, name = run.rstrip("/").rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    return f"{folder}{slash}{stem}", f"{dot}{suffix}"
