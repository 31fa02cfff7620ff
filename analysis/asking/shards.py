"""An answer in shards: tasks that need nothing of each other, for machines that never speak to each other.

Every task that reads spikes belongs to one shard. A shard also adds up what is all its own, and keeps what
others go on with; whoever has what all shards keep computes the rest, as one machine would have done. So the
figures are the same to the last bit, whatever the statistic. Tasks of a layer are shared out in the order of
their frames: several answers read the same frames in the same shard, and neighbours are added up there.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import xarray as xr
from dask.base import tokenize
from dask.core import flatten, toposort
from dask.delayed import Delayed
from dask.optimization import cull

from analysis.asking.rounds import calls_in, graph_of, join_rounds, with_graph
from analysis.kernels.counting.tasks import add_up, finish
from analysis.kernels.populations import in_shape
from analysis.kernels.selecting.source import Source
from analysis.kernels.sequence_tasks import columns_of_sums, join_sums
from spiketape_scheduler import Graph
from spiketape_worker import Parcel

Key = Hashable

# What makes less of what is known, and never more.
_FOLDED: Final = (add_up, columns_of_sums, finish, in_shape, join_sums)


@dataclass(frozen=True, eq=False)
class Sharded:
    """An answer, cut into shards.

    Attributes
    ----------
    answer : xarray.Dataset
        Lazy, of a recording ``anywhere``: then keys are the same wherever copies of the recording lie.
    graph : mapping
        The tasks behind it.
    kept : mapping from int to list of keys
        Tasks whose results each shard keeps. Shards that have nothing to do are not there.
    """

    answer: xr.Dataset
    graph: Graph
    kept: Mapping[int, list[Key]]

    @classmethod
    def of(cls, answer: xr.Dataset, shards: int) -> Sharded:
        """Cut an answer into so many shards; always the same ones."""
        keys: Any = answer.__dask_keys__()  # type: ignore[no-untyped-call] # of xarray
        wanted = {*flatten([keys])}
        graph, found = cull(graph_of([answer]), list(wanted))
        needed = {key: set(keys) for key, keys in found.items()}
        return cls(answer, graph, _kept(graph, needed, wanted, _owners(graph, needed, shards)))

    def keys(self, shard: int) -> list[Key]:
        """Tasks whose results a shard keeps."""
        return self.kept.get(shard, [])

    def results(self, shard: int) -> Delayed:
        """Results that a shard keeps, lazy: a list in the order of `keys`."""
        keys = self.keys(shard)
        tasks, _ = cull(self.graph, keys)
        name = f"shard-{tokenize(keys)}"
        return Delayed(name, {**tasks, **join_rounds(tasks), name: keys})

    def merged(self, results: Mapping[Key, Any]) -> xr.Dataset:
        """The answer, lazy, from what all shards have kept."""
        merged: xr.Dataset = with_graph(self.answer, {**self.graph, **results})
        return merged


def name_of(key: Key) -> str:
    """A key as text."""
    return ",".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _owners(graph: Graph, needed: Mapping[Key, Collection[Key]], shards: int) -> dict[Key, int]:
    """Shard of each task that reads spikes, and of all that can be made of those of one shard alone."""
    owners = _readers(graph, needed, shards)
    for key in toposort(graph, dependencies=needed):
        if key not in owners and _is_folded(graph[key]):
            made_in = {owners.get(other) for other in needed[key] if not isinstance(graph[other], Parcel)}
            if len(made_in) == 1 and (owner := made_in.pop()) is not None:
                owners[key] = owner
    return owners


def _readers(graph: Graph, needed: Mapping[Key, Collection[Key]], shards: int) -> dict[Key, int]:
    """Shard of each task that reads spikes.

    Those of a layer go to shards in the order of the frames where they begin, whatever answer they are of: a
    trial may be so large that it has an array of tasks of its own. Tasks that name no frames are shared out
    by themselves, those of an array in their order. Where there are fewer tasks than shards, other layers go
    to other shards.
    """
    layers = {key: layer for key, task in graph.items() if (layer := _layer(task)) is not None}
    places = {layer: place for place, layer in enumerate(sorted(set(layers.values())))}
    begins: dict[Key, int] = {}
    for call in calls_in(graph):
        begins[call.key] = min(call.first, begins.get(call.key, call.first))
    together: dict[tuple[int, Any], dict[Any, list[Key]]] = {}
    for key, others in needed.items():
        read = sorted(places[layers[other]] for other in others if other in layers)
        if read:
            array = None if key in begins else key[0] if isinstance(key, tuple) else key
            together.setdefault((read[0], array), {}).setdefault(begins.get(key, key), []).append(key)
    return {
        key: (number * shards // len(in_order) + place) % shards
        for (place, _), in_order in together.items()
        for number, begin in enumerate(sorted(in_order))
        for key in in_order[begin]
    }


def _layer(task: Any) -> tuple[str, str] | None:
    """The layer that tasks read by this one; None if it carries no source."""
    content = task.content if isinstance(task, Parcel) else None
    first = content[0] if isinstance(content, tuple) and content else content
    return (first.identity, first.layer) if isinstance(first, Source) else None


def _is_folded(task: Any) -> bool:
    return isinstance(task, tuple) and bool(task) and getattr(task[0], "content", None) in _FOLDED


def _kept(
    graph: Graph, needed: Mapping[Key, Collection[Key]], wanted: Collection[Key], owners: Mapping[Key, int]
) -> dict[int, list[Key]]:
    """Tasks of each shard whose results are asked for, or needed by tasks that are not the shard's."""
    asked = set(wanted)
    for key in graph:
        asked |= {other for other in needed[key] if owners.get(key) != owners.get(other)}
    kept: dict[int, list[Key]] = {}
    for key, owner in owners.items():
        if key in asked:
            kept.setdefault(owner, []).append(key)
    return kept
