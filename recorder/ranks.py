"""The ranks of a distributed run: the place where each one records, and what they agree on.

Each process records on its own. Ranks exchange a few values through the key-value store of
``torch.distributed``, and not by collectives, because a run in which only some ranks are monitored must not
hang.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections import Counter
from dataclasses import astuple, dataclass, replace
from datetime import timedelta
from typing import Any

import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from recorder.stores import ByteStore, StoreLike
from recorder.stores.rank_names import RankRecord, rank_location
from recorder.stores.redaction import without_secrets
from recorder.tape import TapeReader
from recorder.tape.holding.beginning import is_unbegun

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

    def resumed(self, store: ByteStore) -> RankRecord:
        """Description of this rank in the run that all ranks go on with, also where its own has yet to begin.

        Waits for all ranks, as `largest_of_all` does.

        Parameters
        ----------
        store : ByteStore
            Store into which this rank records.

        Raises
        ------
        RankError
            If the recordings are those of several runs, or of other ranks; or as `largest_of_all`.
        """
        found = None if is_unbegun(store) else TapeReader.open(store).metadata.provenance
        record = RankRecord.from_provenance(found or {}) or RankRecord("", -1, 0)
        told = self._tell_all("run", "" if found is None else json.dumps(astuple(record)))
        begun = {rank: RankRecord(*json.loads(said)) for rank, said in told.items() if said}
        run = next((each.run for each in begun.values()), self.record.run)
        wanted = replace(self.record, run=run)
        if any(each != replace(wanted, rank=rank) for rank, each in begun.items()):
            said = "; ".join(f"rank {rank} finds {_described(each)}" for rank, each in begun.items())
            raise RankError(
                f"{without_secrets(self.run)} holds recordings that are not those of the ranks of one run of "
                f"{self.record.ranks}: {said}. Put those of one run there, or begin again with overwrite=True"
            )
        return wanted

    def largest_of_all(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        """Exchange numbers with all ranks; return the largest at each position. Waits for all ranks.

        Raises
        ------
        RankError
            If any rank has not called this after five minutes.
        """
        told = self._tell_all("at", " ".join(map(str, numbers))).values()
        return tuple(map(max, zip(*(map(int, said.split()) for said in told), strict=True)))

    def _tell_all(self, what: str, said: str) -> dict[int, str]:
        """Exchange a text with all ranks: what each says, or this one alone where ranks share no store."""
        shared = _shared_store()
        if shared is None:
            return {self.record.rank: said}
        keys = [f"{_key(self.run, self.number)}/{what}/{rank}" for rank in range(self.record.ranks)]
        shared.set(keys[self.record.rank], said)
        try:
            shared.wait(keys, RESUME_TIMEOUT)
        except RuntimeError as error:
            _made[self.run] = self.number  # the monitor of another try gets the same number again
            raise RankError(
                f"not all {self.record.ranks} ranks have resumed their recordings within {RESUME_TIMEOUT}: "
                "each must make its monitor with resume=True, so that all go on at the same step"
            ) from error
        return {rank: shared.get(key).decode() for rank, key in enumerate(keys)}


def begin_again(provenance: dict[str, Any]) -> dict[str, Any]:
    """Give a rank that discards its recording another run, in place: all that do so have the same one."""
    record = RankRecord.from_provenance(provenance)
    if record is not None and record.run:
        run = hashlib.sha256(record.run.encode()).hexdigest()[: len(record.run)]
        provenance.update(replace(record, run=run).to_provenance())
    return provenance


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
    run = os.fspath(store) if isinstance(store, str | os.PathLike) else str(store)
    number = _made[run]
    _made[run] += 1
    own = rank_location(run, rank, ranks) if isinstance(store, str | os.PathLike) else store
    return RankPlace(own, RankRecord(_agreed_id(_key(run, number)), rank, ranks), run, number)


def _described(record: RankRecord) -> str:
    if record.rank < 0:
        return "a recording of no rank"
    return f"rank {record.rank} of {record.ranks} of run {record.run!r}"


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
