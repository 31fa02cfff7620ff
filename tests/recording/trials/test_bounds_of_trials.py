"""A trial is of one thread, begins between forwards, and ends where its recording does."""

from __future__ import annotations

from pathlib import Path

import pytest

import analysis
from threads import in_thread
from whole_forwards import Halting, check_whole, inputs, monitored


def test_recording_does_not_go_on_in_a_trial_that_close_has_ended(tmp_path: Path) -> None:
    net = Halting()
    monitor = monitored(tmp_path, net)
    monitor.enable()
    with monitor.trial(label="cut"):
        net(inputs(0))
        monitor.close()
        with pytest.raises(
            RuntimeError, match=r"trial 0 is still open; leave its `with` block before.*enable"
        ):
            monitor.enable()
        net(inputs(1))
    monitor.enable()
    with monitor.trial(label="whole"):
        net(inputs(2))
    monitor.close()
    check_whole(tmp_path, [inputs(0), inputs(2)])
    assert list(analysis.open_recording(tmp_path / "run.zarr").trials["label"]) == ["cut"] * 2 + ["whole"] * 2


def test_a_trial_that_was_made_before_a_reset_labels_what_is_recorded_in_it(tmp_path: Path) -> None:
    net = Halting()
    with monitored(tmp_path, net) as monitor:
        trial = monitor.trial(label="after")
        net(inputs(0))
        monitor.reset()
        with trial:
            net(inputs(1))
    assert list(analysis.open_recording(tmp_path / "run.zarr").trials["label"]) == ["after"] * 2


@pytest.mark.filterwarnings("ignore::recorder.format.StepsWarning")
@pytest.mark.parametrize("calls", ["the network", "its layers"])
def test_a_trial_belongs_to_the_thread_that_opened_it(tmp_path: Path, calls: str) -> None:
    net = Halting()

    def run() -> None:
        net(inputs(1)) if calls == "the network" else (net.a(inputs(1)), net.b(inputs(1)), net.c(inputs(1)))

    with monitored(tmp_path, net) as monitor:
        with monitor.trial(label="mine"):
            run()
            (error,) = in_thread(run)
            assert "thread 'second' runs the network inside trial 0, which thread 'MainThread'" in str(error)
            run()
        assert in_thread(run) == []
    check_whole(tmp_path, [inputs(1)] * 3)


@pytest.mark.parametrize("by", ["hook", "thread"])
def test_no_trial_begins_inside_a_forward(tmp_path: Path, by: str) -> None:
    net = Halting()
    errors: list[BaseException] = []
    with monitored(tmp_path, net) as monitor:
        net(inputs(0))

        def begin() -> None:
            try:
                monitor.trial(label="half").__enter__()
            except RuntimeError as error:
                errors.append(error)

        net.halfway = begin if by == "hook" else lambda: in_thread(begin)
        net(inputs(1))
        net.halfway = lambda: None
        with monitor.trial(label="whole"):
            net(inputs(2))
    (error,) = errors
    assert "beginning a trial cannot be done inside a forward" in str(error)
    check_whole(tmp_path, [inputs(0), inputs(1), inputs(2)])
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert [recording[name].spikes.trial.values.tolist() for name in "abc"] == [[-1] * 4 + [0] * 2] * 3
