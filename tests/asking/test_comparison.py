"""Comparisons are those of plain dictionaries of slots, however the recordings are stored."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import dask
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from click.testing import CliRunner
from dask.distributed import Client, LocalCluster

import analysis
from analysis.cli.commands import main
from analysis.keeping import find_problems
from recorder.format.layout import spikes_chunk_key
from recorder.keeping import plan_recovery, recover
from recorder.stores import Folder
from recorder.tape import TapeReader
from tapes import Run, Trial, write_recording

Key = tuple[int, int, int]


class Content:
    """What was recorded of one layer: for each (trial, time, sample) a frame; trial -1 is time by step."""

    def __init__(self, frames: dict[Key, np.ndarray], steps: dict[Key, int], images: dict[Any, Any]) -> None:
        self.frames, self.steps, self.images = frames, steps, images
        self.neurons = np.arange(len(next(iter(frames.values()))))

    def select(self, neurons: np.ndarray) -> None:
        """Leave out all but some neurons, given by flat indices."""
        self.neurons = neurons
        self.frames = {key: frame[neurons] for key, frame in self.frames.items()}


def runs_of(draw: st.DrawFn) -> list[Run]:
    """Trials of several steps and batches, with gaps inside and between them, and steps outside of trials."""
    runs, step = [], draw(st.integers(0, 2))
    for trial in range(draw(st.integers(1, 4))):
        batch = draw(st.sampled_from([1, 3, 8, 20]))
        for _ in range(draw(st.integers(1, 2))):
            steps = draw(st.sampled_from([1, 2, 7, 30]))
            runs.append(Run(step, steps, batch, trial))
            step += steps + draw(st.sampled_from([0, 0, 2]))
        if draw(st.booleans()):
            runs.append(Run(step, 3, batch))
            step += 3
    return runs


def keys_of(runs: list[Run]) -> list[tuple[Key, int]]:
    """Key and step of each frame, in the order of frames."""
    starts: dict[int, int] = {}
    for run in runs:
        starts.setdefault(run.trial, run.first_step)
    return [
        ((run.trial, step - (starts[run.trial] if run.trial >= 0 else 0), sample), step)
        for run in runs
        for step in range(run.first_step, run.first_step + run.steps)
        for sample in range(run.batch)
    ]


def shifted(runs: list[Run], by: int) -> list[Run]:
    """The same trials some steps later; what is outside of trials stays where it can."""
    return [Run(run.first_step + by, run.steps, run.batch, run.trial) for run in runs]


def write(path: Path, runs: list[Run], frames: np.ndarray, chunk_bytes: int) -> Content:
    batches = {run.trial: run.batch for run in runs if run.trial >= 0}
    trials, images, number = [], {}, 0
    for trial, batch in batches.items():
        names = [f"image {(number + sample) % 7}" for sample in range(batch)]
        number += batch
        trials.append(Trial(trial, batch, {"image": names}))
        images |= {(trial, sample): name for sample, name in enumerate(names)}
    write_recording(path, {"1": frames}, runs, trials, chunk_bytes=chunk_bytes)
    keyed = keys_of(runs)
    flat = frames.reshape(len(frames), -1)
    return Content(
        {key: frame for (key, _), frame in zip(keyed, flat, strict=True)},
        dict(keyed),
        images,
    )


def partners_by_image(a: Content, b: Content) -> dict[tuple[int, int], tuple[int, int]]:
    """The n-th presentation of an image in a stands for the n-th in b."""
    of_image: dict[Any, list[tuple[int, int]]] = {}
    for place, image in sorted(b.images.items()):
        of_image.setdefault(image, []).append(place)
    partners, seen = {}, dict.fromkeys(a.images.values(), 0)
    for place, image in sorted(a.images.items()):
        if seen[image] < len(of_image.get(image, [])):
            partners[place] = of_image[image][seen[image]]
        seen[image] += 1
    return partners


def check_alone(contents: tuple[Content, Content], pairs: list[tuple[Key, Key]], layer: Any) -> None:
    """Frames of both that stand for none of the other, and the first of them, are those of plain keys."""
    assert layer.unmatched == tuple(len(content.frames) - len(pairs) for content in contents)
    for side, (content, at) in enumerate(zip(contents, layer.first_unmatched, strict=True)):
        paired = {pair[side] for pair in pairs}
        alone = next((key for key in content.frames if key not in paired), None)
        place = None if at is None else (-1 if at.trial is None else at.trial, at.time, at.sample)
        assert place == alone
        assert at is None or at.step == content.steps[alone]


def check(found: analysis.comparison.Comparison, a: Content, b: Content, by: str | None, within: int) -> None:
    partners = partners_by_image(a, b) if by else None

    def partner(key: Key) -> Key | None:
        trial, time, sample = key
        if partners is None or trial < 0:
            return key
        other = partners.get((trial, sample))
        return None if other is None else (other[0], time, other[1])

    pairs = [(key, other) for key in a.frames if (other := partner(key)) in b.frames]
    layer = found.layers["1"]
    assert layer.frames == len(pairs)
    check_alone((a, b), pairs, layer)
    neurons = math.prod(layer.only_a.shape)
    only_a, only_b = np.zeros(neurons, np.int64), np.zeros(neurons, np.int64)
    by_time: dict[int, int] = {}
    by_sample: dict[int, int] = {}
    first = None
    near_a = near_b = spikes_a = spikes_b = 0

    def near(frames: dict[Key, np.ndarray], key: Key) -> np.ndarray:
        found = np.zeros(neurons, np.bool_)
        for shift in range(-within, within + 1):
            shifted = (key[0], key[1] + shift, key[2])
            found |= frames.get(shifted, np.zeros(neurons, np.bool_))
        return found

    for key, other in pairs:
        one, two = a.frames[key], b.frames[other]
        only_a += one & ~two
        only_b += two & ~one
        spikes_a, spikes_b = spikes_a + int(one.sum()), spikes_b + int(two.sum())
        near_a += int((one & near(b.frames, other)).sum())
        near_b += int((two & near(a.frames, key)).sum())
        differing = np.flatnonzero(one ^ two)
        if len(differing):
            by_time[key[1]] = by_time.get(key[1], 0) + len(differing)
            by_sample[key[2]] = by_sample.get(key[2], 0) + len(differing)
            first = min(first or (math.inf,), (a.steps[key], key[2], int(differing[0]), key))
    np.testing.assert_array_equal(layer.only_a.values.ravel(), only_a)
    np.testing.assert_array_equal(layer.only_b.values.ravel(), only_b)
    assert layer.differing == only_a.sum() + only_b.sum()
    assert layer.spikes == (spikes_a, spikes_b)
    assert {t: n for t, n in enumerate(layer.by_time.values.tolist()) if n} == by_time
    assert {s: n for s, n in enumerate(layer.by_sample.values.tolist()) if n} == by_sample
    assert layer.near == (near_a, near_b)
    total = spikes_a + spikes_b
    assert layer.agreement == (near_a + near_b) / total if total else math.isnan(layer.agreement)
    if first is None:
        assert found.first is None
    else:
        step, sample, neuron, key = first
        assert found.first is not None
        assert (found.first.step, found.first.sample) == (step, sample)
        assert found.first.trial == (key[0] if key[0] >= 0 else None)
        assert found.first.time == key[1]
        along = [
            layer.only_a.get_index(name).get_loc(at)
            for name, at in zip(layer.only_a.dims, found.first.neuron, strict=True)
        ]
        assert not along or np.ravel_multi_index(along, layer.only_a.shape) == neuron
    assert found.equal == (layer.differing == 0 and layer.unmatched == (0, 0))


@hypothesis.settings(max_examples=25, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data())
def test_every_number_is_that_of_plain_slots(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    draw = data.draw
    folder = tmp_path_factory.mktemp("compared")
    shape = draw(st.sampled_from([(), (1,), (9,), (2, 3), (70,)]))
    runs = runs_of(draw)
    how = draw(st.sampled_from(["same", "later", "other runs"]))
    other_runs = {"same": runs, "later": shifted(runs, 5)}.get(how) or runs_of(draw)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    frames = random.random((sum(run.steps * run.batch for run in runs), *shape)) < 0.3
    other = random.random((sum(run.steps * run.batch for run in other_runs), *shape)) < 0.3
    if how != "other runs":
        changed = random.random(frames.shape) < draw(st.sampled_from([0.0, 0.01, 0.5]))
        other = frames ^ changed
    sizes = st.sampled_from([8, 64, 4096])
    a = write(folder / "a.zarr", runs, frames, draw(sizes))
    b = write(folder / "b.zarr", other_runs, other, draw(sizes))
    by, within = draw(st.sampled_from([None, "image"])), draw(st.sampled_from([0, 0, 1, 3]))
    one, two = analysis.open_recording(folder / "a.zarr"), analysis.open_recording(folder / "b.zarr")
    if shape and draw(st.booleans()):
        chosen = tuple(slice(length // 2 % 2, None, 2) for length in shape)
        one, two = one.select(neurons=chosen), two.select(neurons=chosen)
        a.select(np.arange(math.prod(shape)).reshape(shape)[chosen].ravel())
        b.select(a.neurons)
    with dask.config.set(scheduler="synchronous"):
        check(analysis.compare(one, two, by=by, within=within), a, b, by, within)
        check_layers = analysis.compare(one["1"], two["1"], by=by, within=within)
    check(check_layers, a, b, by, within)


def two(folder: Path, flipped: list[tuple[int, int]], **options: Any) -> tuple[Path, Path]:
    """Recordings of two layers that differ in some (frame, neuron) of layer "b"."""
    frames = np.random.default_rng(0).random((600, 40)) < 0.2
    runs = [Run(trial * 10, 10, 6, trial) for trial in range(10)]
    trials = [Trial(trial, 6, {"label": [trial] * 6}) for trial in range(10)]
    other = frames.copy()
    for place in flipped:
        other[place] ^= True
    write_recording(folder / "one.zarr", {"a": frames, "b": frames}, runs, trials, chunk_bytes=8)
    write_recording(folder / "two.zarr", {"a": frames, "b": other}, runs, trials, chunk_bytes=8, **options)
    return folder / "one.zarr", folder / "two.zarr"


def test_selections_are_compared(tmp_path: Path) -> None:
    one, other = map(analysis.open_recording, two(tmp_path, [(130, 7), (131, 8), (420, 3)]))
    found = analysis.compare(one, other)
    assert not found.equal
    assert found.layers["a"].equal
    # Frame 130 is step 21, the second of trial 2, and sample 4 of it.
    assert found.first is not None
    assert vars(found.first) == {
        "layer": "b", "step": 21, "trial": 2, "time": 1, "sample": 4, "neuron": (7,), "recording": "one.zarr"
    }  # fmt: skip
    assert analysis.compare(one.select(layers="a"), other.select(layers="a")).equal
    assert analysis.compare(one.select(labels=[3, 4]), other.select(labels=[3, 4])).equal
    only = analysis.compare(one.select(trials=[7]), other.select(trials=[7]))
    assert (only.layers["b"].differing, only.layers["b"].frames) == (1, 60)
    some = analysis.compare(one.select(neurons=slice(5, 8)), other.select(neurons=slice(5, 8))).layers["b"]
    assert (some.differing, some.slots, some.only_a.neuron.values.tolist()) == (1, 1800, [5, 6, 7])
    assert analysis.compare(one.select(neurons=[0, 9]), other.select(neurons=[0, 9])).equal
    with pytest.raises(
        analysis.QuestionError, match="2 neurons are selected in a and 40 in b, which are not"
    ):
        analysis.compare(one.select(neurons=[0, 9]), other)
    part = analysis.compare(one.select(layers=["a"]), other)
    assert part.only_in == ((), ("b",))
    assert not part.equal
    assert "only in b" in repr(part)
    assert part.layers["a"].equal


def test_a_comparison_shows_its_numbers(tmp_path: Path) -> None:
    found = analysis.compare(*map(analysis.open_recording, two(tmp_path, [(130, 7)])))
    shown = repr(found)
    assert "different" in shown
    assert "first difference: layer 'b', trial 2, time 1, sample 4, neuron (7,)" in shown
    table = found.to_dataset()
    assert table.differing.values.tolist() == [0, 1]
    assert table.slots.values.tolist() == [24000, 24000]
    assert table.agreement.values[0] == 1
    assert table.agreement.values[1] < 1


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    one, other = map(analysis.open_recording, two(tmp_path, []))
    write_recording(tmp_path / "wide.zarr", {"a": np.ones((8, 3), np.bool_)}, [Run(0, 4, 2)])
    wide = analysis.open_recording(tmp_path / "wide.zarr")
    for wrong, said in (
        (lambda: analysis.compare(one, wide), r"layer 'a' has 40 neurons in a and 3 in b"),
        (lambda: analysis.compare(one, other["a"]), "a is a Recording and b is a Layer"),
        (lambda: analysis.compare(one, other, by="epoch"), "no such column; the columns are 'label'"),
        (lambda: analysis.compare(one, other, within=-1), "within=-1; expected a number of steps"),
    ):
        with pytest.raises(analysis.QuestionError, match=said):
            wrong()
    with pytest.raises(TypeError, match="a is a str; expected a Recording or a Layer"):
        analysis.compare("one.zarr", other)  # type: ignore[arg-type]


def test_recordings_opened_as_one_are_compared_each_with_its_counterpart(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir(), (tmp_path / "y").mkdir()
    places = [two(tmp_path / "x", [(5, 5)]), two(tmp_path / "y", [])]
    one = analysis.open_recording([places[0][0], places[1][0]])
    other = analysis.open_recording([places[0][1], places[1][1]])
    found = analysis.compare(one, other)
    assert found.layers["b"].differing == 1
    assert found.layers["b"].frames == 1200
    with pytest.raises(analysis.QuestionError, match="a is 2 recordings opened as one, and b is 1"):
        analysis.compare(one, other.select(recordings=other.members.names[0]))


def test_the_end_of_a_longer_recording_is_found(tmp_path: Path) -> None:
    one, other = map(analysis.open_recording, two(tmp_path, []))
    found = analysis.compare(one.select(trials=slice(0, 7)), other)
    assert (found.equal, found.first, found.layers["a"].first_unmatched[0]) == (False, None, None)
    assert "first frame only in b: layer 'a', trial 7, time 0, sample 0" in repr(found)


def test_spikes_are_off_by_no_more_than_the_longest_presentation(tmp_path: Path) -> None:
    """Steps beyond it would be tried for years."""
    one, other = (recording["b"] for recording in map(analysis.open_recording, two(tmp_path, [(5, 5)])))
    far = analysis.compare(one, other, within=10**12)
    assert far.layers["b"].near == analysis.compare(one, other, within=9).layers["b"].near


def test_labels_are_not_compared(tmp_path: Path) -> None:
    for name, label in (("one", 0), ("other", 1)):
        trials = [Trial(0, 2, {"label": [label, label]})]
        write_recording(tmp_path / name, {"a": np.ones((8, 3), np.bool_)}, [Run(0, 4, 2, 0)], trials)
    assert analysis.compare(*(analysis.open_recording(tmp_path / name) for name in ("one", "other"))).equal


def test_it_runs_on_a_cluster(tmp_path: Path) -> None:
    one, other = map(analysis.open_recording, two(tmp_path, [(130, 7), (599, 0)]))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster),
    ):
        found = analysis.compare(one, other, within=1)
    assert found.layers["b"].differing == 2


def test_the_command_says_where_and_how_much(tmp_path: Path) -> None:
    one, other = map(str, two(tmp_path, [(130, 7)]))
    same = CliRunner().invoke(main, ["compare", one, one + "/../one.zarr"])
    assert (same.exit_code, same.stdout.splitlines()[0]) == (0, "equal")
    different = CliRunner().invoke(main, ["compare", one, other])
    assert different.exit_code == 1
    assert different.stdout.splitlines()[:2] == [
        "different",
        "first difference: layer 'b', trial 2, time 1, sample 4, neuron (7,)",
    ]
    as_json = CliRunner().invoke(main, ["compare", one, other, "--format", "json", "--within", "1"])
    facts = json.loads(as_json.stdout)
    assert as_json.exit_code == 1
    assert (facts["equal"], facts["first"]["layer"], facts["layers"][1]["differing"]) == (False, "b", 1)
    assert CliRunner().invoke(main, ["compare", one, other, "--layer", "a"]).exit_code == 0
    for part in (["--trials", "3:"], ["--where", "label=4"], ["--neurons", "8:"], ["--time", "2:"]):
        assert CliRunner().invoke(main, ["compare", one, other, *part]).exit_code == 0, part
    assert CliRunner().invoke(main, ["compare", one, other, "--where", "label=2"]).exit_code == 1
    assert CliRunner().invoke(main, ["compare", one, other, "--trials", "99:"]).exit_code == 2
    wrong = CliRunner().invoke(main, ["compare", one, other, "--by", "epoch"])
    assert wrong.exit_code == 2
    nothing = CliRunner().invoke(main, ["compare", one, str(tmp_path / "nothing.zarr")])
    assert (nothing.exit_code, nothing.stdout) == (2, "")
    assert "no recording at" in nothing.stderr
    assert "no such column" in wrong.stderr


def test_lost_frames_stand_for_none(tmp_path: Path) -> None:
    one, other = two(tmp_path, [(590, 7)])
    damaged = TapeReader.open(Folder(other))
    layer = damaged.layers["b"]
    (other / spikes_chunk_key(layer.folder, layer.plan, 3, 0)).unlink()
    plan = plan_recovery(damaged, find_problems(damaged), mark_lost=True)
    recover(Folder(other), plan, damaged.metadata.commit_number)
    with pytest.warns(analysis.LostFramesWarning):
        found = analysis.compare(analysis.open_recording(one), analysis.open_recording(other)).layers["b"]
    lost = found.unmatched[0]
    assert 64 <= lost < 80
    assert (found.unmatched[1], found.frames, found.differing) == (0, 600 - lost, 1)


def test_values_are_compared_where_both_have_fired(tmp_path: Path) -> None:
    """The same events of other values are no equal layers; a scale alone makes no difference."""
    random = np.random.default_rng(0)
    levels = random.integers(-2, 4, (300, 2, 3)).astype(np.int16)
    other = levels.copy()
    places = [(17, 1, 2), (17, 1, 1), (200, 0, 0)]
    for place in places:
        other[place] = 3 if levels[place] != 3 else -1
        levels[place] = levels[place] or 1
    runs = [Run(0, 100, 3)]
    made = {"a": (levels, 1.0), "b": (other, 1.0), "c": (levels * 2, 0.5), "spikes": (levels != 0, 1.0)}
    for name, (frames, scale) in made.items():
        path = tmp_path / name
        write_recording(path, {"1": frames}, runs, chunk_bytes=1, scales={"1": scale}).release()
    a, b, c, spikes = (analysis.open_recording(tmp_path / name) for name in made)
    assert analysis.compare(a, c).equal
    found = analysis.compare(a, b)
    layer = found.layers["1"]
    assert (found.equal, layer.equal, layer.unlike, layer.differing) == (False, False, 3, 3)
    assert int(layer.only_a.sum()) == int(layer.only_b.sum()) == 0
    assert found.first is not None
    assert (found.first.step, found.first.sample, found.first.neuron) == (5, 2, (1, 1))
    assert int(layer.by_sample.values[2]) == 3
    np.testing.assert_array_equal(layer.by_neuron, (levels != other).sum(axis=0))
    assert "other value" in repr(found)
    assert analysis.compare(a, b, within=1).layers["1"].unlike == 3
    ones = analysis.compare(a, spikes).layers["1"]
    assert ones.differing == ones.unlike == np.count_nonzero((levels != 0) & (levels != 1))
