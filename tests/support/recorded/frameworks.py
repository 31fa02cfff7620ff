"""The frameworks whose networks are recorded, where they are installed, and what their neurons put out."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from recorder.frameworks import SpikingLayer, find_spiking_layers

# Awkward on purpose: all sizes differ, so that no transposition goes unnoticed.
T, N, FEATURES = 4, 3, 5


def framework(name: str) -> Any:
    """Import a module of a framework, or skip the test, visibly."""
    with warnings.catch_warnings():
        # SpikingJelly 0.0.0.0.14 and norse script functions at import; torch 2.13 warns of it.
        warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as missing:
            pytest.skip(f"{name} cannot be imported: {missing}")


def hooked_output(layer: SpikingLayer, net: nn.Module, *inputs: Any, **settings: Any) -> Any:
    """What a forward hook on the layer is given, when the network runs once."""
    outputs: list[Any] = []
    with layer.module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output)):
        net(*inputs, **settings)
    assert len(outputs) == 1
    return outputs[0]


def currents(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 8


def assert_read(
    module: nn.Module, inputs: torch.Tensor, expected: Callable[[Any], torch.Tensor], **settings: Any
) -> torch.Tensor:
    """Find the module, run it, and compare what is read with ``expected(raw output)``."""
    layer = find_spiking_layers(module)[""]
    output = hooked_output(layer, module, inputs, **settings)
    spikes = layer.read_spikes(output)
    raw = output[0] if isinstance(output, (tuple, list)) else output
    assert torch.equal(spikes, expected(output))
    assert spikes.untyped_storage().data_ptr() == raw.untyped_storage().data_ptr(), "a copy, not a view"
    assert not spikes.requires_grad
    return spikes


def single_step(output: Any) -> torch.Tensor:
    return output[None]


def multi_step(output: Any) -> torch.Tensor:
    return output


def first_single_step(output: Any) -> torch.Tensor:
    return output[0][None]


def first_multi_step(output: Any) -> torch.Tensor:
    return output[0]


def norse_neuron(name: str) -> Any:
    norse = framework("norse.torch")
    if not hasattr(norse, name):
        pytest.skip(f"this version of norse has no {name}")
    sizes = (FEATURES, 6) if "Recurrent" in name or name == "CobaLIFCell" else ()
    if not name.startswith("Izhikevich"):
        return getattr(norse, name)(*sizes)
    tonic_spiking = framework("norse.torch.functional.izhikevich").tonic_spiking
    return getattr(norse, name)(*sizes, spiking_method=tonic_spiking)
