"""Reports on recordings of every kind: bare, silent, growing, of several ranks, hostile, two at once."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analysis
import recorder
from browser import CHROMIUM, DRIVER, MISSING, Browser
from committed_recordings import RECORDINGS
from reported import data_of, make_recording, numbers_of
from tapes import Run, Trial, write_recording

needs_browser = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason=MISSING)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \u2028'\"&=⟨layer⟩\r\nx"


def spikes(*shape: int, rate: float = 0.2) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape) < rate


LABELLED = {"runs": [Run(0, 10, 10, 0)], "trials": [Trial(0, 10, {"label": [0, 1] * 5})]}


def without_trials(path: Path) -> Any:
    write_recording(path, {"1": spikes(200, 5), "2": spikes(200, 2, 3, 4)}, [Run(0, 50, 4)])
    return path


def one_layer(path: Path) -> Any:
    write_recording(path, {"only": spikes(100, 20)}, **LABELLED)
    return path


def many_layers(path: Path) -> Any:
    layers = {f"block{number}.spikes": spikes(100, 12, rate=0.4 * 0.9**number) for number in range(15)}
    write_recording(path, layers, **LABELLED)
    return path


def dead_and_saturated(path: Path) -> Any:
    layers = {"a": spikes(100, 8), "b": spikes(100, 8, rate=1), "c": spikes(100, 8, rate=0)}
    write_recording(path, layers, **LABELLED)
    return path


def growing(path: Path) -> Any:
    write_recording(path, {"1": spikes(100, 9)}, **LABELLED, close=False)
    return path


def just_begun(path: Path) -> Any:
    write_recording(path, {}, [], close=False)
    return path


def odd_shapes(path: Path) -> Any:
    layers = {"0": spikes(100), "4": spikes(100, 3, 2, 2, 2), "2": spikes(100, 6, 9)}
    write_recording(path, layers, **LABELLED)
    return path


def ranks(path: Path) -> Any:
    return [RECORDINGS / f"run.rank-0000{rank}-of-00002.zip" for rank in range(2)]


def lost_frames(path: Path) -> Any:
    return RECORDINGS / "lost.zarr"


def values(path: Path) -> Any:
    return RECORDINGS / "values.zarr"


def hostile(path: Path) -> Any:
    notes = {"network": HOSTILE, "metadata": {HOSTILE: HOSTILE}, "packages": {HOSTILE: HOSTILE}}
    labels = [HOSTILE, "=1+1", None, "@a", *["b"] * 6]
    write_recording(
        path,
        {HOSTILE: spikes(100, 9), "__proto__": spikes(100, 5), "=1+1": spikes(100, 5)},
        [Run(0, 10, 10, 0)],
        [Trial(0, 10, {"label": labels, HOSTILE: list(range(10))})],
        provenance={**notes, "git_commit": HOSTILE, "dt": 1.0, "dt_unit": HOSTILE},
    )
    return path


KINDS = [
    *(without_trials, one_layer, many_layers, dead_and_saturated, growing, just_begun, odd_shapes),
    *(ranks, lost_frames, values, hostile),
]


@needs_browser
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
@pytest.mark.filterwarnings("ignore::analysis.LostFramesWarning")
def test_each_picture_is_drawn_or_says_why_not(
    make: Callable[[Path], Any], chromium: Browser, tmp_path: Path
) -> None:
    page = analysis.open_recording(make(tmp_path / "run.zarr")).report(tmp_path / "report.html")
    chromium.open(page, 400)
    for number in range(min(chromium.run("return Report.layers.length"), 4)):
        chromium.run("Report.choose(arguments[0])", number)
        bare = chromium.run(
            "return [...document.querySelectorAll('figure')].filter((each) => !each.querySelector("
            "'canvas, .why, [role=radio], dl')).map((each) => each.outerHTML)"
        )
        assert bare == []
    assert all(why.text.strip().endswith(".") for why in chromium.find_all(".why"))
    assert chromium.find_all(".findings li")
    assert chromium.run("return document.documentElement.scrollWidth") <= 400
    assert chromium.messages() == []
    assert chromium.requests() == []


def found(recording: Any, tmp_path: Path, **options: Any) -> str:
    text = analysis.open_recording(recording).report(tmp_path / "found.html", **options).read_text()
    return text.split('<ul class="findings">')[1].split("</ul>")[0]


def test_findings_name_dead_and_saturated_layers_and_activity_that_dies(tmp_path: Path) -> None:
    said = found(dead_and_saturated(tmp_path / "run.zarr"), tmp_path)
    assert "Dead: no neuron of &#x27;c&#x27;" in said
    assert "Saturated: neurons of &#x27;b&#x27;" in said
    assert "Activity dies with depth: from 1 " in said
    fine = found(one_layer(tmp_path / "one.zarr"), tmp_path)
    assert "The layer is neither dead nor saturated" in fine


def test_findings_name_drift_and_not_the_ups_and_downs_of_chance(tmp_path: Path) -> None:
    rising = spikes(800, 20, rate=0.1) | (
        spikes(800, 20, 1, rate=0.3)[..., 0] & (np.arange(800) > 600)[:, None]
    )
    write_recording(tmp_path / "run.zarr", {"level": spikes(800, 20), "rising": rising}, [Run(0, 200, 4)])
    said = found(tmp_path / "run.zarr", tmp_path)
    assert "Drift: the rate of &#x27;rising&#x27; is not level" in said
    assert "level&#x27; is" not in said.replace("rising&#x27; is not level", "")


def test_layers_of_which_only_counts_were_kept_blank_no_picture_of_the_others(tmp_path: Path) -> None:
    layers = {"1": spikes(50, 4, 10), "2": spikes(50, 4, 12)}
    recorder.write_recording(tmp_path / "run.zarr", layers, keep={"1": "counts"})
    recording = analysis.open_recording(tmp_path / "run.zarr")
    text = recording.report(tmp_path / "report.html").read_text()
    pictures = {picture["name"]: picture for picture in data_of(text)["pictures"]}
    others = recording.select(layers=["2"])
    assert "timed = recording.select(layers=[&#x27;2&#x27;])" in text
    for name, line, answer in (
        ("time", "timed.firing_rate(('layer', 'window'), window=1)", others.firing_rate("step")),
        ("synchrony", "timed.synchrony('layer')", others.synchrony("layer")),
        ("intervals", None, others.isi_histogram("layer", longest=40, boundary="none")),
    ):
        (table, *_) = pictures[name]["tables"].values()
        assert line in (None, *table["lines"])
        np.testing.assert_array_equal(numbers_of(table["data"][0]).ravel(), answer.values.ravel())
    assert text.count("Left out, as only counts were kept of them: &#x27;1&#x27;.") == 5
    # Of counts, too, it is known how often each neuron fired.
    assert [figure is None for figure in pictures["maps"]["tables"]["rate"]["layers"][0]] == [False, False]
    assert [figure is None for figure in pictures["raster"]["tables"]["spikes"]["layers"][0]] == [True, False]


def test_layers_of_which_only_counts_were_kept_are_not_compared(tmp_path: Path) -> None:
    layers = {"1": spikes(50, 4, 10), "2": spikes(50, 4, 12)}
    recorder.write_recording(tmp_path / "a.zarr", layers, keep={"1": "counts"})
    recorder.write_recording(tmp_path / "b.zarr", layers)
    said = found(tmp_path / "a.zarr", tmp_path, other=analysis.open_recording(tmp_path / "b.zarr"))
    assert "No slot of any other layer differs." in said
    assert "Not compared, as only counts were kept of them: &#x27;1&#x27;." in said


def test_of_counts_alone_no_finding_says_that_nothing_drifts(tmp_path: Path) -> None:
    layers = {"1": spikes(50, 4, 10)}
    recorder.write_recording(tmp_path / "counts.zarr", layers, keep="counts")
    recorder.write_recording(tmp_path / "bits.zarr", layers)
    assert "Whether activity drifts cannot be told" in found(tmp_path / "counts.zarr", tmp_path)
    assert "and its activity does not drift." in found(tmp_path / "bits.zarr", tmp_path)


def test_a_few_frames_are_said_to_be_too_few(tmp_path: Path) -> None:
    write_recording(tmp_path / "run.zarr", {"1": spikes(12, 9)}, [Run(0, 12, 1)])
    assert "Too few slots to say much" in found(tmp_path / "run.zarr", tmp_path)


def test_recordings_that_are_opened_as_one_are_named(tmp_path: Path) -> None:
    page = analysis.open_recording(ranks(tmp_path)).report(tmp_path / "report.html")
    names = ", ".join(f"run.rank-0000{rank}-of-00002.zip" for rank in range(2))
    assert f"<dd>2 opened as one: {names}</dd>" in page.read_text()


def test_names_of_strangers_do_nothing(tmp_path: Path) -> None:
    text = analysis.open_recording(hostile(tmp_path / "run.zarr")).report(tmp_path / "r.html").read_text()
    assert "<script>alert" not in text
    assert "<img" not in text
    assert data_of(text)["layers"][0]["key"] == HOSTILE


@needs_browser
def test_csv_of_labels_of_strangers_is_no_formula(chromium: Browser, tmp_path: Path) -> None:
    page = analysis.open_recording(hostile(tmp_path / "run.zarr")).report(tmp_path / "report.html")
    chromium.open(page)
    text = chromium.download(f"{chromium.figure('labels')} [data-table=rate] button")
    labels = {row["label"] for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert labels == {HOSTILE, "'=1+1", "'@a", "b"}


def test_equal_recordings_are_said_to_be_equal(tmp_path: Path) -> None:
    make_recording(tmp_path / "a.zarr")
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "b.zarr")
    said = found(tmp_path / "a.zarr", tmp_path, other=analysis.open_recording(tmp_path / "b.zarr"))
    assert "The two are equal: no slot of any layer differs." in said


@needs_browser
def test_two_recordings_are_shown_beside_each_other_and_their_difference(
    chromium: Browser, tmp_path: Path
) -> None:
    one, other = (
        analysis.open_recording(make_recording(tmp_path / f"{name}.zarr", seed=seed, rate=rate))
        for name, seed, rate in (("a", 1, 1.0), ("b", 2, 0.5))
    )
    page = one.report(tmp_path / "report.html", other=other)
    chromium.open(page)
    said = chromium.find(".findings").text
    compared = analysis.compare(one, other)
    worst = max(compared.layers.values(), key=lambda layer: layer.differing / layer.slots)
    assert f"most in {worst.name!r}: {worst.differing:,} of {worst.slots:,}" in said

    figure = chromium.figure("maps")
    canvas = f"{figure} canvas"
    shown = {}
    for place, rates in enumerate((one["1"].firing_rate("neuron"), other["1"].firing_rate("neuron"), None)):
        chromium.click(chromium.find_all(f"{figure} .controls button")[place])
        chromium.point(chromium.find(canvas), 3, 3)
        shown[place] = chromium.readout("maps").split(": ")[1]
        if rates is not None:
            assert shown[place] == f"{float(rates[0, 0]):.3g}"
    difference = float((one["1"].firing_rate("neuron") - other["1"].firing_rate("neuron"))[0, 0])
    assert float(shown[2]) == pytest.approx(difference, abs=5e-4)

    rows = chromium.find_all(f"{figure} [data-table=rate] code")
    assert [row.text for row in rows] == [
        f"{name}['1'].firing_rate('neuron')" for name in ("recording", "other")
    ]
    text = chromium.download(f"{figure} [data-table=rate][data-which='1'] button")
    first = next(csv.DictReader(io.StringIO(text)))
    assert float(first["firing_rate"]) == float(other["1"].firing_rate("neuron")[0, 0])
    assert chromium.messages() == []
