"""Let Dask read each chunk of spikes once for all that it computes together, wherever it prepares the tasks.

Dask merges the graphs of all arrays that it computes together, and culls them: it asks each layer for the
tasks that are needed. Arrays that are made of spikes have a `SpikeLayer` each. What is left of those that are
culled in one pass is written out together: tasks that read the same chunks become one, a *round*, and the
tasks that called them take their results from there. `analysis.asking.rounds` says which tasks read what.

Newer releases of Dask prepare tasks in the scheduler, which is shared, and may have a user's own file by
the name of one of our packages. Therefore nothing here imports them, nor opens a parcel: a layer that is sent
says in plain numbers what its tasks read. Schedulers need this file and ``spiketape_worker.py``.

If nobody culls (``optimize_graph=False``, or ``array_optimize=None`` in Dask's configuration), tasks stay as
they are, and so they do if a later release of Dask culls in another way: that is slower, and no less right.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from dask.base import tokenize
from dask.highlevelgraph import Layer, MaterializedLayer

Graph = Mapping[Any, Any]


class Call(NamedTuple):
    """A call of a function that reads spikes.

    Attributes
    ----------
    key : object
        The task in which it stands, as a whole or as an argument.
    task : tuple
        The call itself.
    layer : tuple of str
        The recorded layer whose chunks it reads, as of a commit.
    neurons : int
        Neurons of that layer, selected or not.
    first, last : int
        The frames among which it counts, the last exclusive.
    """

    key: Any
    task: tuple[Any, ...]
    layer: tuple[str, str]
    neurons: int
    first: int
    last: int


class Limits(NamedTuple):
    """How many bytes a task should read, see `analysis.asking.planning`."""

    small_task_bytes: int
    many_tasks: int
    task_bytes: int
    max_tasks: int

    def wanted(self, total_bytes: int) -> int:
        """Bytes that a task should read, if there are so many to read in all."""
        wanted = min(max(self.small_task_bytes, total_bytes // self.many_tasks), self.task_bytes)
        return max(wanted, -(-total_bytes // self.max_tasks))


class Joining(NamedTuple):
    """All that it takes to join the tasks of a graph.

    Attributes
    ----------
    calls : sequence of Call
    limits : Limits
    in_one_round, result_of : Parcel
        The functions of `analysis.kernels.rounds`.
    """

    calls: Sequence[Call]
    limits: Limits
    in_one_round: Any
    result_of: Any


class SpikeLayer(MaterializedLayer):
    """The tasks of one array, of which some read spikes.

    Parameters
    ----------
    mapping : mapping
        The tasks by key, among them the sources of spikes that they read.
    find : callable
        Takes the mapping, and returns its `Joining`; called only when it is needed.
    """

    def __init__(self, mapping: Graph, find: Callable[[Graph], Joining]) -> None:
        super().__init__(mapping)
        self._find: Callable[[Graph], Joining] | None = find

    @cached_property
    def joining(self) -> Joining:
        """What is read by the tasks."""
        if self._find is None:
            raise ValueError("a layer that was sent has not said what it reads")
        return self._find(self.mapping)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "joining": self.joining, "_find": None}

    def cull(self, keys: set[Any], all_hlg_keys: Collection[Any]) -> tuple[Layer, Mapping[Any, set[Any]]]:
        """The tasks that are needed, joined with those of other layers of this pass, and what these need."""
        layer, needed = super().cull(keys, all_hlg_keys)
        alone = layer.mapping if isinstance(layer, MaterializedLayer) else dict(layer)
        return _CulledLayer(self, alone, _pass_over(self, all_hlg_keys)), needed


class _CulledLayer(MaterializedLayer):
    """What is left of a layer. It is written out when it is first looked at, which ends the pass."""

    def __init__(self, whole: SpikeLayer, alone: Graph, culled_in: _Pass) -> None:
        Layer.__init__(self, annotations=whole.annotations)
        self._alone, self._pass = alone, culled_in
        culled_in.layers[id(whole)] = whole, alone

    @cached_property
    def mapping(self) -> Graph:  # type: ignore[override] # an attribute, which is made late
        return self._pass.joined(self._alone)

    def get_output_keys(self) -> Set[Any]:
        """The keys that it has so far: Dask asks for them while it culls."""
        return self._alone.keys()

    def __reduce__(self) -> Any:
        return MaterializedLayer, (dict(self.mapping), self.annotations)


class _Pass:
    """All layers that Dask culls in one go: it hands each of them the same collection of all keys."""

    def __init__(self, all_keys: Collection[Any]) -> None:
        self.all_keys = all_keys
        self.layers: dict[int, tuple[SpikeLayer, Graph]] = {}
        self.ended = False

    @cached_property
    def _new(self) -> tuple[Graph, Graph]:
        """All tasks of the layers, and those that are new, or others than they were."""
        self.ended = True
        calls = list(self._shared())
        if not calls:
            return {}, {}
        graph = {key: task for _, alone in self.layers.values() for key, task in alone.items()}
        first, _ = next(iter(self.layers.values()))
        return graph, joined(graph, first.joining._replace(calls=calls))

    def _shared(self) -> Iterator[Call]:
        """The calls of arrays that read among the same frames of a recorded layer as another array does."""
        reading: dict[tuple[str, str], list[list[Call]]] = {}
        # The largest one comes last: alone, as most are, it need not be looked through.
        *others, largest = sorted(self.layers.values(), key=lambda layer: len(layer[1]))
        for whole, alone in [*others, largest]:
            if alone is largest[1] and not reading:
                return
            of_layers: dict[tuple[str, str], list[Call]] = {}
            for call in whole.joining.calls:
                if call.key in alone:
                    of_layers.setdefault(call.layer, []).append(call)
            for layer, calls in of_layers.items():
                reading.setdefault(layer, []).append(calls)
        for arrays in reading.values():
            ends = [(min(call.first for call in calls), max(call.last for call in calls)) for calls in arrays]
            for place in overlapping(ends):
                yield from arrays[place]

    def joined(self, alone: Graph) -> Graph:
        """The tasks of one of the layers, with the rounds they need, so that it needs no other layer."""
        graph, new = self._new
        if not new:
            return alone
        tasks = {key: new.get(key, task) for key, task in alone.items()}
        for name in {name for task in tasks.values() for name in _strings_in(task)} & new.keys():
            tasks[name] = new[name]
            tasks |= {source: graph[source] for source in _strings_in(new[name]) if source in graph}
        return tasks


_passes = threading.local()


def _pass_over(layer: SpikeLayer, all_keys: Collection[Any]) -> _Pass:
    """The pass of this thread in which a layer is culled; a new one if the last one was over other keys."""
    last: _Pass | None = getattr(_passes, "last", lambda: None)()
    if last is None or last.ended or last.all_keys is not all_keys or id(layer) in last.layers:
        last = _Pass(all_keys)
        _passes.last = weakref.ref(last)
    return last


def overlapping(ends: Sequence[tuple[int, int]]) -> set[int]:
    """The places of ranges that have something in common with another one.

    Examples
    --------
    >>> sorted(overlapping([(0, 9), (20, 30), (8, 10), (10, 12)]))
    [0, 2]
    """
    found: set[int] = set()
    reach, farthest = 0, -1
    for place in sorted(range(len(ends)), key=lambda place: ends[place]):
        first, last = ends[place]
        if farthest >= 0 and first < reach:
            found |= {place, farthest}
        if farthest < 0 or last > reach:
            reach, farthest = last, place
    return found


def joined(graph: Graph, joining: Joining) -> dict[Any, Any]:
    """New tasks for a graph: rounds, and tasks that take their results from there instead of counting.

    Tasks that have nobody to share a round with stay as they are; those of one question share no frames.
    """
    calls = sorted(joining.calls, key=lambda call: (call.first, str(call.key)))
    together: dict[Hashable, list[Call]] = {}
    for call, part in zip(calls, _parts(calls, joining.limits), strict=True):
        together.setdefault((call.layer, part), []).append(call)
    new: dict[Any, Any] = {}
    taken: dict[int, tuple[Any, ...]] = {}
    for some in together.values():
        if any(after.first < before.last for before, after in pairwise(some)):
            name = f"round-{tokenize([call.key for call in some])}"
            new[name] = (joining.in_one_round, [[call.task[0], [*call.task[1:]]] for call in some])
            for place, call in enumerate(some):
                taken[id(call.task)] = (joining.result_of, name, place)
    return new | {call.key: _replaced(graph[call.key], taken) for call in calls}


def _replaced(task: Any, taken: Mapping[int, tuple[Any, ...]]) -> Any:
    if id(task) in taken:
        return taken[id(task)]
    if isinstance(task, tuple | list):
        return type(task)(_replaced(argument, taken) for argument in task)
    return task


def _strings_in(task: Any) -> Iterator[str]:
    """Keys of sources and rounds in a task, all of which are strings, and other strings."""
    if isinstance(task, str):
        yield task
    elif isinstance(task, tuple | list):
        for argument in task:
            yield from _strings_in(argument)


def _parts(calls: Sequence[Call], limits: Limits) -> Iterator[int]:
    """The part of its layer in which each call lies, for the most part.

    Tasks of most questions are parts of about equal size, as many as these, and so there is one of each
    question in a round.
    """
    frames: dict[tuple[str, str], tuple[int, int]] = {}
    size: dict[tuple[str, str], int] = {}
    for call in calls:
        first, last = frames.get(call.layer, (call.first, call.last))
        frames[call.layer] = min(first, call.first), max(last, call.last)
    for call in calls:
        first, last = frames[call.layer]
        size[call.layer] = (last - first) * call.neurons // 8
    wanted = limits.wanted(sum(size.values()))
    for call in calls:
        first, last = frames[call.layer]
        parts = -(-size[call.layer] // wanted)
        yield (call.first + call.last - 2 * first) * parts // max(2 * (last - first), 1)
