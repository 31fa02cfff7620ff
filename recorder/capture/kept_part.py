"""Cut the outputs of a layer to the part of it that is kept, before anything is made of them."""

from __future__ import annotations

import torch

from recorder.capture.refusals import NeuronShapeError, other_shape
from recorder.format import LayerCommit
from recorder.format.record.parts import Kept, LayerPart, is_flat
from recorder.parts import Part, PartError

Index = tuple[slice, ...] | torch.Tensor | None


def index_of(neurons: Kept, device: torch.device) -> Index:
    """What gives the kept neurons of a tensor on a device, see `take_neurons`; None for all."""
    if neurons is None:
        return None
    if is_flat(neurons):
        with torch.inference_mode(mode=False):
            return torch.tensor(neurons, dtype=torch.int64, device=device)
    return tuple(slice(each.start, each.stop, each.step) for each in neurons if isinstance(each, range))


def take_neurons(values: torch.Tensor, index: Index, axes: int) -> torch.Tensor:
    """The kept neurons of values, whose neuron axes lie behind so many others."""
    if isinstance(index, tuple):
        return values[(*(slice(None),) * axes, *index)]
    return values if index is None else values.flatten(axes).index_select(axes, index)


class KeptPart:
    """Cuts the outputs of one layer to the part that is kept.

    Parameters
    ----------
    layer : str
        Name of the layer.
    asked : Part

    Attributes
    ----------
    kept : LayerPart or None
        What is kept; None before the first output, and where it is all.
    is_alike : bool
        Whether the newest output has the shape of the one before, its batch included.
    """

    def __init__(self, layer: str, asked: Part) -> None:
        self.layer, self.asked = layer, asked
        self.kept: LayerPart | None = None
        self.is_alike = False
        self._shape: tuple[int, ...] | None = None
        self._last: torch.Size | None = None
        self._index: Index = None
        self._device: torch.device | None = None

    def resume(self, commit: LayerCommit) -> None:
        """Go on with what is kept of a recorded layer."""
        self._shape, self.kept = commit.shape, commit.part

    def cut(self, spikes: torch.Tensor, axes: int, step: int, trial: int) -> torch.Tensor | None:
        """What is kept of an output; None if nothing is of its trial.

        Parameters
        ----------
        spikes : tensor, shape [T, N, *neuron] or [N, *neuron]
        axes : int
            Number of axes in front of the neuron axes.
        step : int
            Number of the first step, for errors.
        trial : int

        Raises
        ------
        NeuronShapeError
            If the output has another neuron shape than before, or not the neurons that are to be kept.
        """
        self.is_alike = spikes.shape == self._last
        if not self.is_alike or spikes.device != self._device:
            self._prepare(tuple(spikes.shape[axes:]), spikes.device, step)
            self._last = spikes.shape
        if self.asked.leaves_out(trial):
            return None
        if self.asked.samples is not None:
            spikes = spikes.narrow(axes - 1, 0, min(self.asked.samples, spikes.shape[axes - 1]))
        return take_neurons(spikes, self._index, axes)

    def _prepare(self, shape: tuple[int, ...], device: torch.device, step: int) -> None:
        if self._shape is None:
            try:
                self.kept = self.asked.of(self.layer, shape)
            except PartError as error:
                raise NeuronShapeError(str(error), self.layer) from error
            self._shape = shape
        elif shape != self._shape:
            raise other_shape(self.layer, shape, self._shape, step)
        if device != self._device:
            self._index = index_of(self.kept.neurons if self.kept else None, device)
            self._device = device
