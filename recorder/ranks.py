"""The ranks of a distributed run: where each records, and what they must agree upon.

Each process records on its own. What ranks tell each other goes through the store that
``torch.distributed`` keeps for its processes to find each other, and not through collectives: a network of
which only some ranks are monitored must not hang.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from zarr.abc.store import Store

from recorder.stores import StoreLike
from recorder.stores.rank_names import RankRecord, rank_location

RESUME_TIMEOUT = timedelta(minutes=5)

# Monitors made in this process for each run; the same in all ranks that do the same.
_made: Counter[str] = Counter()


class RankError(RuntimeError):
    """Ranks of a distributed run that should do the same do not."""


def without_wrapper(net: nn.Module) -> nn.Module:
    """The network inside DistributedDataParallel, whose layers have the names that they have without it."""
    return net.module if isinstance(net, DistributedDataParallel) else net


@dataclass(frozen=True)
class RankPlace:
    """One rank of a distributed run, as one of its monitors sees it.

    Attributes
    ----------
    store : str, path or Zarr store
        Where this rank records to.
    record : RankRecord
        What its recording says about it.
    run : str
        What the user gave, the same in all ranks.
    number : int
        Monitors made for this run before.
    """

    store: StoreLike
    record: RankRecord
    run: str
    number: int

    def largest_of_all(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        """Largest of the numbers of all ranks, each for itself; waits for all of them.

        Raises
        ------
        RankError
            If some rank does not ask within five minutes.
        """
        shared = _shared_store()
        if shared is None:
            return numbers
        keys = [f"{_key(self.run, self.number)}/at/{rank}" for rank in range(self.record.ranks)]
        shared.set(keys[self.record.rank], " ".join(map(str, numbers)))
        try:
            shared.wait(keys, RESUME_TIMEOUT)
        except RuntimeError as error:
            _made[self.run] = self.number  # another try is this one again
            raise RankError(
                f"not all {self.record.ranks} ranks have resumed their recordings within {RESUME_TIMEOUT}: "
                "each must make its monitor with resume=True, so that all go on at the same step"
            ) from error
        told = [map(int, shared.get(key).split()) for key in keys]
        return tuple(map(max, *told))


def place_of_rank(store: StoreLike | None) -> RankPlace | None:
    """Where this process records to; None if it is no rank of a distributed run.

    Parameters
    ----------
    store : str, path, Zarr store or None
        What the user gave, the same in all ranks: the name of the run. A Zarr store is taken as it is.

    Raises
    ------
    RankError
        If no store was given.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return None
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if ranks == 1:
        return None
    if store is None:
        raise RankError(
            f"this is rank {rank} of {ranks}, and each records beside the others: name the run in all of "
            "them, as in Monitor(net, store='run.zarr')"
        )
    run = str(store) if isinstance(store, Store) else os.fspath(store)
    number = _made[run]
    _made[run] += 1
    own = store if isinstance(store, Store) else rank_location(run, rank, ranks)
    return RankPlace(own, RankRecord(_agreed_id(_key(run, number)), rank, ranks), run, number)


def _key(run: str, number: int) -> str:
    """What ranks know a monitor by among each other."""
    return f"spiketape/{run}/{number}"


def _agreed_id(key: str) -> str:
    """Identifier of the run: the first rank that asks says it."""
    shared = _shared_store()
    if shared is None:
        return ""
    told: bytes = shared.compare_set(f"{key}/id", "", secrets.token_hex(8))
    return told.decode()


def _shared_store() -> Any:
    try:
        return torch.distributed.distributed_c10d._get_default_store()  # noqa: SLF001 - what torch itself uses
    except (AttributeError, RuntimeError, ValueError):
        return None  # MPI has none
