"""What recordings know of connections: the fan-outs of layers, and what is not covered by them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.arguments import QuestionError
from analysis.asking.kept import kept_text
from analysis.kernels.selecting.source import Source, real_neurons
from recorder.format import RecordingFormatError
from recorder.format.connections import Connections, FanOut, Reader

Weights = Literal["all", "nonzero"]
# Whether an event is an operation for each weight, or a value of 3, say, is three.
OperationsOf = Literal["events", "magnitude"]
_SHOWN = 10
# Neurons whose fan-outs, where they differ, are held at once; a stranger's recording may claim any number.
_MOST_NEURONS = 2**27


def connections_of(layers: Sequence[Sequence[Source]]) -> list[Connections]:
    """The connections of each recording.

    Raises
    ------
    QuestionError
        If a recording has none.
    """
    found = []
    for source in layers[0] if layers else ():
        if source.connections is None:
            raise QuestionError(
                f"{source.store.location} does not know which weight layers read its layers: the network was "
                "compiled or never called as a whole while it was recorded, or the recording was made by an "
                "older recorder or elsewhere. Record a forward of the network itself, without torch.compile"
            )
        found.append(source.connections)
    return found


def uncovered_of(connections: Sequence[Connections]) -> dict[str, str]:
    """What reads neither a layer nor the input of the network, and why it is not covered."""
    return {name: why for one in connections for name, why in one.uncovered.items()}


def readers_of_values(layers: Sequence[Sequence[Source]], of: OperationsOf) -> dict[str, str]:
    """What reads layers that have put out other values than 0 and 1, of which events tell no operations."""
    what = "other values than 0 and 1" if of == "events" else "other values than whole numbers"
    return {
        reader.name: f"reads layer {source.layer!r}, which puts out {what}"
        for layer in layers
        for source in layer
        if not _tells(source, of)
        for reader in readers_of(source)
    }


def _tells(source: Source, of: OperationsOf) -> bool:
    """True if events, or magnitudes, of a layer tell the operations that it causes."""
    values = source.commit.values
    return not values or (of == "magnitude" and values.scale == 1)


def readers_of_the_rest(layers: Sequence[Sequence[Source]], of: OperationsOf) -> dict[str, str]:
    """What reads layers of which some neurons were kept, unless neurons are selected: it reads all."""
    return {
        reader.name: f"reads all of layer {source.layer!r}{kept_text(source)}"
        for layer in layers
        for source in layer
        if source.commit.along is not None and source.selection.neurons is None
        for reader in told_readers_of(source, of)
    }


def has_some_frames(layer: Sequence[Source]) -> bool:
    """Whether only some samples or trials were kept of a layer."""
    parts = [source.commit.part for source in layer]
    return any(part is not None and (part.samples is not None or part.trials_every > 1) for part in parts)


def readers_of_some_frames(layers: Sequence[Sequence[Source]], of: OperationsOf) -> list[str]:
    """What reads layers of which only some samples or trials were kept."""
    those = [source for layer in layers if has_some_frames(layer) for source in layer]
    return [*dict.fromkeys(reader.name for source in those for reader in told_readers_of(source, of))]


def listed_uncovered(uncovered: dict[str, str]) -> str:
    """The same as text, some of it."""
    shown = [f"{name!r} ({why})" for name, why in [*uncovered.items()][:_SHOWN]]
    more = len(uncovered) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


@dataclass(frozen=True, eq=False)
class LayerFanOut:
    """The fan-out of the selected neurons of a layer of one recording, in all of its readers together.

    Attributes
    ----------
    constant : int or None
        What all neurons have, or None.
    each : int64 array, in the shape of the selected neurons, or None
        What each has, where they differ.
    """

    constant: int | None
    each: NDArray[np.int64] | None = None


def readers_of(source: Source) -> tuple[Reader, ...]:
    """Weight layers that read a layer."""
    if source.connections is None:
        return ()
    return tuple(source.connections.layers.get(source.layer, ()))


def told_readers_of(source: Source, of: OperationsOf, without: Collection[str] = ()) -> tuple[Reader, ...]:
    """Those of which spikes tell the operations: of a layer with other values than 0 and 1 maybe none."""
    if not _tells(source, of):
        return ()
    return tuple(reader for reader in readers_of(source) if reader.name not in without)


def fan_out_of(source: Source, weights: Weights, without: Collection[str] = ()) -> LayerFanOut:
    """The fan-out of a layer in all of its readers, but for those ``without`` which it is asked.

    Raises
    ------
    QuestionError
        If weights of 0 are to be left out, and how many there were was too much to be kept.
    RecordingFormatError
        If what is stored is damaged, or of another shape than the layer.
    """
    fan_outs = [
        _chosen(reader, source, weights) for reader in readers_of(source) if reader.name not in without
    ]
    if all(fan_out.is_constant for fan_out in fan_outs):
        return LayerFanOut(sum(fan_out.times for fan_out in fan_outs))
    shape = source.commit.shape
    if math.prod(shape) > _MOST_NEURONS:
        raise QuestionError(
            f"{source.store.location}: layer {source.layer!r} has {math.prod(shape)} neurons, whose fan-outs "
            f"differ; expected at most {_MOST_NEURONS}"
        )
    total = np.zeros(shape, np.int64)
    for fan_out in fan_outs:
        try:
            total += fan_out.array(shape)
        except RecordingFormatError as error:
            raise RecordingFormatError(f"{source.store.location}: layer {source.layer!r}: {error}") from error
    if source.along is not None:
        total = total.reshape(-1)[real_neurons(source)].reshape(source.neuron_shape)
    return LayerFanOut(None, total)


def _chosen(reader: Reader, source: Source, weights: Weights) -> FanOut:
    if weights == "all":
        return reader.fan_out
    if reader.nonzero_fan_out is None:
        raise QuestionError(
            f"{source.store.location}: which weights of {reader.name!r} were 0 was too much to keep; "
            'ask with weights="all"'
        )
    return reader.nonzero_fan_out
