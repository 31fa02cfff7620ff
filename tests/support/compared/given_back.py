"""Whether values other than 0 and 1 are given back as they were put out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import analysis
from recorder import Monitor


def as_numbers(values: Any) -> np.ndarray:
    return np.asarray(values.double() if torch.is_tensor(values) else values, np.float64)


def check(monitor: Monitor, path: Path, name: str, given: list[torch.Tensor]) -> None:
    """What is given back, by the monitor and by the recording, is what was put out: value and dtype."""
    steps = monitor.s[name][:]
    expected = np.stack([as_numbers(each) for each in given])
    np.testing.assert_array_equal(np.stack([as_numbers(step) for step in steps]), expected)
    # Sums are those of whole multiples of the scale; what is put out of them is rounded.
    digits = {torch.float16: 1e-3, torch.bfloat16: 1e-2, torch.float32: 1e-6}.get(given[0].dtype, 1e-12)
    rounding = {"rtol": digits, "atol": digits}
    numpy_dtype = (
        "float32" if given[0].dtype == torch.bfloat16 else str(given[0].dtype).removeprefix("torch.")
    )
    assert {step.dtype for step in steps} == {np.dtype(numpy_dtype)}
    layer = analysis.open_recording(path)[name]
    values = layer.values
    assert values.dtype == numpy_dtype
    np.testing.assert_array_equal(as_numbers(values.values).reshape(expected.shape), expected)
    np.testing.assert_array_equal(layer.spikes.values.reshape(expected.shape), expected != 0)
    for of, numbers in (("events", expected != 0), ("magnitude", np.abs(expected)), ("sum", expected)):
        np.testing.assert_allclose(float(layer.firing_rate(of=of)), numbers.mean(), **rounding)
        per_neuron = layer.spike_count(per=layer.dimensions or "layer", of=of) if layer.dimensions else None
        if per_neuron is not None and len(layer.dimensions) == 1:
            np.testing.assert_allclose(per_neuron.values, numbers.sum(axis=(0, 1)), **rounding)
    mean = monitor.get_avg_firing_rate(all=False, module_name=name)
    np.testing.assert_allclose(mean, expected.mean(), **rounding)
    silent = (expected == 0).all(axis=(0, 1)).mean()
    assert monitor.get_nonfire_ratio(all=False, module_name=name) == silent
