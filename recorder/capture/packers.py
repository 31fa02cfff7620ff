"""Choose what packs a layer's outputs: on the host or on the device, zeros and ones or values."""

from __future__ import annotations

from typing import TypeAlias

import torch

from recorder.capture.device.packing import DevicePacker
from recorder.capture.device.transfer import TransferRings
from recorder.capture.device.values import DeviceValuePacker
from recorder.capture.host.host_packing import HostPacker, StagePool, as_array
from recorder.capture.host.native_packing import LEAST_NEURONS, NativePacker
from recorder.capture.host.value_packing import ValuePacker
from recorder.format.planes.scales import find_scale
from recorder.format.planes.values import Pending
from recorder.format.record.metadata import ValuesCommit
from recorder.native.loading import PASS

OnDevice: TypeAlias = DevicePacker | DeviceValuePacker
Packer: TypeAlias = HostPacker | OnDevice


class Packers:
    """Makes the packers of one recording.

    Parameters
    ----------
    pool : StagePool
        Memory for frames that wait on the host.
    rings : TransferRings
        The ways from accelerators to the host.
    only_ones : bool
        Whether other values than 0 and 1 are refused, whatever they are multiples of.
    """

    def __init__(self, pool: StagePool, rings: TransferRings, *, only_ones: bool = False) -> None:
        self._pool = pool
        self._rings = rings
        self.only_ones = only_ones

    def make(
        self,
        device: torch.device,
        pending: Pending,
        dtype: str,
        values: ValuesCommit | None,
        frames: int = 0,
    ) -> Packer:
        """A packer for outputs on a device.

        Parameters
        ----------
        device : torch.device
        pending : bool array, or array of levels, shape [fewer than 8, neurons]
            Frames that come before those that will be pushed; they filled no row before.
        dtype : str
            Data type of the layer's outputs.
        values : ValuesCommit or None
            Scale and range of a layer that puts out other values than 0 and 1.
        frames : int
            The layer's frames so far, pending ones included.
        """
        on_host = self.is_on_host(device)
        if values is None:
            if on_host:
                return self._make_on_host(pending, dtype)
            return DevicePacker(pending, device, self._rings.of(device))
        host = ValuePacker(pending, self._pool, values.scale, dtype, values, frames)
        if on_host:
            return host
        return DeviceValuePacker(host, device, self._rings.of(device), getattr(torch, dtype))

    def _make_on_host(self, pending: Pending, dtype: str) -> HostPacker:
        if pending.shape[1] < LEAST_NEURONS or PASS.ready(dtype) is None:
            return HostPacker(pending, self._pool)
        return NativePacker(pending, self._pool, PASS, dtype)

    def faster(self, packer: HostPacker, slots: int, dtype: torch.dtype) -> HostPacker:
        """The compiled packer behind the frames of one of numpy's, which has packed ``slots`` since then.

        Until it is there, or where it would be no faster, that packer itself.
        """
        if type(packer) is not HostPacker or packer.neurons < LEAST_NEURONS:
            return packer
        name = str(dtype).removeprefix("torch.")
        if PASS.ready(name) is None:
            PASS.note(slots, name)
            return packer
        following = NativePacker(packer.drain(), self._pool, PASS, name)
        following.ready = packer.ready
        return following

    def follow(self, packer: HostPacker, dtype: str, values: ValuesCommit, frames: int = 0) -> ValuePacker:
        """A packer for values on the host, which goes on behind the frames of one of zeros and ones."""
        following = ValuePacker(packer.drain(), self._pool, values.scale, dtype, frames=frames)
        following.ready = packer.ready
        return following

    def is_on_host(self, device: torch.device) -> bool:
        """True if outputs on this device are packed by the host."""
        return device.type == "cpu"

    def find_values(self, spikes: torch.Tensor, dtype: str, *, has_fired: bool) -> ValuesCommit | None:
        """Scale of an output with other values than 0 and 1, which a layer's data type gives back; or None.

        Once the layer has put out ones, they are the scale.
        """
        if self.only_ones:
            return None
        scale = find_scale(as_array(spikes.detach().cpu()), dtype)
        if scale is None or (scale != 1 and has_fired):
            return None
        return ValuesCommit(scale, 0, 0)
