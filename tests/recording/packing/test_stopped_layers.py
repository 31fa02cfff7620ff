"""A layer that puts out no spikes stops with a warning, and the others go on."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import analysis
from recorder import NeuronShapeError, SpikeValueError
from recorder.capture.layer_recorder import LOOK_AFTER_CALLS
from recorder.format import RecordingStoppedWarning
from tellers import Pair, Teller, monitor_of

# -- on_error="warn" --------------------------------------------------------------------------------------


def ones_and_zeros(steps: int) -> torch.Tensor:
    return (torch.rand(steps, 2, 3) < 0.5).float()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("bad_step", [0, 20, LOOK_AFTER_CALLS + 20])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (torch.tensor([[0, 0.618034, 1], [0.31831, 0, 1]]), "layer 'b'.*0\\.618.*step {step}"),
        (torch.ones(2, 4), r"layer 'b'.*\(4,\) at step {step}"),
    ],
)
def test_a_layer_that_puts_out_no_spikes_stops_and_the_others_go_on(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    late: bool,
    bad_step: int,
    bad: torch.Tensor,
    said: str,
) -> None:
    if late:
        request.getfixturevalue("on_late_device")
    if bad_step == 0 and bad.shape == (2, 4):
        pytest.skip("the first shape is the layer's")
    steps = bad_step + 300
    a, b = ones_and_zeros(steps), [*ones_and_zeros(steps)]
    b[bad_step] = bad
    net = Pair()
    monitor = monitor_of(net, tmp_path / "run.zarr", on_error="warn")
    monitor.enable()
    with pytest.warns(RecordingStoppedWarning) as caught:  # noqa: PT031 - at the call, or later
        for step in range(steps):
            net(a[step], b[step])
            if step == bad_step - 1:
                monitor.flush()
        monitor.get_avg_firing_rate()
        monitor.close()
    (warning,) = caught
    assert re.search(said.format(step=bad_step), str(warning.message))
    assert ".. " not in str(warning.message).replace("...", "")
    recording = analysis.open_recording(tmp_path / "run.zarr")
    np.testing.assert_array_equal(recording["a"].spikes.values.reshape(a.shape), a.numpy() > 0)
    if bad_step == 0 and "b" not in recording:
        return
    kept = recording["b"].spikes
    steps_kept = kept.step.values[::2]
    assert bad_step not in steps_kept
    assert steps_kept[:bad_step].tolist() == list(range(bad_step))
    if not late and bad_step < LOOK_AFTER_CALLS:
        assert len(steps_kept) == bad_step
    expected = np.stack([b[step].numpy() for step in steps_kept]) if len(steps_kept) else np.empty((0, 2, 3))
    np.testing.assert_array_equal(kept.values.reshape(-1, 2, 3), expected > 0)


def test_where_errors_are_raised_a_layer_goes_on(tmp_path: Path) -> None:
    net = Pair()
    with monitor_of(net, tmp_path / "run.zarr"):
        net(torch.ones(2, 3), torch.ones(2, 3))
        with pytest.raises(SpikeValueError):
            net(torch.ones(2, 3), torch.full((2, 3), 0.5))
        with pytest.raises(NeuronShapeError):
            net(torch.ones(2, 3), torch.ones(2, 4))
        net(torch.ones(2, 3), torch.ones(2, 3))
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert recording["b"].spikes.step.values[::2].tolist() == [0, 3]


def test_a_stopped_layer_is_recorded_again_after_closing_or_resetting(tmp_path: Path) -> None:
    net = Pair()
    good, bad = torch.ones(2, 3), torch.full((2, 3), 0.5)
    monitor = monitor_of(net, tmp_path / "run.zarr", on_error="warn")
    for begin in (monitor.close, monitor.reset):
        monitor.enable()
        net(good, good)
        with pytest.warns(RecordingStoppedWarning, match="layer 'b'"):
            net(good, bad)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net(good, bad)
        begin()
        monitor.enable()
        net(good, good)
    monitor.close()
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert recording["a"].frames == recording["b"].frames == 2


def test_steps_of_the_others_stay_aligned_with_each_other(tmp_path: Path) -> None:
    class Three(Pair):
        def __init__(self) -> None:
            super().__init__()
            self.c = Teller()

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> None:
            super().forward(a, b)
            self.c(a)

    net = Three()
    with monitor_of(net, tmp_path / "run.zarr", on_error="warn") as monitor:
        net(torch.ones(1, 2), torch.ones(1, 2))
        with pytest.warns(RecordingStoppedWarning, match="layer 'b'"):
            net(torch.ones(1, 2), torch.full((1, 2), torch.nan))
        for _ in range(3):
            with monitor.trial(label=1):
                net(torch.ones(1, 2), torch.full((1, 2), torch.nan))
    recording = analysis.open_recording(tmp_path / "run.zarr")
    for name in "ac":
        assert recording[name].spikes.step.values.tolist() == [0, 1, 2, 3, 4]
        assert recording[name].spikes.trial.values.tolist() == [-1, -1, 0, 1, 2]
    assert recording["b"].spikes.step.values.tolist() == [0]
