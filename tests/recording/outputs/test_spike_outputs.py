"""Where spikes are in what a module puts out: tuples, axes, strides, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from frameworks import FEATURES, N, T
from networks import Spiker
from recorder.frameworks import SpikeOutput, SpikingLayerError, find_spiking_layers


def read(output: Any, where: SpikeOutput | None = None) -> torch.Tensor:
    return find_spiking_layers(Spiker(), {"": where})[""].read_spikes(output)


def test_a_bare_tensor_is_never_taken_for_a_tuple() -> None:
    """out[0] of a tensor [N, *neuron] would be sample 0; the whole batch is read."""
    assert torch.equal(read(torch.ones(N, FEATURES)), torch.ones(1, N, FEATURES))
    with pytest.raises(SpikingLayerError, match=r"a tensor of shape \[3, 5\], expected a tuple whose item 0"):
        read(torch.ones(N, FEATURES), SpikeOutput(item=0))


def test_a_tuple_is_never_taken_for_a_tensor() -> None:
    """item=None: a tuple is refused, with its items named."""
    with pytest.raises(
        SpikingLayerError, match=r"layer '' \(Spiker\) put out a tuple of 2 \(a tensor of shape"
    ):
        read((torch.ones(N, FEATURES), None), SpikeOutput(item=None))


def test_item_k_is_read_from_a_tuple_or_list() -> None:
    """SpikeOutput(item=1) reads the second, and refuses an output that has none."""
    membrane, spikes = torch.zeros(N, T, FEATURES), torch.ones(N, T, FEATURES)
    assert read((membrane, spikes), SpikeOutput("NT", item=1)).sum() == spikes.numel()
    assert read([membrane, spikes], SpikeOutput("NT", item=1)).shape == (T, N, FEATURES)
    with pytest.raises(SpikingLayerError, match="a tuple of 1"):
        read((membrane,), SpikeOutput("NT", item=1))


@pytest.mark.parametrize("output", [None, 1.0, (), ("spikes",), {"spikes": torch.ones(1)}, torch.tensor(1.0)])
def test_output_without_a_tensor_of_spikes_is_refused(output: Any) -> None:
    """No tensor first, no tuple, or no batch axis."""
    with pytest.raises(SpikingLayerError, match=r"say where its spikes are|nothing in it"):
        read(output)


@pytest.mark.parametrize("axes", ["TN", "NT"])
def test_multi_step_output_needs_two_axes(axes: str) -> None:
    """[N] cannot be [T, N]."""
    with pytest.raises(SpikingLayerError, match=r"shape \[3\], expected"):
        read(torch.ones(N), SpikeOutput(axes))


def test_neurons_may_have_no_shape_of_their_own() -> None:
    """[N] in a single step is one neuron, of shape ()."""
    assert read(torch.ones(N)).shape == (1, N)
    assert read(torch.ones(T, N), SpikeOutput("TN")).shape == (T, N)


@pytest.mark.parametrize(
    "spikes",
    [
        torch.ones(N, FEATURES, dtype=torch.bool),
        torch.ones(N, FEATURES, dtype=torch.bfloat16),
        torch.ones(N, FEATURES, dtype=torch.int8),
        torch.ones(1, FEATURES).expand(N, FEATURES),
        torch.ones(FEATURES, N).t(),
        torch.ones(N, 2, 3, 4).to(memory_format=torch.channels_last),
        torch.ones(N, FEATURES, requires_grad=True) * 1,
        torch.ones(0, FEATURES),
    ],
    ids=[
        "bool",
        "bfloat16",
        "int8",
        "expanded",
        "transposed",
        "channels_last",
        "with gradient",
        "no samples",
    ],
)
def test_any_tensor_is_read_as_a_view_in_logical_order(spikes: torch.Tensor) -> None:
    """dtype and values stay; nothing is copied; no graph is kept."""
    layer = find_spiking_layers(Spiker(), [Spiker])[""]
    result = layer.read_spikes(spikes)
    assert result.dtype == spikes.dtype
    assert torch.equal(result, spikes.detach()[None])
    assert result.untyped_storage().data_ptr() == spikes.untyped_storage().data_ptr()
    assert result.grad_fn is None
    assert not result.requires_grad


def test_folded_output_is_a_view_whatever_its_strides() -> None:
    """Unfolding [N*T] copies nothing, contiguous or not, inference tensor or not."""
    where = SpikeOutput("N*T", batch_size=N)
    with torch.inference_mode():
        spikes = torch.arange(N * T * FEATURES).reshape(FEATURES, N * T).t()
        result = read(spikes, where)
        assert torch.equal(result, spikes.reshape(N, T, FEATURES).transpose(0, 1))
        assert result.untyped_storage().data_ptr() == spikes.untyped_storage().data_ptr()


def test_sparse_output_is_refused_with_what_to_do() -> None:
    """norse puts out sparse tensors for sparse input; they have no bits to pack."""
    with pytest.raises(SpikingLayerError, match=r"to_dense"):
        read(torch.ones(N, FEATURES).to_sparse())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"axes": "NTC"}, "axes is 'NTC'"),
        ({"item": -1}, "item is -1"),
        ({"item": True}, "item is True"),
        ({"item": ""}, "item is ''"),
        ({"axes": "N*T"}, "cannot be unfolded"),
        ({"axes": "N*T", "batch_size": 0}, "batch_size is 0"),
        ({"axes": "N*T", "num_steps": -1}, "num_steps is -1"),
    ],
)
def test_spike_output_refuses_what_it_cannot_mean(settings: dict[str, Any], message: str) -> None:
    """The error gives field, value and what is expected."""
    with pytest.raises(ValueError, match=message):
        SpikeOutput(**settings)
