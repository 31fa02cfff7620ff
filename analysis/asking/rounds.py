"""Several answers at once, each chunk of spikes read once: tasks that count in the same frames are joined.

Answers share tasks of equal names, whoever computes them: all that is made of the same sums of spikes. What
remains are tasks that read the same chunks and make something else of them, such as spikes per step and per
label. They are joined to rounds, see `analysis.kernels.rounds`: by Dask itself, when it culls the graph of
all that it computes together, see `spiketape_scheduler`, or beforehand, by `compute`. A round has the tasks
of one part of a layer, of as many bytes as a task should read. What reads which frames is found here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from dask import base
from dask.base import is_dask_collection
from dask.utils import ensure_dict

from analysis.asking.planning import limits
from analysis.kernels.counting.tasks import count_frames
from analysis.kernels.rounds import in_one_round, result_of
from analysis.kernels.selecting.source import Source
from spiketape_scheduler import Call, Graph, Joining, SpikeLayer, joined
from spiketape_worker import Parcel


def compute(*answers: Any, **options: Any) -> tuple[Any, ...]:
    """Compute several answers at once, and read and decode each chunk of spikes once for all of them.

    So do `dask.compute`, `dask.persist` and ``.compute()`` of an ``xarray.Dataset`` of several statistics, on
    any scheduler, unless Dask is told to leave graphs as they are, by ``optimize_graph=False`` or
    ``dask.config.set(array_optimize=None)``: then chunks are read again for each way in which spikes are
    grouped. This function joins the tasks in any case. Arrays such as `Layer.spikes`, and correlations over
    many small recordings, still read for themselves; so do answers that have gone through `dask.optimize`.

    What reads the same chunks becomes one task, a round, which reads some 16 to 64 MiB of packed bits, and
    keeps at most 128 MiB of them. A chunk on the border of two rounds may be read by both, and some are read
    again in recordings of hundreds of GiB. There are fewer tasks, which take longer: of a recording of less
    than 16 MiB for each core, on a disk nearby, `dask.compute` with ``optimize_graph=False`` may take less
    time.

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


def join_rounds(graph: Graph) -> dict[Any, Any]:
    """New tasks for a graph: rounds, and tasks that take their results from there instead of counting.

    Tasks that have nobody to share a round with stay as they are; those of one question share no frames.
    """
    return joined(graph, joining_of(graph))


def joining_of(graph: Graph) -> Joining:
    """All that it takes to join the tasks of a graph."""
    return Joining([*calls_in(graph)], limits(), Parcel(in_one_round), Parcel(result_of))


def layer_of(tasks: Graph) -> SpikeLayer:
    """The tasks of an array, which Dask joins with those of others that are computed together with it."""
    return SpikeLayer(tasks, joining_of)


def sources_in(graph: Graph) -> dict[Any, Source]:
    """The sources that travel as tasks of their own, by key."""
    return {
        key: task.content
        for key, task in graph.items()
        if isinstance(task, Parcel) and isinstance(task.content, Source)
    }


def calls_in(graph: Graph) -> Iterator[Call]:
    """The calls of functions that read spikes of a range of frames."""
    sources = {
        key: ((source.identity, source.layer), source.commit.plan.neurons)
        for key, source in sources_in(graph).items()
    }
    for key, task in graph.items():
        for call in _nested_calls(task):
            given = [argument for argument in call[1:] if isinstance(argument, str) and argument in sources]
            if not given or (function := call[0].content) is count_frames:  # which reads tables alone
                continue
            named = dict(zip(_parameters(function), call[1:], strict=False))
            first, last = named.get("first"), named.get("last")
            if isinstance(first, int) and isinstance(last, int):
                yield Call(key, call, *sources[given[0]], first, last)


@cache
def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def _nested_calls(task: Any) -> Iterator[tuple[Any, ...]]:
    if not isinstance(task, tuple | list):
        return
    if isinstance(task, tuple) and task and isinstance(task[0], Parcel):
        yield task
    for argument in task:
        if isinstance(argument, tuple | list):
            yield from _nested_calls(argument)
