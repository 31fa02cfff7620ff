"""The ranks of a distributed run: the place where each one records, and what they agree on.

Each process records on its own. Ranks exchange a few values through the key-value store of
``torch.distributed``, and not by collectives, because a run in which only some ranks are monitored must not
hang.
"""

from __future__ import annotations

import hashlib
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

# Number of monitors made in this process for each run. All ranks that run the same program count the same.
_made: Counter[str] = Counter()


class RankError(RuntimeError):
    """The ranks of a distributed run do not do the same, although they have to."""


def without_wrapper(net: nn.Module) -> nn.Module:
    """Unwrap a network from DistributedDataParallel, so that its layers have their usual names."""
    return net.module if isinstance(net, DistributedDataParallel) else net


@dataclass(frozen=True)
class RankPlace:
    """The place of one rank in a distributed run, for one monitor.

    Attributes
    ----------
    store : str, path or Zarr store
        Store into which this rank records.
    record : RankRecord
        Description of the rank in the provenance of its recording.
    run : str
        Location of the run, as the user gave it; the same in all ranks.
    number : int
        Number of monitors that this process made for the run before this one.
    """

    store: StoreLike
    record: RankRecord
    run: str
    number: int

    def largest_of_all(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        """Exchange numbers with all ranks; return the largest at each position. Waits for all ranks.

        Raises
        ------
        RankError
            If any rank has not called this after five minutes.
        """
        shared = _shared_store()
        if shared is None:
            return numbers
        keys = [f"{_key(self.run, self.number)}/at/{rank}" for rank in range(self.record.ranks)]
        shared.set(keys[self.record.rank], " ".join(map(str, numbers)))
        try:
            shared.wait(keys, RESUME_TIMEOUT)
        except RuntimeError as error:
            _made[self.run] = self.number  # the monitor of another try gets the same number again
            raise RankError(
                f"not all {self.record.ranks} ranks have resumed their recordings within {RESUME_TIMEOUT}: "
                "each must make its monitor with resume=True, so that all go on at the same step"
            ) from error
        told = [map(int, shared.get(key).split()) for key in keys]
        return tuple(map(max, *told))


def place_of_rank(store: StoreLike | None) -> RankPlace | None:
    """Find the place of this process in its distributed run; None if it is not part of one.

    Parameters
    ----------
    store : str, path, Zarr store or None
        Location of the run that the user gave, the same in all ranks. A path or URL gets the number of the
        rank; a Zarr store is used as it is.

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
    """Key prefix by which the ranks exchange values of one monitor; errors of torch may show it."""
    return f"spiketape/{hashlib.sha256(run.encode(errors='surrogatepass')).hexdigest()}/{number}"


def _agreed_id(key: str) -> str:
    """Random identifier of the run, chosen by the first rank that asks; empty if ranks share no store."""
    shared = _shared_store()
    if shared is None:
        return ""
    told: bytes = shared.compare_set(f"{key}/id", "", secrets.token_hex(8))
    return told.decode()


def _shared_store() -> Any:
    try:
        return torch.distributed.distributed_c10d._get_default_store()  # noqa: SLF001 - what torch itself uses
    except (AttributeError, RuntimeError, ValueError):
        return None  # the MPI backend has no key-value store
