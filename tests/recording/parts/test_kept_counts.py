"""Of a layer of counts a monitor keeps how often each neuron fired in each sample of each trial, exactly."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import analysis
from analysis.keeping import find_problems
from networks import Branching, Threshold
from recorder import Monitor, Signal, SpikeDataset, SpikeOutput, SpikeValueError, write_recording
from recorder.format.errors import NotKeptError
from recorder.keeping.digest import digest_recording
from recorder.stores import Folder, open_store
from recorder.tape import TapeReader
from recorder.tape.layers.counts_reading import CountsReader
from recorder.tape.layers.counts_writing import Samples

NAME, SHAPE = "layer", (3, 5)


class Network(nn.Module):
    """One layer that puts out what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def monitor_of(path: Path, *, axes: str = "n ...", **options: Any) -> tuple[Monitor, Network]:
    net = Network()
    options = {"keep": {NAME: "counts"}, **options}
    return Monitor(net, layers={NAME: SpikeOutput(axes)}, store=path, durability="process", **options), net


def made(steps: int, samples: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return (torch.rand(steps, samples, *SHAPE) < 0.4).float()


def reader_of(path: Path, name: str = NAME) -> CountsReader:
    reader = TapeReader.open(open_store(path, read_only=True))
    assert find_problems(reader) == []
    layer = reader.layers[name]
    assert isinstance(layer, CountsReader)
    return layer


def stored(path: Path) -> list[np.ndarray]:
    """Counts of each segment, [batch, *neuron]."""
    layer = reader_of(path)
    rows = layer.counts(0, layer.commit.counts_checksums.rows)
    return np.split(rows, layer.first_rows()[1:-1].tolist())


def check(path: Path, expected: list[torch.Tensor]) -> None:
    found = stored(path)
    assert len(found) == len(expected)
    for counts, spikes in zip(found, expected, strict=True):
        np.testing.assert_array_equal(counts, spikes.sum(0).numpy())


@pytest.mark.parametrize("axes", ["n ...", "t n ..."])
def test_each_sample_of_each_trial_and_run_has_its_counts(tmp_path: Path, axes: str) -> None:
    runs = [made(300, 3), made(5, 2, seed=1), made(9, 4, seed=2), made(2, 1, seed=3)]
    monitor, net = monitor_of(tmp_path / "run", axes=axes)
    with monitor:
        for number, spikes in enumerate(runs):
            pieces = spikes if axes == "n ..." else [spikes]
            if number == 2:
                for piece in pieces:
                    net(piece)
                continue
            with monitor.trial(label=number):
                for piece in pieces:
                    net(piece)
    check(tmp_path / "run", runs)
    segments = reader_of(tmp_path / "run").segments()
    assert segments.rows.tolist() == [
        [0, 0, 300, 3, 0], [900, 300, 5, 2, 1], [910, 305, 9, 4, -1], [946, 314, 2, 1, 2],
    ]  # fmt: skip
    events = sum(float(spikes.sum()) for spikes in runs)
    assert monitor.get_avg_firing_rate() == events / sum(spikes.numel() for spikes in runs)
    assert not (tmp_path / "run/layers/layer/spikes").exists()


def test_a_commit_within_a_trial_parts_counts_and_changes_no_answer(tmp_path: Path) -> None:
    spikes = made(23, 3)
    for name in ("once", "often"):
        monitor, net = monitor_of(tmp_path / name)
        with monitor:
            with monitor.trial(label=[1, 2, 1]):
                for number, step in enumerate(spikes):
                    net(step)
                    if name == "often" and number in (0, 4, 5, 21):
                        monitor.flush()
                        sofar = spikes[: number + 1].numpy().astype(bool)
                        assert monitor.get_avg_firing_rate() == sofar.mean()
                        assert monitor.get_nonfire_ratio() == (sofar.sum((0, 1)) == 0).mean()
            assert monitor.get_avg_firing_rate() == spikes.numpy().astype(bool).mean()
    check(tmp_path / "once", [spikes])
    check(tmp_path / "often", [spikes[:1], spikes[1:5], spikes[5:6], spikes[6:22], spikes[22:]])
    once, often = (analysis.open_recording(tmp_path / name) for name in ("once", "often"))
    assert once.digest() == often.digest()
    for per in ("trial", "presentation", "label"):
        assert once.firing_rate(per=per).compute().identical(often.firing_rate(per=per).compute())
        assert once.silent_ratio(per=per).compute().identical(often.silent_ratio(per=per).compute())


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_packed_rows_are_counted_by_sample_as_plain_numpy_counts(data: st.DataObject) -> None:
    """Runs begin and end anywhere in a row, and come in pieces of any size."""
    batch, neurons = (
        data.draw(st.sampled_from([1, 2, 3, 4, 6, 7, 8, 12, 16, 25])),
        data.draw(st.integers(1, 9)),
    )
    first_frame, steps = data.draw(st.integers(0, 30)), data.draw(st.sampled_from([1, 2, 3, 9, 40, 300]))
    last_frame = first_frame + steps * batch
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    density = data.draw(st.sampled_from([0.1, 0.7, 1]))
    frames = random.random((-(-last_frame // 8) * 8, neurons)) < density
    rows = np.packbits(frames, axis=0)
    cuts = data.draw(st.lists(st.integers(first_frame, last_frame), max_size=5))
    samples = Samples(first_frame, batch, neurons)
    for first, last in pairwise([first_frame, *sorted({*cuts} - {first_frame, last_frame}), last_frame]):
        # The piece that has them may begin before.
        begin = data.draw(st.integers(0, first // 8))
        samples.add(rows[begin : -(-last // 8)], begin * 8, first, last)
    expected = frames[first_frame:last_frame].reshape(steps, batch, neurons).sum(axis=0)
    np.testing.assert_array_equal(samples.counts(), expected)
    np.testing.assert_array_equal(samples.of_neurons(), expected.sum(axis=0))


def test_counts_go_on_when_a_recording_is_resumed(tmp_path: Path) -> None:
    spikes = made(11, 3)
    for first, last in ((0, 3), (3, 7), (7, 11)):
        monitor, net = monitor_of(tmp_path / "run", resume=True)
        with monitor:
            for step in spikes[first:last]:
                net(step)
            assert monitor.get_avg_firing_rate() == spikes[:last].numpy().astype(bool).mean()
    check(tmp_path / "run", [spikes[:3], spikes[3:7], spikes[7:]])


def test_memory_for_rows_that_wait_to_be_counted_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.session.rows.PUT_BYTES", 64)
    spikes = made(400, 3)
    monitor, net = monitor_of(tmp_path / "run", axes="t n ...")
    with monitor, monitor.trial():
        for steps in spikes.split(25):
            net(steps)
            waiting = monitor._session._tape._layers.get(NAME)
            if waiting is not None:
                monitor._session._writer.wait()
                # Those of the newest forward, which might be given up yet, and of the one before.
                assert sum(map(len, waiting._spikes._waiting)) * 8 <= 2 * 25 * 3 + 8
    check(tmp_path / "run", [spikes])


@pytest.mark.parametrize("behaviour", ["interrupt", "fail"])
def test_a_forward_that_is_cut_short_counts_as_it_does_in_bits(tmp_path: Path, behaviour: str) -> None:
    inputs = torch.rand(5, 2, 4)
    found = {}
    for keep in ("counts", "spikes"):
        net = Branching()
        monitor = Monitor(net, store=tmp_path / keep, layers=[Threshold], keep=keep, durability="process")
        monitor.enable()
        for x in inputs[:4]:
            net(x)
        net.behaviour = behaviour
        with pytest.raises((KeyboardInterrupt, ArithmeticError)):
            net(inputs[4])
        monitor.close()
        recording = analysis.open_recording(tmp_path / keep)
        found[keep] = recording.spike_count(per=("layer", "sample")).compute()
    assert found["counts"].identical(found["spikes"])


def test_a_forward_that_close_gives_up_is_not_counted(tmp_path: Path) -> None:
    class Closing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = Threshold(), Threshold()
            self.monitor: Monitor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.one(x)
            if self.monitor is not None:
                self.monitor.close()
            return self.other(x)

    net, inputs = Closing(), torch.rand(6, 3, 4)
    monitor = Monitor(net, store=tmp_path / "run", layers=[Threshold], keep={"one": "counts"})
    monitor.enable()
    for x in inputs[:5]:
        net(x)
    net.monitor = monitor
    net(inputs[5])
    layer = reader_of(tmp_path / "run", "one")
    assert layer.frames == 15
    np.testing.assert_array_equal(layer.counts(0, 3), (inputs[:5] > 0.5).sum(0))


def test_a_part_is_counted_and_beside_it_signals_are_recorded(tmp_path: Path) -> None:
    trials = [made(6, 4, seed=number) for number in range(4)]
    options: dict[str, Any] = {"neurons": [1, 7, 14], "samples": 2, "trials_every": 3}
    monitor, net = monitor_of(tmp_path / "run", signals=Signal("input", every=2), **options)
    with monitor:
        for spikes in trials:
            with monitor.trial():
                for step in spikes:
                    net(step)
    found = stored(tmp_path / "run")
    assert [*map(len, found)] == [2, 2]
    for counts, spikes in zip(found, (trials[0], trials[3]), strict=True):
        np.testing.assert_array_equal(counts, spikes[:, :2].flatten(2)[:, :, [1, 7, 14]].sum(0))
    assert reader_of(tmp_path / "run").signals["input"].frames == 2 * 3 * 4


def test_other_values_than_zeros_and_ones_are_refused(tmp_path: Path) -> None:
    monitor, net = monitor_of(tmp_path / "run")
    with monitor:
        net(made(1, 2)[0])
        with pytest.raises(SpikeValueError, match="Counts are kept of zeros and ones only"):
            net(2 * torch.ones(2, *SHAPE))
    with pytest.raises(ValueError, match="counts are kept of zeros and ones only"):
        write_recording(tmp_path / "written", {"a": np.full((4, 2, 3), 2)}, keep="counts")


def test_what_counts_do_not_tell_is_refused_by_name(tmp_path: Path) -> None:
    monitor, net = monitor_of(tmp_path / "run")
    with monitor, monitor.trial(label=1):
        net(made(1, 2)[0])
    with pytest.raises(NotKeptError, match=r"of layer 'layer' of .* counts were kept"):
        monitor.s[NAME][0]
    with pytest.raises(NotKeptError, match="counts were kept"):
        SpikeDataset(tmp_path / "run", layers=NAME)
    assert "kept in part: counts only" in repr(monitor)


@pytest.mark.parametrize("pieces", [1, 5])
def test_written_counts_are_those_that_a_monitor_keeps(tmp_path: Path, pieces: int) -> None:
    trials = [made(8, 3, seed=number) for number in range(pieces)]
    monitor, net = monitor_of(tmp_path / "monitored")
    with monitor:
        for number, spikes in enumerate(trials):
            with monitor.trial(label=number):
                for step in spikes:
                    net(step)
    labels = range(pieces)
    given = (spikes.numpy() for spikes in trials)
    write_recording(tmp_path / "written", {NAME: given}, labels=labels, keep="counts", durability="process")
    digests = [digest_recording(TapeReader.open(Folder(tmp_path / n))) for n in ("monitored", "written")]
    assert digests[0] == digests[1]
    check(tmp_path / "written", trials)
