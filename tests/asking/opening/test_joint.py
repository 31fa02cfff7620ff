"""Several recordings opened as one: ranks of a distributed run, a list, a pattern."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import analysis
from analysis.asking import planning
from analysis.cli import commands
from recorder.format.record.parts import LayerPart
from recorder.stores.rank_names import RankRecord, parse_rank_location, rank_location
from tapes import Run, Trial, write_recording

RANKS = 3
STEPS = 40
SHAPES: dict[str, tuple[int, ...]] = {"conv": (3, 7), "out": (9,)}
# Ranks get other batches, other labels, and the last one fewer steps and no labels at all.
BATCHES = (4, 3, 5)
LABELS: tuple[Any, ...] = ([2, 0, 2, 7], [7, 1, 2], None)


def steps_of(rank: int) -> int:
    return STEPS - (rank == 2) * 7


def spikes_of(rank: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(rank)
    frames = steps_of(rank) * BATCHES[rank]
    # Each rank drives another half of the neurons, so that silence differs from rank to rank.
    driven = {name: random.random(shape) < 0.4 for name, shape in SHAPES.items()}
    return {name: (random.random((frames, *shape)) < 0.1) & driven[name] for name, shape in SHAPES.items()}


def write_rank(
    path: Path,
    rank: int,
    run: str = "a",
    ranks: int = RANKS,
    parts: dict[str, LayerPart] | None = None,
    **changed: np.ndarray,
) -> None:
    half = STEPS // 2
    runs = [Run(0, half, BATCHES[rank], 0), Run(half, steps_of(rank) - half, BATCHES[rank], 1)]
    labels = LABELS[rank]
    trials = [
        Trial(
            trial,
            BATCHES[rank],
            {"label": labels, "image": [rank, *range(len(labels) - 1)]} if labels else {},
        )
        for trial in range(2)
    ]
    write_recording(
        path,
        {**spikes_of(rank), **changed},
        runs,
        trials,
        provenance=RankRecord(run, rank, ranks).to_provenance() if run else {},
        chunk_bytes=200,
        parts=parts or {},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run.zarr"
    for rank in range(RANKS):
        write_rank(Path(rank_location(str(run), rank, RANKS)), rank)
    return run


def call(*arguments: object) -> Result:
    return CliRunner().invoke(commands.main, [*map(str, arguments)])


@pytest.fixture
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "SMALL_TASK_BYTES", 100)
    monkeypatch.setattr(planning, "MANY_TASKS", 10**9)
    monkeypatch.setattr("analysis.asking.planning.RESULT_BLOCK_BYTES", 2000)


class Oracle:
    """All frames of a layer as booleans, with rank, step, trial and label of each."""

    def __init__(self, name: str, ranks: tuple[int, ...] = tuple(range(RANKS))) -> None:
        self.spikes = np.concatenate([spikes_of(rank)[name] for rank in ranks])
        self.rank = np.repeat(ranks, [steps_of(rank) * BATCHES[rank] for rank in ranks])
        self.step = np.concatenate([np.repeat(np.arange(steps_of(r)), BATCHES[r]) for r in ranks])
        self.trial = (self.step >= STEPS // 2).astype(int)
        none = np.nan
        self.label = np.concatenate([np.tile(LABELS[r] or [none] * BATCHES[r], steps_of(r)) for r in ranks])

    def ask(self, statistic: str, frames: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """A statistic of some frames, pooled over some of the neuron axes."""
        found = self.spikes[frames]
        if statistic == "spike_count":
            return found.sum(axis=(0, *axes))
        if statistic == "firing_rate":
            slots = len(found) * np.prod([found.shape[axis] for axis in axes], dtype=np.int64)
            return found.sum(axis=(0, *axes)) / slots if slots else found.sum(axis=(0, *axes)) * np.nan
        if statistic == "saturated_ratio":
            saturated = (found.sum(axis=0) * 10 >= len(found)).mean(axis=tuple(axis - 1 for axis in axes))
            return saturated if len(found) else saturated * np.nan
        silent = (~found.any(axis=0)).mean(axis=tuple(axis - 1 for axis in axes))
        return silent if len(found) else silent * np.nan


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize("use_counts", [True, False])
@pytest.mark.parametrize("place", ["all", "channel", "neuron"])
@pytest.mark.parametrize("time", [None, "step", "trial", "label", "window"])
@pytest.mark.parametrize("statistic", ["firing_rate", "silent_ratio", "spike_count", "saturated_ratio"])
def test_every_statistic_is_that_of_all_frames_together(
    run: Path, statistic: str, time: str | None, place: str, use_counts: bool
) -> None:
    layer = analysis.open_recording(run, use_counts=use_counts)["conv"]
    per = [word for word in (time, place) if word not in (None, "all")]
    options: dict[str, Any] = {"window": 9} if time == "window" else {}
    if statistic == "saturated_ratio":
        options["threshold"] = 0.1
    axes = {"all": (1, 2), "channel": (2,), "neuron": ()}[place]
    for members in ((0, 1, 2), None):
        found = getattr(layer, statistic)([*per, *([] if members else ["recording"])], **options)
        for which, ranks in enumerate([members] if members else [(0,), (1,), (2,)]):
            oracle = Oracle("conv", ranks)
            keys = {
                None: np.zeros_like(oracle.step),
                "step": oracle.step,
                "trial": oracle.trial,
                "label": oracle.label,
                "window": oracle.step // 9 * 9,
            }[time]
            one = found if members else found.isel(recording=which)
            groups = one[time].values if time else [0]
            wanted = [oracle.ask(statistic, keys == group, axes) for group in groups]
            np.testing.assert_array_equal(one.values, np.array(wanted) if time else wanted[0])
            if members:
                assert set(groups) == set(keys[~np.isnan(keys)])


def test_over_layers_everything_is_pooled(run: Path) -> None:
    recording = analysis.open_recording(run)
    layers = [Oracle(name) for name in SHAPES]
    spikes, slots = sum(int(o.spikes.sum()) for o in layers), sum(o.spikes.size for o in layers)
    assert recording.firing_rate().values.item() == spikes / slots
    silent = sum(int((~o.spikes.any(axis=0)).sum()) for o in layers)
    assert recording.silent_ratio().values.item() == silent / 30
    each = recording.firing_rate(per=("recording", "layer"))
    assert each.dims == ("recording", "layer")
    assert each.recording.values.tolist() == [f"run.rank-{r:05}-of-00003.zarr" for r in range(3)]
    for rank, name in enumerate(each.recording.values.tolist()):
        alone = analysis.open_recording(run.with_name(name))
        assert alone.firing_rate(per="recording").values.shape == (1,)
        np.testing.assert_array_equal(each.sel(recording=name), alone.firing_rate(per="layer"))
        assert alone.firing_rate(per="layer").sel(layer="out").values.item() == spikes_of(rank)["out"].mean()


def test_selections_apply_to_all_of_them(run: Path) -> None:
    recording = analysis.open_recording(run)
    oracle = Oracle("out")
    some = recording.select(steps=slice(5, 31), labels=[2, 1], trials=[0])["out"]
    frames = (oracle.step >= 5) & (oracle.step < 31) & np.isin(oracle.label, [1, 2]) & (oracle.trial == 0)
    assert some.spike_count().values.item() == oracle.spikes[frames].sum()
    assert some.frames == frames.sum()
    assert some.steps == 15
    by_label = some.firing_rate(per="label")
    assert by_label.label.values.tolist() == [1, 2]
    last = recording.select(steps=slice(-3, None))["out"]
    assert last.spike_count().values.item() == oracle.spikes[oracle.step >= STEPS - 3].sum()
    two = recording.select(recordings=list(recording.recordings)[1:])
    assert two.spike_count().values.item() == sum(Oracle(name, (1, 2)).spikes.sum() for name in SHAPES)
    assert list(two.recordings) == list(recording.recordings)[1:]
    with pytest.raises(
        analysis.QuestionError, match=r"no recording is named 'x'; the recordings are 'run\.rank"
    ):
        recording.select(recordings="x")


def test_spikes_and_trials_stand_one_recording_behind_the_other(run: Path) -> None:
    recording = analysis.open_recording(run)
    spikes = recording["conv"].spikes
    oracle = Oracle("conv")
    np.testing.assert_array_equal(spikes.values, oracle.spikes)
    np.testing.assert_array_equal(spikes.step.values, oracle.step)
    np.testing.assert_array_equal(spikes.label.values, oracle.label)
    names = list(recording.recordings)
    np.testing.assert_array_equal(spikes.recording.values, np.array(names, object)[oracle.rank])
    trials = recording.trials
    assert trials.sizes == {"presentation": 2 * sum(BATCHES)}
    assert trials.recording.values.tolist() == np.repeat(names, [8, 6, 10]).tolist()
    np.testing.assert_array_equal(trials.label[:14], [*[2, 0, 2, 7] * 2, *[7, 1, 2] * 2])
    assert trials.label[14:].isnull().all()
    assert recording.select(labels=7).trials.sizes == {"presentation": 4}


def test_labels_of_other_kinds_are_told_apart(tmp_path: Path) -> None:
    spikes = np.random.default_rng(0).random((8, 3)) < 0.5
    for name, labels in (("a", ["x", "y"]), ("b", [1, 2]), ("c", [0.5, 1.0])):
        write_recording(
            tmp_path / f"{name}.zarr", {"1": spikes}, [Run(0, 4, 2, 0)], [Trial(0, 2, {"label": labels})]
        )
    everything = analysis.open_recording(str(tmp_path / "*.zarr"))
    counts = everything["1"].spike_count(per="label")
    assert counts.label.values.tolist() == ["x", "y", 1, 2, 0.5, 1.0]
    even, odd = spikes[::2].sum(), spikes[1::2].sum()
    assert counts.values.tolist() == [even, odd, even, odd, even, odd]
    numbers = everything.select(recordings=["b.zarr", "c.zarr"])
    assert numbers["1"].spike_count(per="label").label.values.tolist() == [0.5, 1, 1.0, 2]
    assert everything.trials.label.values.tolist() == ["x", "y", 1, 2, 0.5, 1.0]


def test_steps_of_recordings_that_have_nothing_in_common_are_not_pooled(tmp_path: Path) -> None:
    paths = [tmp_path / f"seed-{seed}.zarr" for seed in range(2)]
    for rank, path in enumerate(paths):
        write_rank(path, rank, run="")
    recording = analysis.open_recording(paths)
    assert recording.firing_rate().values.item() > 0
    assert recording["conv"].firing_rate(per="label").label.values.tolist() == [0, 1, 2, 7]
    for time in ("step", "trial"):
        with pytest.raises(
            analysis.QuestionError, match=rf"not the ranks of one run.*\(\"recording\", '{time}'\)"
        ):
            recording["conv"].firing_rate(per=time)
    with pytest.raises(analysis.QuestionError, match="not the ranks of one run"):
        recording.silent_ratio(per=("layer", "window"), window=5)
    apart = recording["conv"].firing_rate(per=("recording", "step"))
    assert apart.shape == (2, STEPS)
    assert recording["conv"].steps == 2 * STEPS
    assert recording.select(steps=slice(-5, None))["conv"].steps == 2 * 5
    assert recording.select(recordings="seed-1.zarr")["conv"].firing_rate(per="step").shape == (STEPS,)


def test_recordings_of_other_lengths_have_no_common_end_to_count_from(tmp_path: Path) -> None:
    paths = [tmp_path / f"seed-{seed}.zarr" for seed in range(2)]
    for rank, path in zip((0, 2), paths, strict=True):
        write_rank(path, rank, run="")
    recording = analysis.open_recording(paths)
    for narrow in (recording.select, recording["conv"].select):
        with pytest.raises(analysis.QuestionError, match=f"have {STEPS - 7}, {STEPS} steps"):
            narrow(steps=slice(-5, None))
    assert recording.select(steps=slice(30, None))["conv"].steps == 3 + 10


def test_ranks_of_two_runs_share_no_steps(tmp_path: Path) -> None:
    paths = [tmp_path / f"{rank}.zarr" for rank in range(2)]
    write_rank(paths[0], 0, run="a")
    write_rank(paths[1], 1, run="b")
    with pytest.raises(analysis.QuestionError, match="not the ranks of one run"):
        analysis.open_recording(paths).firing_rate(per="step")


def test_missing_ranks_are_named(tmp_path: Path) -> None:
    run = tmp_path / "run.zarr"
    for rank in (0, 2):
        write_rank(Path(rank_location(str(run), rank, 4)), rank, ranks=4)
    missing = r"2 of the 4 ranks of .*run\.zarr are missing: .*run\.rank-00001-of-00004\.zarr, .*rank-00003"
    for asked in (run, str(tmp_path / "*.zarr"), [run]):
        with pytest.raises(analysis.RecordingNotFoundError, match=missing):
            analysis.open_recording(asked)
    listed = analysis.open_recording(sorted(tmp_path.iterdir()))
    assert listed["conv"].firing_rate(per="step").shape == (STEPS,)
    write_rank(Path(rank_location(str(run), 0, 2)), 1, ranks=2)
    with pytest.raises(analysis.RecordingNotFoundError, match="one of 2 ranks and one of 4 ranks"):
        analysis.open_recording(run)


def test_what_cannot_be_looked_at_as_one_is_refused(tmp_path: Path) -> None:
    write_rank(tmp_path / "a.zarr", 0)
    frames = STEPS * BATCHES[1]
    write_rank(tmp_path / "wide.zarr", 1, conv=np.zeros((frames, 3, 8), np.bool_))
    write_rank(tmp_path / "more.zarr", 1, more=np.zeros((frames, 2), np.bool_))
    with pytest.raises(
        analysis.JointRecordingError, match=r"'conv' are 3 × 7 in the first, and 3 × 8 in the"
    ):
        analysis.open_recording([tmp_path / "a.zarr", tmp_path / "wide.zarr"])
    with pytest.raises(
        analysis.JointRecordingError, match=r"layer 'more' of .*more\.zarr is not in .*a\.zarr"
    ):
        analysis.open_recording([tmp_path / "a.zarr", tmp_path / "more.zarr"])
    with pytest.raises(analysis.JointRecordingError, match="count twice"):
        analysis.open_recording([tmp_path / "a.zarr", str(tmp_path / "a.zarr")])
    with pytest.raises(analysis.RecordingNotFoundError, match="list of recordings is empty"):
        analysis.open_recording([])
    with pytest.raises(analysis.RecordingNotFoundError, match=r"no recording at .*nothing\*"):
        analysis.open_recording(tmp_path / "nothing*.zarr")
    with pytest.raises(TypeError, match="store is 3"):
        analysis.open_recording(3)  # type: ignore[arg-type]


def test_a_run_in_a_bucket(run: Path) -> None:
    for name in (run.as_uri().replace("file://", "local://"), f"local://{run.parent}/run.rank-*"):
        recording = analysis.open_recording(name)
        assert recording.spike_count().values.item() == sum(Oracle(layer).spikes.sum() for layer in SHAPES)
        assert len(recording.recordings) == RANKS


def test_the_command_line_takes_a_run_for_one_recording(run: Path, tmp_path: Path) -> None:
    facts = json.loads(call("info", str(run), "--format", "json").stdout)
    assert [one["provenance"]["distributed"]["rank"] for one in facts] == [0, 1, 2]
    assert call("info", str(run)).stdout.count("recording ") == 3
    rates = json.loads(call("rates", str(run), "--per", "recording,layer", "--format", "json").stdout)
    assert [row["recording"] for row in rates] == [f"run.rank-{r // 2:05}-of-00003.zarr" for r in range(6)]
    assert rates[3]["firing_rate"] == spikes_of(1)["out"].mean()
    verified = call("verify", str(run))
    assert (verified.exit_code, verified.stderr.count("sound")) == (0, 3)
    write_rank(tmp_path / "a.zarr", 0)
    write_rank(tmp_path / "b.zarr", 1)
    next(file for file in (tmp_path / "a.zarr" / "layers/out/spikes/c").rglob("*") if file.is_file()).unlink()
    damaged = call("verify", str(tmp_path / "*.zarr"))
    assert (damaged.exit_code, damaged.stderr.count(" sound")) == (1, 1)
    assert "a.zarr" in damaged.stdout
    missing = call("rates", str(tmp_path / "other.zarr"))
    assert (missing.exit_code, "no recording at" in missing.stderr) == (1, True)


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    write_rank(tmp_path / "run[1].zarr", 0)
    assert len(analysis.open_recording(tmp_path / "run[1].zarr").recordings) == 1


def test_how_several_recordings_are_shown(run: Path) -> None:
    recording = analysis.open_recording(run)
    shown = repr(recording)
    assert "3 recordings as one: run.rank-00000-of-00003.zarr, run.rank-00001" in shown
    assert str(run) in shown
    assert f"{STEPS} " in shown
    assert recording.state == "closed"
    assert recording.steps == STEPS
    assert recording.location == str(run)
    assert recording.stored_bytes() > recording.stored_spike_bytes("conv") > 0
    with pytest.raises(analysis.QuestionError, match=r"ask one of recording\.recordings"):
        _ = recording.metadata
    assert [one.provenance["distributed"]["rank"] for one in recording.recordings.values()] == [0, 1, 2]
    assert recording.refresh().spike_count().values.item() == recording.spike_count().values.item()


@pytest.mark.parametrize(
    "location", ["run.zarr", "runs/run", "s3://bucket/a.b/run.zarr", "/r/.hidden", "a/b.c/d"]
)
def test_names_of_ranks_tell_the_run_again(location: str) -> None:
    for rank, ranks in ((0, 2), (7, 8), (123_456, 200_000)):
        name = parse_rank_location(rank_location(location, rank, ranks))
        assert name is not None
        assert (name.run, name.rank, name.ranks) == (location, rank, ranks)
    assert parse_rank_location(location) is None


def test_the_digest_of_a_run_is_that_of_its_ranks_in_order(run: Path, tmp_path: Path) -> None:
    ranks = [rank_location(str(run), rank, RANKS) for rank in range(RANKS)]
    one_by_one = [analysis.open_recording(rank).digest() for rank in ranks]
    joint = hashlib.sha256(json.dumps(one_by_one, separators=(",", ":")).encode()).hexdigest()
    assert analysis.open_recording(run).digest() == joint
    assert call("digest", run).output == f"{joint}\n"
    assert call("verify", run, "--digest", joint.upper()).exit_code == 0
    refused = call("verify", run, "--digest", one_by_one[0])
    assert refused.exit_code == 1
    assert f"has the digest {joint}, expected {one_by_one[0]}" in refused.output


def test_parts_that_all_ranks_kept_are_answered_together(tmp_path: Path) -> None:
    part = LayerPart(SHAPES["conv"], (range(0, 3, 2), range(7)), samples=2)
    kept = []
    for rank in range(RANKS):
        write_rank(Path(rank_location(str(tmp_path / "run"), rank, RANKS)), rank, parts={"conv": part})
        spikes = spikes_of(rank)["conv"].reshape(steps_of(rank), BATCHES[rank], 3, 7)
        kept.append(spikes[:, :2, ::2])
    layer = analysis.open_recording(tmp_path / "run")["conv"]
    every = np.concatenate([spikes.reshape(-1, 2, 7) for spikes in kept])
    np.testing.assert_array_equal(layer.spike_count(per="neuron"), every.sum(axis=0))
    np.testing.assert_array_equal(layer.silent_ratio(), (~every.any(axis=0)).mean())
    by_label = layer.firing_rate(per=("label", "neuron"))
    assert by_label["label"].values.tolist() == [0, 1, 2, 7]
    # Of the labels [2, 0] and [7, 1] of the first two samples of the ranks that have any.
    wanted = [kept[rank][:, sample].mean(axis=0) for rank, sample in ((0, 1), (1, 1), (0, 0), (1, 0))]
    np.testing.assert_array_equal(by_label, wanted)
    assert layer.frames == len(every)


def test_other_parts_of_other_ranks_are_refused(tmp_path: Path) -> None:
    for rank in range(RANKS):
        part = LayerPart(SHAPES["conv"], (range(0, 3, 1 + rank), range(7)))
        write_rank(Path(rank_location(str(tmp_path / "run"), rank, RANKS)), rank, parts={"conv": part})
    with pytest.raises(analysis.JointRecordingError, match=r"conv.*neurons"):
        analysis.open_recording(tmp_path / "run")["conv"].spike_count(per="neuron")
