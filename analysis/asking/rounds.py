"""Several answers at once, each chunk of spikes read once: tasks that count in the same frames are joined.

Answers share tasks of equal names, whoever computes them: all that is made of the same sums of spikes. What
remains are tasks that read the same chunks and make something else of them, such as spikes per step and per
label. `compute` joins these to rounds, see `analysis.kernels.rounds`. A round has the tasks of one part of a
layer, of as many bytes as a task should read.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dask import base
from dask.base import is_dask_collection, tokenize
from dask.utils import ensure_dict

from analysis.asking.planning import packed_bytes, task_bytes
from analysis.kernels.counting.tasks import count_frames
from analysis.kernels.rounds import in_one_round, result_of
from analysis.kernels.selecting.source import Source
from spiketape_worker import Parcel

Graph = Mapping[Any, Any]


def compute(*answers: Any, **options: Any) -> tuple[Any, ...]:
    """Compute several answers at once, and read and decode each chunk of spikes once for all of them.

    As `dask.compute`, which reads a chunk again for each way in which spikes are grouped. Rates, silent and
    saturated ratios and counts share all reading there, too, and in one ``xarray.Dataset``, if they are asked
    alike: per network, layer, neuron or channel, per a column such as the label, or per a product of columns,
    times and samples that has few groups. Those per step, window, trial or presentation do not, nor do
    different ``per``, nor statistics of intervals, latencies or lags, nor correlations. Here all of them do;
    arrays such as `Layer.spikes`, and correlations over many small recordings, still read for themselves.

    A round reads some 16 to 64 MiB of packed bits, and keeps at most 128 MiB of them. A chunk on the border
    of two rounds may be read by both, and some are read again in recordings of hundreds of GiB. There are
    fewer tasks, which take longer: of a recording of less than 16 MiB for each core, on a disk nearby,
    `dask.compute` may take less time.

    Parameters
    ----------
    *answers : xarray.DataArray, xarray.Dataset or dask collection
    **options
        As in `dask.compute`, such as ``scheduler="threads"``.

    Returns
    -------
    tuple
        The answers in order, in memory; the same figures as one by one.

    Examples
    --------
    >>> rate, by_step = analysis.compute(  # doctest: +SKIP
    ...     recording.firing_rate(per="label"), recording.silent_ratio(per="step")
    ... )
    """
    return tuple(base.compute(*in_rounds(answers), **options))


def in_rounds(answers: Sequence[Any]) -> list[Any]:
    """The same answers, lazy, whose tasks are joined to rounds."""
    graph = graph_of(answers)
    graph |= join_rounds(graph)
    return [with_graph(answer, graph) for answer in answers]


def graph_of(answers: Sequence[Any]) -> dict[Any, Any]:
    """All tasks of some answers."""
    graph: dict[Any, Any] = {}
    for answer in answers:
        if is_dask_collection(answer):
            graph |= ensure_dict(answer.__dask_graph__())
    return graph


def with_graph(answer: Any, graph: Graph) -> Any:
    """A lazy answer with another graph that has its keys; what is no Dask collection stays as it is."""
    if not is_dask_collection(answer):
        return answer
    rebuild, arguments = answer.__dask_postpersist__()
    return rebuild(graph, *arguments)


@dataclass(frozen=True)
class Call:
    """A call of a function that reads spikes.

    Attributes
    ----------
    key : object
        The task in which it stands, as a whole or as an argument.
    task : tuple
        The call itself.
    source : Source
    first, last : int
        The frames among which it counts, the last exclusive.
    """

    key: Any
    task: tuple[Any, ...]
    source: Source
    first: int
    last: int

    @property
    def layer(self) -> tuple[str, str]:
        """The layer whose chunks it reads, as of a commit."""
        return self.source.identity, self.source.layer


def join_rounds(graph: Graph) -> dict[Any, Any]:
    """New tasks for a graph: rounds, and tasks that take their results from there instead of counting.

    Tasks that have nobody to share a round with stay as they are; those of one question share no frames.
    """
    calls = sorted(calls_in(graph), key=lambda call: (call.first, str(call.key)))
    together: dict[Any, list[Call]] = {}
    for call, part in zip(calls, _parts(calls), strict=True):
        together.setdefault((call.layer, part), []).append(call)
    new: dict[Any, Any] = {}
    taken: dict[int, tuple[Any, ...]] = {}
    for joined in together.values():
        if any(after.first < before.last for before, after in pairwise(joined)):
            name = f"round-{tokenize([call.key for call in joined])}"
            new[name] = (Parcel(in_one_round), [[call.task[0], [*call.task[1:]]] for call in joined])
            for place, call in enumerate(joined):
                taken[id(call.task)] = (Parcel(result_of), name, place)
    return new | {call.key: _replaced(graph[call.key], taken) for call in calls}


def sources_in(graph: Graph) -> dict[Any, Source]:
    """The sources that travel as tasks of their own, by key."""
    return {
        key: task.content
        for key, task in graph.items()
        if isinstance(task, Parcel) and isinstance(task.content, Source)
    }


def calls_in(graph: Graph) -> Iterator[Call]:
    """The calls of functions that read spikes of a range of frames."""
    sources = sources_in(graph)
    for key, task in graph.items():
        for call in _nested_calls(task):
            function = getattr(call[0], "content", None)
            given = [argument for argument in call[1:] if isinstance(argument, str) and argument in sources]
            if not given or function is count_frames:  # which reads tables alone
                continue
            try:
                named = inspect.signature(call[0]).bind(*call[1:]).arguments
            except TypeError:
                continue
            if isinstance(named.get("first"), int) and isinstance(named.get("last"), int):
                yield Call(key, call, sources[given[0]], named["first"], named["last"])


def _nested_calls(task: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(task, tuple) and task and isinstance(task[0], Parcel):
        yield task
    if isinstance(task, tuple | list):
        for argument in task:
            yield from _nested_calls(argument)


def _replaced(task: Any, taken: Mapping[int, tuple[Any, ...]]) -> Any:
    if id(task) in taken:
        return taken[id(task)]
    if isinstance(task, tuple | list):
        return type(task)(_replaced(argument, taken) for argument in task)
    return task


def _parts(calls: Sequence[Call]) -> Iterator[int]:
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
        size[call.layer] = packed_bytes(call.source.commit.plan, last - first)
    wanted = task_bytes(sum(size.values()))
    for call in calls:
        first, last = frames[call.layer]
        parts = -(-size[call.layer] // wanted)
        yield (call.first + call.last - 2 * first) * parts // max(2 * (last - first), 1)
