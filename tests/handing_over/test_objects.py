"""Events in memory, for dask, pynapple and neo, are those of the recording."""

from __future__ import annotations

import io
import pickle
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import elephant.statistics
import neo
import numpy as np
import pandas as pd
import pynapple as nap
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import analysis
import recorder
from analysis.arguments import QuestionError
from analysis.export import tables, timeline
from made_recordings import lose_chunks, make_example, plans
from presented import starts_of
from recorder.format import LostFramesWarning
from tapes import Run, Trial, write_recording

RUNS = [Run(0, 20, 8, 0), Run(20, 15, 8, 1), Run(40, 15, 8)]
TRIALS = [Trial(0, 8, {"label": ["cat"] * 8}), Trial(1, 8, {"label": ["dog", None] * 4})]
STEP = {"dt": 0.5, "dt_unit": "ms"}
lost = pytest.mark.filterwarnings("ignore::recorder.format.errors.LostFramesWarning")
few = settings(
    max_examples=12,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    layers = {"1": random.random((400, 3, 4)) < 0.2, "3": random.random((400, 9)) < 0.05}
    write_recording(tmp_path / "run.zarr", layers, RUNS, TRIALS, chunk_bytes=64, provenance=STEP)
    return tmp_path / "run.zarr"


@lost
@given(plan=plans(most_steps=16, most_neurons=9), data=st.data())
@few
def test_the_table_of_events_has_every_event(
    tmp_path_factory: pytest.TempPathFactory, plan: dict[str, Any], data: st.DataObject
) -> None:
    example = make_example(tmp_path_factory.mktemp("run") / "run.zarr", plan)
    layer = analysis.open_recording(example.path)["1"]
    starts = starts_of(example)
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(tables, "PARTITION_BYTES", data.draw(st.sampled_from([8, 100, 2**22])))
        events = layer.events()
        found = events.compute()
    assert isinstance(events, dd.DataFrame)
    assert events.dtypes.equals(found.dtypes)
    neuron, frame = (
        np.nonzero(example.layers["1"].reshape(len(example.steps["1"]), -1).T)
        if (example.layers["1"].size)
        else (np.empty(0, int), np.empty(0, int))
    )
    trial, step = example.trials["1"][frame], example.steps["1"][frame]
    wanted = sorted(
        (n, t, s - starts[t] if t >= 0 else -1, s) for n, t, s in zip(neuron, trial, step, strict=True)
    )
    shown = found.assign(trial=found.trial.fillna(-1), time=found.time.fillna(-1))
    assert sorted(zip(*(shown[name] for name in ("neuron", "trial", "time", "step")), strict=True)) == wanted


def test_partitions_are_read_when_they_are_computed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PARTITION_BYTES", 64)
    layer = analysis.open_recording(path)["3"]
    events = layer.events()
    assert events.npartitions > 3
    for file in (path / "layers" / "3" / "spikes").rglob("[0-9]*"):
        if file.is_file():
            file.unlink()
    with pytest.raises(Exception, match="layer '3'"):
        events.compute()


def test_trials_are_nullable_only_where_there_are_frames_outside(path: Path) -> None:
    layer = analysis.open_recording(path)["1"]
    assert str(layer.events().dtypes["trial"]) == "Int32"
    assert str(layer.select(trials=[0, 1]).events().dtypes["trial"]) == "int32"


class Laid:
    """Spike times of each neuron, one by one: presentations end to end, in the order of their first steps."""

    def __init__(self, recording: analysis.Recording, names: list[str], seconds: float) -> None:
        self.trains: dict[str, dict[int, list[float]]] = {}
        self.seen: dict[str, set[int]] = {name: set() for name in names}
        spikes = {name: layer.spikes.compute() for name, layer in recording.layers.items()}
        # Lanes: a sample of a trial, or of steps outside of trials that no step is missing of in all layers.
        steps = sorted(
            {(int(s), int(t)) for each in spikes.values() for s, t in zip(each.step, each.trial, strict=True)}
        )
        stretch: dict[tuple[int, int], Any] = {}
        for place, (step, trial) in enumerate(steps):
            follows = place and steps[place - 1] == (step - 1, -1)
            stretch[step, trial] = (
                trial if trial >= 0 else stretch[step - 1, -1] if follows else ("run", step)
            )
        lanes: dict[Any, set[int]] = defaultdict(set)
        keys = {}
        for name, each in spikes.items():
            coordinates = zip(
                *(each[key].values.tolist() for key in ("step", "trial", "sample")), strict=True
            )
            keys[name] = [(stretch[step, trial], sample, step) for step, trial, sample in coordinates]
            for where, sample, step in keys[name]:
                lanes[where, sample].add(step)
        begins = {where: min(min(s) for (w, _), s in lanes.items() if w == where) for where, _ in lanes}
        at = 0
        start = {}
        for where, sample in sorted(lanes, key=lambda lane: (begins[lane[0]], lane[1])):
            start[where, sample] = at - min(lanes[where, sample])
            at += max(lanes[where, sample]) - min(lanes[where, sample]) + 1
        self.steps = at
        for name in names:
            bits = spikes[name].values.reshape(len(keys[name]), int(np.prod(spikes[name].shape[1:])))
            trains: dict[int, list[float]] = {neuron: [] for neuron in range(bits.shape[1])}
            for frame, (where, sample, step) in enumerate(keys[name]):
                position = start[where, sample] + step
                self.seen[name].add(position)
                for neuron in np.flatnonzero(bits[frame]).tolist():
                    trains[neuron].append(position * seconds)
            self.trains[name] = {neuron: sorted(times) for neuron, times in trains.items()}


@lost
@given(plan=plans(most_steps=16, most_neurons=9), data=st.data())
@few
def test_trains_are_those_of_unpacked_bits(
    tmp_path_factory: pytest.TempPathFactory, plan: dict[str, Any], data: st.DataObject
) -> None:
    example = make_example(tmp_path_factory.mktemp("run") / "run.zarr", plan)
    recording = analysis.open_recording(example.path)
    parts: list[dict[str, Any]] = [{}, {"steps": slice(1, 30)}, {"samples": [0]}]
    parts += [{"time": slice(0, 3)}] * bool(example.presented)
    part = data.draw(st.sampled_from(parts), "part")
    name = data.draw(st.sampled_from([*example.layers]), "layer")
    # A whole network has one line of time, whichever of its layers is looked at.
    laid = Laid(recording.select(**part), [name], 0.002)
    layer = recording[name].select(**part)
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(timeline, "SLAB_EVENTS", data.draw(st.sampled_from([1, 30, 2**22])))
        patch.setattr(timeline, "PART_BYTES", data.draw(st.sampled_from([8, 2**24])))
        if not laid.seen[name]:
            return
        group = layer.to_pynapple(dt=2, dt_unit="ms")
        block = layer.to_neo(dt=2, dt_unit="ms")
        table = layer.presentations(dt=0.002)
    assert list(group) == list(laid.trains[name])
    trains = block.segments[0].spiketrains
    for neuron, times in laid.trains[name].items():
        np.testing.assert_allclose(group[neuron].t, times, atol=1e-9)
        np.testing.assert_allclose(trains[neuron].rescale("s").magnitude, times, rtol=1e-12)
    # What was recorded is the time support, and nothing else.
    bounds = np.rint(group.time_support.values / 0.002).astype(int)
    assert {at for begin, end in bounds.tolist() for at in range(begin, end)} == laid.seen[name]
    assert table["stop_time"].iloc[-1] == pytest.approx(laid.steps * 0.002)
    np.testing.assert_allclose(table["start_time"][1:], table["stop_time"][:-1], rtol=1e-12)


def test_pynapple_has_rates_of_what_was_recorded(path: Path) -> None:
    layer = analysis.open_recording(path)["3"]
    group = layer.to_pynapple()
    hertz = layer.firing_rate("neuron", unit="Hz").compute().values
    np.testing.assert_allclose(group.rates, hertz, rtol=1e-6)
    assert set(group.metadata_columns) == {"rate", "layer", "neuron"}


def test_pynapple_knows_neurons_by_their_index_in_the_layer(path: Path) -> None:
    layer = analysis.open_recording(path)["1"]
    group = layer.to_pynapple(neurons=np.s_[1:, ::3])
    assert list(group) == [4, 7, 8, 11]
    assert group["channel"].tolist() == [1, 1, 2, 2]
    assert group["length"].tolist() == [0, 3, 0, 3]
    counts = layer.spike_count("neuron").compute().values.ravel()
    assert [len(group[neuron]) for neuron in group] == counts[[4, 7, 8, 11]].tolist()


def test_presentations_cut_trains_by_label(path: Path) -> None:
    layer = analysis.open_recording(path)["3"]
    table = layer.presentations()
    labels = [None if pd.isna(label) else label for label in table["label"]]
    assert labels == ["cat"] * 8 + ["dog", None] * 4 + [None] * 8
    cats = table[table["label"] == "cat"]
    # A little inside, as pynapple counts the end of an interval to it.
    epochs = nap.IntervalSet(cats["start_time"].values[:1], cats["stop_time"].values[-1:] - 1e-6)
    found = layer.to_pynapple().restrict(epochs)
    wanted = layer.spike_count(("label", "neuron")).sel(label="cat").compute().values
    assert [len(found[neuron]) for neuron in found] == wanted.tolist()


def test_neo_and_elephant_read_trains_and_presentations(path: Path) -> None:
    layer = analysis.open_recording(path)["1"]
    block = pickle.loads(pickle.dumps(layer.to_neo()))  # noqa: S301 - as neo's own PickleIO does
    segment = block.segments[0]
    assert [type(train) for train in segment.spiketrains[:1]] == [neo.SpikeTrain]
    last = segment.spiketrains[-1]
    assert (last.annotations["neuron"], last.annotations["channel"], last.annotations["length"]) == (11, 2, 3)
    duration = (20 + 15 + 15) * 8 * 0.5e-3
    assert float(last.t_stop.rescale("s")) == pytest.approx(duration)
    rate = float(elephant.statistics.mean_firing_rate(last).rescale("Hz"))
    assert rate == pytest.approx(len(last) / duration)
    shown, recorded = segment.epochs
    assert shown.labels.tolist() == ["cat"] * 8 + ["dog", ""] * 4 + [""] * 8
    assert shown.array_annotations["sample"].tolist() == [*range(8)] * 3
    assert float(recorded.durations.sum()) == pytest.approx(duration)


@lost
def test_lost_steps_are_outside_of_what_was_recorded(path: Path) -> None:
    lose_chunks(path, {"1": [0.0], "3": []})
    with pytest.warns(LostFramesWarning):
        recording = analysis.open_recording(path)
    # 64 frames, 8 samples at a time: the first 8 steps of each sample of trial 0.
    support = recording["1"].to_pynapple().time_support
    steps = np.rint(support.values / 0.5e-3).astype(int)
    assert steps[:2].tolist() == [[8, 20], [28, 40]]
    assert np.rint(recording["3"].to_pynapple().time_support.values / 0.5e-3).tolist() == [[0, 400]]


def test_recordings_follow_each_other(tmp_path: Path) -> None:
    for name in "ab":
        spikes = np.zeros((10, 2), np.bool_)
        spikes[3 if name == "a" else 4, 1] = True
        write_recording(tmp_path / f"{name}.zarr", {"1": spikes}, [Run(0, 5, 2, 0)], [Trial(0, 2)])
    layer = analysis.open_recording([tmp_path / "a.zarr", tmp_path / "b.zarr"])["1"]
    group = layer.to_pynapple(dt=1)
    assert [group[neuron].t.tolist() for neuron in group] == [[], [5 + 1, 10 + 2]]
    assert layer.presentations(dt=1)["recording"].tolist() == ["a.zarr"] * 2 + ["b.zarr"] * 2
    assert set(layer.events().compute()["recording"]) == {"a.zarr", "b.zarr"}


@pytest.mark.parametrize("form", ["to_pynapple", "to_neo"])
def test_too_many_spikes_are_refused_with_their_number(path: Path, form: str) -> None:
    layer = analysis.open_recording(path)["1"]
    spikes = int(layer.spike_count())
    with pytest.raises(QuestionError, match=rf"{spikes} spikes of 12 neurons .* max_bytes allows 50\.0 KiB"):
        getattr(layer, form)(max_bytes=50 * 1024)
    with pytest.raises(QuestionError, match=r"^12 neurons of layer '1' .* raise max_bytes"):
        getattr(layer, form)(max_bytes=1024)


def test_a_step_of_unknown_duration_is_refused(tmp_path: Path) -> None:
    write_recording(tmp_path / "run.zarr", {"1": np.ones((6, 2), np.bool_)}, [Run(5, 3, 2)])
    layer = analysis.open_recording(tmp_path / "run.zarr")["1"]
    with pytest.raises(QuestionError, match=r'pass it, as in dt=1\.0, dt_unit="ms"'):
        layer.to_pynapple()
    for wrong, message in (
        ({"dt": 0.0}, "expected a positive duration"),
        ({"dt": 1.0, "dt_unit": "furlong"}, "expected a unit of time"),
        ({"dt_unit": "ms"}, "given without dt"),
        ({"dt": "1"}, r"dt is '1' \(str\); expected the duration of a step"),
        ({"dt": 10**400}, "dt is beyond all floats"),
        ({"dt": 1.0, "dt_unit": ["ms"]}, r"dt_unit is \['ms'\] \(list\); expected a unit of time"),
        ({"dt": 1.0, "max_bytes": "2"}, r"max_bytes is '2' \(str\); expected a number of bytes"),
    ):
        with pytest.raises(QuestionError, match=message):
            layer.to_neo(**wrong)
    assert layer.to_pynapple(dt=1, dt_unit="ms")[0].t.tolist() == pytest.approx(
        [0, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3]
    )


def test_another_duration_than_the_recorded_one_is_refused(path: Path) -> None:
    layer = analysis.open_recording(path)["1"]
    with pytest.raises(QuestionError, match="leave dt out"):
        layer.to_pynapple(dt=1, dt_unit="ms")
    assert len(layer.to_pynapple(dt=500, dt_unit="us")) == 12


def test_the_table_of_presentations_is_one_of_pandas(path: Path) -> None:
    table = analysis.open_recording(path)["1"].presentations()
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert again["steps"].tolist() == [20] * 8 + [15] * 16
    assert again["trial"].tolist() == [0] * 8 + [1] * 8 + [-1] * 8


def test_neurons_of_a_part_are_handed_over_with_their_indices_in_the_whole_layer(tmp_path: Path) -> None:
    spikes = np.random.default_rng(0).random((20, 3, 4, 5)) < 0.3
    index = np.s_[1:, ::2]
    recorder.write_recording(
        tmp_path / "part", {"a": spikes}, trials=True, neurons=index, durability="process"
    )
    events = analysis.open_recording(tmp_path / "part")["a"].events().compute()
    step, sample, *neuron = np.nonzero(spikes[:, :, 1:, ::2])
    expected = {*zip(step, sample, (neuron[0] + 1) * 5 + neuron[1] * 2, strict=True)}
    assert {*zip(events.step, events["sample"], events.neuron, strict=True)} == expected
    analysis.open_recording(tmp_path / "part").export(tmp_path / "out", digest=False)
    neurons = pd.read_parquet(tmp_path / "out/neurons.parquet")
    assert neurons.neuron.tolist() == [channel * 5 + at for channel in (1, 2, 3) for at in (0, 2, 4)]
    assert neurons.channel.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_counts_have_no_events_to_hand_over(tmp_path: Path) -> None:
    spikes = np.ones((4, 2, 3), np.bool_)
    recorder.write_recording(
        tmp_path / "counts", {"a": spikes}, trials=True, keep="counts", durability="process"
    )
    recording = analysis.open_recording(tmp_path / "counts")
    for ask in (recording["a"].events, partial(recording.export, tmp_path / "out"), recording["a"].to_neo):
        with pytest.raises(QuestionError, match="of layer 'a' counts were kept"):
            ask()
    assert not (tmp_path / "out").exists()
