"""Pictures for notebooks and papers show the numbers that were recorded, in axes of matplotlib."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import analysis
from analysis import plotting
from analysis.arguments import QuestionError
from tapes import Run, Trial, write_recording

TRIALS, STEPS, BATCH = 3, 7, 4
LAYERS = {"1": (3, 2), "$\\frac{_": (5,), "_hidden": ()}


@pytest.fixture(scope="module")
def spikes() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {name: random.random((TRIALS * STEPS * BATCH, *shape)) < 0.4 for name, shape in LAYERS.items()}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, spikes: dict[str, np.ndarray]) -> analysis.Recording:
    path = tmp_path_factory.mktemp("plots") / "run.zarr"
    runs = [Run(trial * 10, STEPS, BATCH, trial) for trial in range(TRIALS)]
    trials = [Trial(trial, BATCH, {"label": ["a$b", "c", "a$b", None][:BATCH]}) for trial in range(TRIALS)]
    write_recording(path, spikes, runs, trials, provenance={"dt": 2.0, "dt_unit": "ms"})
    return analysis.open_recording(path)


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


def drawn(ax: Axes) -> set[tuple[int, int]]:
    """Places of all marks: steps and rows."""
    return {(int(x), int(y)) for line in ax.lines if line.get_marker() == "|" for x, y in line.get_xydata()}


def test_a_raster_of_one_sample_has_a_mark_for_each_spike_at_its_step(
    recording: analysis.Recording, spikes: dict[str, np.ndarray], ax: Axes
) -> None:
    assert recording.select(samples=2).plot.raster(ax, color="red", markersize=5) is ax
    wanted, below = set(), 0
    for each in spikes.values():
        flat = each.reshape(TRIALS, STEPS, BATCH, -1)[:, :, 2]
        wanted |= {(10 * trial + step, below + neuron) for trial, step, neuron in np.argwhere(flat)}
        below += flat.shape[-1]
    assert drawn(ax) == wanted
    assert {line.get_color() for line in ax.lines if line.get_marker() == "|"} == {"red"}
    assert (ax.get_xlabel(), ax.get_ylim()) == ("step", (-0.5, below - 0.5))


def test_a_raster_of_several_samples_has_presentations_one_behind_the_other(
    recording: analysis.Recording, spikes: dict[str, np.ndarray], ax: Axes
) -> None:
    recording["1"].select(trials=[0, 2], samples=[1, 3]).plot.raster(ax)
    flat = spikes["1"].reshape(TRIALS, STEPS, BATCH, -1)
    inputs = [(0, 1), (0, 3), (2, 1), (2, 3)]
    wanted = {
        (place * STEPS + step, neuron)
        for place, (trial, sample) in enumerate(inputs)
        for step, neuron in np.argwhere(flat[trial, :, sample])
    }
    assert drawn(ax) == wanted
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step, one presentation behind the other", "neuron")
    assert [text.get_text() for text in ax.texts] == ["c", "", "c", ""]


def test_rates_are_a_line_for_each_layer(recording: analysis.Recording, ax: Axes) -> None:
    recording.plot.rates("time", ax, unit="Hz", linewidth=3)
    wanted = recording.firing_rate(("layer", "time"), unit="Hz").compute()
    assert [line.get_ydata().tolist() for line in ax.lines] == wanted.values.tolist()
    assert ax.lines[0].get_xdata().tolist() == [2.0 * time for time in range(STEPS)]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (ms)", "firing rate: spikes per neuron and second")
    assert ax.lines[0].get_linewidth() == 3


def test_rates_of_a_layer_over_labels(recording: analysis.Recording, ax: Axes) -> None:
    layer = recording["1"]
    layer.plot.rates("trial", ax)
    assert ax.lines[0].get_ydata().tolist() == layer.firing_rate("trial").values.tolist()
    assert ax.get_xlabel() == "trial"


def test_a_heat_map_has_a_row_for_each_layer_or_neuron(recording: analysis.Recording) -> None:
    for of, row in ((recording, "layer"), (recording["1"], "neuron")):
        ax = Figure().subplots()
        of.plot.heatmap("window", ax, window=10, vmax=1)
        wanted = of.firing_rate((row, "window"), window=10).compute().transpose(..., "window")
        (mesh,) = ax.collections
        assert np.asarray(mesh.get_array()).ravel().tolist() == wanted.values.ravel().tolist()
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("window (ms)", row)
        assert mesh.get_clim()[1] == 1


@pytest.mark.parametrize("is_tex", [False, True])
def test_names_are_no_formulas(recording: analysis.Recording, ax: Axes, is_tex: bool) -> None:
    with mpl.rc_context({"text.usetex": is_tex}):
        recording.plot.rates("step", ax)
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        labelled = recording["1"].plot.heatmap("label", Figure().subplots())
    if is_tex:
        assert names == ["1", "\\char36 \\char92 frac\\char123 \\char95 ", "\\char95 hidden"]
    else:
        assert names == ["1", "\\$\\frac{_", " _hidden"]
        ax.figure.canvas.draw()
        labelled.figure.canvas.draw()


def test_what_no_picture_can_show_is_refused_before_it_is_read(
    recording: analysis.Recording, ax: Axes, monkeypatch: pytest.MonkeyPatch
) -> None:
    plot = recording.plot
    monkeypatch.setattr(plotting, "MAX_EVENTS", 6)
    with pytest.raises(QuestionError, match=r"would have \d+ marks, expected 6 at most: select fewer steps"):
        plot.raster(ax)
    with pytest.raises(
        QuestionError, match='rates per step would have 21 places, expected 6 at most: ask per="window"'
    ):
        plot.rates("step", ax)
    monkeypatch.setattr(plotting, "compute", None)
    monkeypatch.setattr(plotting, "MAX_SLOTS", 1007)
    with pytest.raises(QuestionError, match="would read 1008 slots, expected 1007 at most"):
        plot.raster(ax)
    monkeypatch.setattr(plotting, "MAX_CELLS", 20)
    with pytest.raises(QuestionError, match="heat map of this would have 63 cells, expected 20 at most"):
        plot.heatmap("step", ax)


def test_what_is_no_axis_is_refused(recording: analysis.Recording, ax: Axes) -> None:
    with pytest.raises(QuestionError, match="per='network' is nothing to draw along; expected \"step\""):
        recording.plot.rates("network", ax)
    with pytest.raises(QuestionError, match=r"per is \('label', 'time'\) \(tuple\); expected"):
        recording.plot.heatmap(("label", "time"), ax)  # type: ignore[arg-type]


def test_a_selection_without_frames_is_an_empty_picture(recording: analysis.Recording, ax: Axes) -> None:
    nothing = recording.select(steps=slice(7, 10))
    assert drawn(nothing.plot.raster(ax)) == set()
    assert len(nothing.plot.rates("step", ax).get_legend().get_texts()) == len(LAYERS)


def test_without_layers_there_is_nothing_to_draw(tmp_path: Path, ax: Axes) -> None:
    write_recording(tmp_path / "run.zarr", {}, [], close=False)
    plot = analysis.open_recording(tmp_path / "run.zarr").plot
    for draw in (plot.raster, plot.rates, plot.heatmap):
        with pytest.raises(QuestionError, match="there is no layer to draw, expected one at least"):
            draw(ax=ax)


def test_a_heat_map_of_no_steps_is_refused(recording: analysis.Recording, ax: Axes) -> None:
    with pytest.raises(QuestionError, match="would have no cells, as there is no step"):
        recording.select(steps=slice(7, 10)).plot.heatmap("step", ax)


def test_long_names_do_not_lie_upon_each_other(tmp_path: Path) -> None:
    names = [f"features.stage{number}.block.lif_of_the_second_branch" for number in range(16)]
    random = np.random.default_rng(4)
    labels = [f"a picture of a number, and the number is {number}" for number in range(24)]
    write_recording(
        tmp_path / "run.zarr",
        {name: random.random((48, 1 + number % 2)) < 0.4 for number, name in enumerate(names)},
        [Run(0, 2, 24, 0)],
        [Trial(0, 24, {"label": labels})],
    )
    recording = analysis.open_recording(tmp_path / "run.zarr")
    for draw in (recording.plot.raster, recording.plot.heatmap, partial(recording.plot.heatmap, "label")):
        ax = draw(ax=Figure(figsize=(6, 2)).subplots())
        ax.figure.canvas.draw()
        for shown in (ax.get_yticklabels(), ax.texts, ax.get_xticklabels()):
            boxes = [
                text.get_window_extent() for text in shown if text.get_text() and not text.get_rotation()
            ]
            assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        assert 2 < len(ax.get_yticklabels()) < len(names)
    columns = ax.get_xticklabels()
    assert {text.get_rotation() for text in columns} == {45}
    assert len(columns) > 10
    places = [ax.transData.transform((place, 0))[0] for place in ax.get_xticks()]
    assert np.diff(places).min() > columns[0].get_fontsize()


def test_without_matplotlib_the_extra_is_named(recording: analysis.Recording) -> None:
    code = """
import sys
sys.modules["matplotlib"] = None
import analysis
try:
    analysis.open_recording(sys.argv[1]).plot.rates()
except ModuleNotFoundError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", code, recording.location],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert run.stdout == "plots need matplotlib, which is not installed: pip install 'spiketape[plot]'\n"
