"""Spike trains of a layer in memory, as the objects that pynapple and neo know."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.arguments import QuestionError
from analysis.display import bytes_text
from analysis.export.contents import Contents, Run
from analysis.export.timeline import Timeline, count_events, spike_positions
from analysis.export.trial_tables import attached_columns, without_missing
from analysis.kernels.selecting.source import Source, real_neurons
from recorder.format.layout import neuron_dimensions

# Bytes of a spike time, and about those of the object of a neuron without spikes.
_SPIKE_BYTES: Final = 8
_NEURON_BYTES: Final = 4096


def needed(package: str, extra: str) -> Any:
    """A package of an extra.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed; it says what installs it.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this needs {error.name}, which is not installed: pip install 'spiketape[{extra}]'",
            name=error.name,
        ) from error


def to_pynapple(contents: Contents, timeline: Timeline, max_bytes: int, run: Run) -> Any:
    """The neurons of a layer as a ``pynapple.TsGroup``; see `Layer.to_pynapple`."""
    nap = needed("pynapple", "neuro")
    (sources,) = contents.layers
    observed = timeline.observed(sources) * timeline.seconds
    support = nap.IntervalSet(start=observed[:, 0], end=observed[:, 1])
    trains = {
        neuron: nap.Ts(times, time_support=support)
        for neuron, times in spike_times(timeline, sources, max_bytes, run)
    }
    places = neuron_places(sources[0])
    return nap.TsGroup(trains, time_support=support, metadata=places.set_index("neuron", drop=False))


def presentations_table(contents: Contents, timeline: Timeline, taken: Collection[str] = ()) -> pd.DataFrame:
    """A row for each presentation, with the seconds at which it begins and ends, and all that is attached.

    ``trial_`` is in front of the names of attached columns that are those of others, or in ``taken``.
    """
    found = timeline.presentations
    begins = np.concatenate([np.empty(0), *timeline.starts]).astype(np.int64)
    steps = _joined(each.steps for each in found)
    columns: dict[str, Any] = {
        "start_time": begins * timeline.seconds,
        "stop_time": (begins + steps) * timeline.seconds,
    }
    if contents.several:
        names = np.array(contents.members.names, object)
        columns["recording"] = np.repeat(names, [len(each) for each in found])
    columns["trial"] = _joined(each.trial for each in found)
    columns["sample"] = _joined(each.sample for each in found)
    columns["first_step"] = _joined(each.first_step for each in found)
    columns["steps"] = steps
    rows = [each.row for each in found]
    attached, _ = attached_columns(list(zip(contents.tables, rows, strict=True)), taken={*columns, *taken})
    return pd.DataFrame(columns | attached)


def to_neo(contents: Contents, timeline: Timeline, max_bytes: int, run: Run) -> Any:
    """The neurons of a layer as a ``neo.Block``; see `Layer.to_neo`."""
    neo = needed("neo", "neuro")
    seconds = needed("quantities", "neuro").s
    (sources,) = contents.layers
    name = sources[0].layer
    end = timeline.steps * timeline.seconds
    block = neo.Block(name=name, description=f"layer {name} of {sources[0].store.location}")
    segment = neo.Segment(name="presentations, end to end")
    block.segments.append(segment)
    places = neuron_places(sources[0])
    notes = places.to_dict("records")
    for note, (neuron, times) in zip(notes, spike_times(timeline, sources, max_bytes, run), strict=True):
        segment.spiketrains.append(
            neo.SpikeTrain(
                times * seconds,
                t_start=0 * seconds,
                t_stop=end * seconds,
                sampling_period=timeline.seconds * seconds,
                name=f"{name}[{neuron}]",
                **{str(key): value for key, value in note.items()},
            )
        )
    table = presentations_table(contents, timeline)
    begins, ends = table.pop("start_time"), table.pop("stop_time")
    segment.epochs.append(_epoch(neo, seconds, "presentations", begins, ends - begins, table))
    observed = timeline.observed(sources) * timeline.seconds
    lengths = observed[:, 1] - observed[:, 0]
    segment.epochs.append(_epoch(neo, seconds, "recorded", observed[:, 0], lengths, pd.DataFrame()))
    block.check_relationships()
    return block


def _epoch(neo: Any, seconds: Any, name: str, begin: Any, duration: Any, table: pd.DataFrame) -> Any:
    """Stretches of time, and what is known of each; labelled by the label, or else the trial."""
    columns = {str(column): without_missing(table[column].array)[0] for column in table}
    named = columns.get("label", columns.get("trial", np.full(len(begin), "")))
    # neo has arrays of numbers or of text, and none of objects.
    notes = {key: _without_objects(values) for key, values in columns.items()}
    return neo.Epoch(
        times=np.asarray(begin) * seconds,
        durations=np.asarray(duration) * seconds,
        labels=_without_objects(named).astype(str),
        name=name,
        array_annotations=notes,
    )


def _without_objects(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype != object:
        return values
    kinds = {type(value) for value in values.tolist()}
    return values.astype(str) if kinds not in ({int}, {bool}) else values.astype(kinds.pop())


def _joined(parts: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *parts])


def neuron_places(source: Source) -> pd.DataFrame:
    """Layer and flat index of each selected neuron, and its place along each axis."""
    neurons, shape = real_neurons(source), source.commit.shape
    along = zip(neuron_dimensions(shape), np.unravel_index(neurons, shape or (1,)), strict=False)
    return pd.DataFrame({"layer": source.layer, "neuron": neurons} | dict(along))


def spike_times(
    timeline: Timeline, sources: Sequence[Source], max_bytes: int, run: Run
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Each selected neuron of a layer, with its spike times in seconds, ascending.

    Raises
    ------
    QuestionError
        If all of them would take more memory than is allowed.
    """
    neurons = sources[0].neurons
    _check_size(f"{neurons} neurons", neurons * _NEURON_BYTES, sources[0].layer, max_bytes)
    counts = count_events(sources, run)
    spikes = int(counts.sum())
    size = spikes * _SPIKE_BYTES + neurons * _NEURON_BYTES
    _check_size(f"{spikes} spikes of {neurons} neurons", size, sources[0].layer, max_bytes)
    begin = 0
    for numbers, positions in spike_positions(timeline, sources, counts, run):
        some = counts[begin : begin + len(numbers)]
        begin += len(numbers)
        yield from zip(
            numbers.tolist(), np.split(positions * timeline.seconds, np.cumsum(some)[:-1]), strict=True
        )


def _check_size(what: str, size: int, layer: str, max_bytes: int) -> None:
    if size > max_bytes:
        raise QuestionError(
            f"{what} of layer {layer!r} would take about {bytes_text(size)} as objects, and max_bytes allows "
            f"{bytes_text(max_bytes)}; select fewer neurons or trials, raise max_bytes, or export to Parquet "
            "or NWB"
        )
