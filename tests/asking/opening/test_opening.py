"""Opening, selecting, refreshing and showing recordings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
import zarr

import analysis
from analysis import Recording
from recorder.format import bits, plan_chunks
from recorder.format.segments import SegmentLog
from recorder.stores import Folder, ZarrStore
from recorder.tape import LayerProgress, TapeWriter
from tapes import Run, Trial, write_recording

HOSTILE = "<script>alert(1)</script>\x1b[31m"


def test_importing_analysis_brings_neither_torch_nor_dask() -> None:
    code = "import sys, analysis; print([m for m in ('torch', 'dask', 'xarray') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_computing_brings_no_torch(path: Path) -> None:
    code = (
        "import sys, analysis; r = analysis.open_recording(sys.argv[1]); r.firing_rate().compute(); "
        "r['1'].spikes.compute(); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_names_of_the_package() -> None:
    assert set(analysis.__all__) <= set(dir(analysis))
    assert all(
        getattr(analysis, name).__module__.partition(".")[0] in {"analysis", "recorder"}
        for name in analysis.__all__
    )
    with pytest.raises(AttributeError, match="no attribute 'firing'"):
        analysis.firing  # noqa: B018


def test_missing_dask_is_named_with_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['dask'] = None; import analysis; analysis.open_recording"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "analysis needs dask, which is not installed: pip install 'spiketape[analysis]'" in run.stderr


@pytest.mark.parametrize("kind", ["path", "text", "url", "zarr", "memory"])
def test_recordings_are_opened_by_path_url_or_store(
    path: Path, kind: str, layers: dict[str, np.ndarray]
) -> None:
    store = {
        "path": path,
        "text": str(path),
        "url": path.as_uri(),
        "zarr": zarr.storage.LocalStore(path),
    }.get(kind)
    if kind == "memory":
        store = zarr.storage.MemoryStore()
        write_recording(ZarrStore(store), layers, [Run(0, 50, 8)])
    recording = analysis.open_recording(store)
    assert list(recording) == list(recording.layers) == ["1", "features.3"]
    assert int(recording.spike_count()) == sum(int(spikes.sum()) for spikes in layers.values())


def test_nothing_to_open(tmp_path: Path) -> None:
    with pytest.raises(analysis.RecordingNotFoundError, match="no recording at"):
        analysis.open_recording(tmp_path / "nothing.zarr")
    with pytest.raises(TypeError, match="expected a path"):
        analysis.open_recording(3)  # type: ignore[arg-type]


def test_opening_reads_the_commit_record_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Folder.read
    monkeypatch.setattr(
        Folder, "read", lambda self, key, limit: (read.append(key), original(self, key, limit))[1]
    )
    recording = analysis.open_recording(path)
    assert recording["1"].neuron_shape == (3, 4, 5)
    assert recording.state == "closed"
    assert read == ["zarr.json"]
    recording.firing_rate()
    recording["1"].silent_ratio(per="step")
    assert not [key for key in read if "/spikes/" in key or "/counts/" in key]


def test_what_a_layer_says_of_itself(path: Path) -> None:
    layer = analysis.open_recording(path)["1"]
    assert (layer.name, layer.dtype, layer.layer_class) == ("1", "float32", "torch.nn.modules.module.Module")
    assert (layer.neurons, layer.frames, layer.steps) == (60, 400, 50)
    assert layer.dimensions == ("channel", "height", "width")


def test_what_a_recording_says_of_itself(path: Path) -> None:
    recording = analysis.open_recording(path)
    assert recording.provenance == {"made by": "tests"}
    assert recording.location == str(path)
    assert recording.steps == 50
    assert len(recording) == 2
    assert "1" in recording
    assert "2" not in recording
    assert recording.stored_bytes() == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    spikes = path / "layers" / "1" / "spikes"
    assert recording.stored_spike_bytes("1") == sum(
        f.stat().st_size for f in spikes.rglob("*") if f.is_file()
    )


def test_an_unknown_layer_is_answered_with_the_known_ones(path: Path) -> None:
    recording = analysis.open_recording(path)
    for ask in (lambda: recording["2"], lambda: recording.select(layers=["1", "2"])):
        with pytest.raises(analysis.UnknownLayerError) as raised:
            ask()
        assert str(raised.value) == "no layer is named '2'; the layers are: '1', 'features.3'"
        assert isinstance(raised.value, KeyError)


def test_the_table_of_trials(path: Path) -> None:
    recording = analysis.open_recording(path)
    trials = recording.trials
    assert dict(trials.sizes) == {"presentation": 16}
    assert trials.label.values.tolist() == [*range(8), *[3] * 8]
    assert trials.speaker.values[:8].tolist() == ["ann"] * 8
    assert trials.speaker[8:].isnull().all()
    assert recording.select(labels=3).trials.trial.values.tolist() == [0, *[1] * 8]
    assert recording.select(trials=0, labels=[3, 4]).trials["sample"].values.tolist() == [3, 4]


def test_missing_whole_numbers_are_nan_in_the_table_of_trials(tmp_path: Path) -> None:
    trials = [Trial(0, 2, {"label": [5, 6]}), Trial(1, 2)]
    write_recording(
        tmp_path / "a", {"1": np.ones((4, 2), np.bool_)}, [Run(0, 1, 2, 0), Run(1, 1, 2, 1)], trials
    )
    labels = analysis.open_recording(tmp_path / "a").trials.label.values
    np.testing.assert_array_equal(labels, [5, 6, np.nan, np.nan])


def test_a_recording_without_trials_has_an_empty_table(tmp_path: Path) -> None:
    write_recording(tmp_path / "a", {"1": np.ones((4, 2), np.bool_)}, [Run(0, 2, 2)])
    recording = analysis.open_recording(tmp_path / "a")
    assert dict(recording.trials.sizes) == {}
    assert dict(recording.select(trials=slice(None)).trials.sizes) == {}
    assert recording.firing_rate(per="trial").shape == (0,)
    with pytest.raises(analysis.QuestionError, match="no labels were recorded"):
        recording.firing_rate(per="label")
    with pytest.raises(analysis.QuestionError, match=r"the labels are none: record them with"):
        recording.select(labels=[1])
    with pytest.raises(analysis.QuestionError, match=r"the trials are none: nothing was recorded inside"):
        recording.select(trials=0)


def test_a_column_may_have_a_name_that_is_taken(tmp_path: Path) -> None:
    trials = [Trial(0, 2, {"step": [5, 6], "neuron": [1.5, 2.5]})]
    write_recording(tmp_path / "a", {"1": np.ones((4, 2), np.bool_)}, [Run(0, 2, 2, 0)], trials)
    spikes = analysis.open_recording(tmp_path / "a")["1"].spikes
    assert spikes.step.values.tolist() == [0, 0, 1, 1]
    assert spikes.trial_step.values.tolist() == [5, 6, 5, 6]
    assert spikes.trial_neuron.values.tolist() == [1.5, 2.5, 1.5, 2.5]


def test_results_carry_names_units_and_coordinates(path: Path, tmp_path: Path) -> None:
    recording = analysis.open_recording(path).select(steps=slice(10, None))
    rate = recording.firing_rate(per=("layer", "window"), window=25)
    assert rate.name == "firing_rate"
    assert rate.attrs == {"long_name": "firing rate: spikes per neuron and step", "units": "1"}
    assert rate.layer.values.tolist() == ["1", "features.3"]
    assert rate.window.values.tolist() == [10, 35]
    assert rate.window.attrs["long_name"] == "first time step of the window"
    tuning = recording["1"].firing_rate(per=("label", "neuron"))
    assert tuning.dims == ("label", "channel", "height", "width")
    assert tuning.label.values.tolist() == list(range(8))
    assert tuning.coords["layer"].item() == "1"
    assert list(rate.to_dataframe().columns) == ["firing_rate"]
    tuning.to_netcdf(tmp_path / "tuning.nc", engine="h5netcdf")
    with xr.open_dataarray(tmp_path / "tuning.nc", engine="h5netcdf") as read:
        xr.testing.assert_equal(read, tuning.compute())


def test_long_ranges_of_steps_are_coordinates_that_take_no_memory(path: Path) -> None:
    steps = analysis.open_recording(path).firing_rate(per="step").indexes["step"]
    assert type(steps).__name__ == "RangeIndex"


def test_a_layer_without_selected_frames_is_nan_and_leaves_the_pool(tmp_path: Path) -> None:
    layers = {"early": np.ones((8, 2), np.bool_), "late": np.zeros((4, 3), np.bool_)}
    write_recording(tmp_path / "a", layers, {"early": [Run(0, 4, 2)], "late": [Run(6, 2, 2)]})
    recording = analysis.open_recording(tmp_path / "a")
    rate = recording.firing_rate(per=("layer", "step"))
    assert rate.step.values.tolist() == [0, 1, 2, 3, 6, 7]
    np.testing.assert_array_equal(rate, [[1, 1, 1, 1, np.nan, np.nan], [np.nan] * 4 + [0, 0]])
    early = recording.select(steps=slice(0, 4))
    assert float(early.silent_ratio()) == 0
    assert np.isnan(float(early["late"].silent_ratio()))
    assert int(early["late"].spike_count()) == 0
    assert early["late"].spikes.shape == (0, 3)
    nothing = recording.select(steps=slice(4, 6))
    assert np.isnan(float(nothing.firing_rate()))
    assert nothing.firing_rate(per="step").shape == (0,)
    assert nothing["late"].firing_rate(per=("window", "neuron"), window=2).shape == (0, 3)


def test_an_empty_recording(tmp_path: Path) -> None:
    TapeWriter.create(Folder(tmp_path / "a"), {})
    recording = analysis.open_recording(tmp_path / "a")
    assert len(recording.layers) == 0
    assert recording, "a recording is one, empty or not"
    assert np.isnan(float(recording.firing_rate()))
    assert int(recording.spike_count()) == 0
    assert recording.silent_ratio(per="layer").shape == (0,)
    assert recording.silent_ratio(per=("layer", "step")).shape == (0, 0)
    assert recording.firing_rate(per="window", window=3).shape == (0,)
    with pytest.raises(analysis.UnknownLayerError, match="none: nothing was recorded"):
        recording["1"]
    with pytest.raises(analysis.QuestionError, match="no labels"):
        recording.firing_rate(per="label")


def test_a_growing_recording_is_seen_as_of_its_commits(tmp_path: Path) -> None:
    spikes = np.random.default_rng(0).random((1000, 33)) < 0.3
    store = Folder(tmp_path / "a", durability="process")
    writer = TapeWriter.create(store, {})
    log = SegmentLog()

    def go_on(first: int, last: int, close: bool = False) -> None:
        log.extend(first, last - first, 1)
        writer.append("1", bits.pack_frames(spikes[first : last // 8 * 8]))
        closed, opened = log.look()
        row = bits.pack_frames(spikes[last // 8 * 8 : last])[0] if last % 8 else None
        writer.commit({"1": LayerProgress(last % 8, row, closed, opened)}, [], 0, close=close)

    recording = analysis.open_recording(store._root)
    assert len(recording) == 0
    writer.add_layer("1", plan_chunks((33,)), "float32", "torch.nn.Module", 0)
    go_on(0, 400)
    assert len(recording) == 0
    assert recording.refresh() is recording
    before = recording["1"]
    assert recording.state == "recording"
    assert int(before.spike_count()) == spikes[:400].sum()
    go_on(400, 1000, close=True)
    assert before.frames == 400
    assert int(before.spike_count()) == spikes[:400].sum()
    assert recording.refresh().state == "closed"
    assert int(recording.spike_count()) == spikes.sum()
    np.testing.assert_array_equal(before.spikes.values, spikes[:400])


def test_the_same_question_twice_shares_its_work(path: Path) -> None:
    first, second = (analysis.open_recording(path) for _ in range(2))
    for ask in (
        Recording.firing_rate,
        lambda r: r["1"].silent_ratio(per="step"),
        lambda r: r["1"].spikes,
        lambda r: r["1"].spikes.label,
    ):
        assert ask(first).data.name == ask(second).data.name
    other = analysis.open_recording(path, use_counts=False)
    names = {
        recording["1"].spike_count(per="neuron").data.name
        for recording in (
            first,
            other,
            first.select(steps=slice(3)),
            first.select(labels=[3]),
            first.select(trials=[0]),
            first.select(trials=[1]),
        )
    }
    assert len(names) == 6


def test_rate_and_silent_ratio_together_count_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = analysis.open_recording(path, use_counts=False)
    read: list[str] = []
    original = Folder.read
    monkeypatch.setattr(
        Folder, "read", lambda self, key, limit: (read.append(key), original(self, key, limit))[1]
    )
    dask.compute(
        recording.firing_rate(), recording.silent_ratio(per="layer"), recording["1"].firing_rate("neuron")
    )
    chunks = [key for key in read if "/spikes/c/" in key]
    assert chunks
    assert len(chunks) == len(set(chunks))


def test_a_missing_chunk_is_an_error_that_names_file_layer_and_frames(path: Path) -> None:
    victim = next(file for file in (path / "layers/1/spikes/c/1").rglob("*") if file.is_file())
    victim.unlink()
    recording = analysis.open_recording(path, use_counts=False)
    for asked in (
        recording.firing_rate(),
        recording["1"].silent_ratio(per="step"),
        recording["1"].firing_rate(per="label"),
        recording["1"].spikes,
    ):
        with pytest.raises(
            analysis.RecordingFormatError, match=r"spikes/c/1/0/0/0: the chunk of layer '1' with frames"
        ):
            asked.compute()


def test_names_from_strangers_are_escaped(tmp_path: Path) -> None:
    trials = [Trial(0, 2, {"label": [HOSTILE, "b"]})]
    write_recording(tmp_path / "a", {HOSTILE: np.ones((4, 2), np.bool_)}, [Run(0, 2, 2, 0)], trials)
    recording = analysis.open_recording(tmp_path / "a").select(labels=[HOSTILE])
    for shown in (recording._repr_html_(), recording[HOSTILE]._repr_html_()):
        assert "<script>" not in shown
        assert "&lt;script&gt;" in shown
        assert "\x1b" not in shown
    for shown in (repr(recording), repr(recording[HOSTILE])):
        assert "\x1b" not in shown
        assert r"\x1b[31m" in shown


def test_a_recording_of_many_layers_is_shown_in_part(tmp_path: Path) -> None:
    layers = {f"layer {number}": np.ones((1, 1), np.bool_) for number in range(70)}
    write_recording(tmp_path / "a", layers, [Run(0, 1, 1)], close=False)
    recording = analysis.open_recording(tmp_path / "a")
    assert "… and 10 more layers" in repr(recording)
    assert "… and 10 more layers" in recording._repr_html_()
    assert "not closed, last commit" in repr(recording)
