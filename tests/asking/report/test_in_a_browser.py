"""What a report shows in a real browser, opened from the disk."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from browser import CHROMIUM, DRIVER, MISSING, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason=MISSING)


@pytest.fixture
def page(chromium: Browser, report: Path) -> Browser:
    chromium.open(report)
    return chromium


def test_nothing_is_asked_for_and_the_console_stays_empty(page: Browser) -> None:
    for number in range(3):
        page.run("Report.choose(arguments[0])", number)
    assert page.requests() == []
    assert page.messages() == []


def test_every_picture_is_drawn(page: Browser) -> None:
    names = page.run("return Report.report.pictures.map((each) => each.name)")
    assert len(names) == 15
    page.run("Report.choose(1)")  # the layer with a signal
    for name in names:
        pixels = page.pixels(f"{page.figure(name)} .plot")
        colours = np.unique(pixels.reshape(-1, 3), axis=0)
        assert len(colours) > 8, name
        # Neither a stamp in a corner nor a line along an edge.
        drawn = (pixels != pixels[0, -1]).any(axis=2)
        assert drawn.any(axis=1).mean() > 0.3, name
        assert drawn.any(axis=0).mean() > 0.1, name


def test_colours_of_a_map_follow_its_figures(page: Browser, recording: analysis.Recording) -> None:
    page.run("Report.choose(2)")
    rates = recording.firing_rate(("layer", "time")).values
    pixels = page.pixels(f"{page.figure('time')} .frame").astype(float)
    left = page.run(
        "const canvas = document.querySelector('[data-picture=time] canvas');"
        "const context = canvas.getContext('2d'); context.font = '12px system-ui, sans-serif';"
        "return Math.max(...['1', '3', 'out'].map((name) => context.measureText(name).width), 20) + 10"
    )
    across = (pixels.shape[1] - left - 4) / rates.shape[1]
    places = (left + (np.arange(rates.shape[1]) + 0.5) * across).astype(int)
    seen = pixels[[30, 90, 150]][:, places].sum(axis=2)
    # The more, the darker.
    order = np.argsort(rates, axis=None)
    assert (np.diff(seen.ravel()[order]) <= 1).all()


def test_a_click_on_a_layer_chooses_it_everywhere(page: Browser) -> None:
    before = {name: page.pixels(page.figure(name)) for name in ("rates", "maps", "raster", "labels")}
    page.click(page.find_all(".strip [role=radio]")[2])
    assert page.find('.strip [aria-checked="true"]').text.startswith("3 out")
    assert page.find("#layer").get_property("value") == "2"
    for name, pixels in before.items():
        now = page.pixels(page.figure(name))
        assert now.shape != pixels.shape or (now != pixels).any(), name
    line = page.find(f"{page.figure('maps')} code").text
    assert line == "recording['out'].firing_rate('neuron')"


def test_a_click_on_the_map_of_layers_and_times_chooses_the_layer(page: Browser) -> None:
    page.point(page.find(f"{page.figure('time')} canvas"), 300, 90, click=True)
    assert page.find("#layer").get_property("value") == "1"


def test_the_mouse_tells_figures(page: Browser, recording: analysis.Recording) -> None:
    page.point(page.find(f"{page.figure('maps')} canvas"), 3, 3)
    rate = float(recording["1"].firing_rate("neuron")[0, 0])
    assert page.readout("maps") == f"channel 0, unit 0: {rate:.3g}" or f"{rate:.3g}" in page.readout("maps")
    page.point(page.find(f"{page.figure('accuracy')} .u-over"), 1, 50)
    accuracy = float(recording.accuracy("out", per="time")[0])
    assert f"{accuracy:.3g}" in page.readout("accuracy")


def test_arrow_keys_tell_figures(page: Browser, recording: analysis.Recording) -> None:
    canvas = page.find(f"{page.figure('time')} canvas")
    page.press(canvas, "ARROW_RIGHT", "ARROW_RIGHT", "ARROW_DOWN")
    rate = float(recording.firing_rate(("layer", "time"))[1, 1])
    assert page.readout("time") == f"3, time 1: {rate:.3g}"
    page.press(canvas, "ENTER")
    assert page.find("#layer").get_property("value") == "1"
    page.press(page.find(f"{page.figure('drift')} .uplot"), "ARROW_RIGHT", "ARROW_RIGHT")
    drift = float(recording["3"].firing_rate("epoch")[1])
    assert page.readout("drift") == f"epoch 1: 3 {drift:.3g}"


def test_arrow_keys_choose_layers_in_the_strip(page: Browser) -> None:
    page.press(page.find('.strip [aria-checked="true"]'), "ARROW_DOWN")
    assert page.find("#layer").get_property("value") == "1"
    page.press(page.find('.strip [aria-checked="true"]'), "END")
    assert page.find("#layer").get_property("value") == "2"


def test_the_raster_shows_the_chosen_label_and_says_the_neuron(
    page: Browser, recording: analysis.Recording
) -> None:
    page.run("Report.choose(2)")
    host = page.figure("raster")
    page.click(page.find(f"{host} select option[value='=2']"))
    canvas = page.find(f"{host} canvas")
    width = page.run("return document.querySelector('[data-picture=raster] canvas').clientWidth")
    spikes = recording["out"].spikes.compute()
    said, fired = set(), set()
    for place, share in enumerate(np.linspace(0.05, 0.95, 10)):
        neuron = place % 4
        page.point(canvas, 46 + share * (width - 50), 20 + 15 * (neuron + 0.5))
        text = page.readout("raster")
        step, sample = int(text.split(" at step ")[1].split(" ")[0]), int(text.split("sample ")[1])
        frame = spikes[(spikes["step"].values == step) & (spikes["sample"].values == sample)]
        assert int(frame.label[0]) == 2
        fires = bool(frame[0, neuron])
        assert text.startswith(f"Neuron {neuron} {'fires' if fires else 'is silent'} at step {step}")
        said.add(step)
        fired.add(fires)
    assert said == set(range(10))
    assert fired == {True, False}


def test_the_raster_is_zoomed_into_by_dragging_and_out_again(page: Browser) -> None:
    host = page.figure("raster")
    whole = page.pixels(f"{host} canvas")
    page.drag(page.find(f"{host} canvas"), 100, 300, 40)
    assert (page.pixels(f"{host} canvas") != whole).any()
    page.click(page.find(f"{host} button[aria-label='Show all steps']"))
    # The keyboard stays where it was.
    assert page.run("return document.activeElement.textContent") == "Whole"
    page.point(page.find("h2"), 1, 1)
    assert (page.pixels(f"{host} canvas") == whole).all()


def test_csv_has_the_numbers_of_the_api(page: Browser, recording: analysis.Recording) -> None:
    page.run("Report.choose(0)")
    expected = {
        ("time", "rate"): recording.firing_rate(("layer", "time")),
        ("rates", "neurons"): recording.rate_histogram(
            [0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1], per="layer"
        ),
        ("maps", "rate"): recording["1"].firing_rate("neuron"),
        ("latency", "latency"): recording.latency("layer"),
        ("strip", "operations"): recording.synaptic_operations("layer", uncovered="leave out"),
    }
    for (name, key), answer in expected.items():
        text = page.download(f"{page.figure(name)} [data-table={key}] button")
        table = pd.read_csv(io.StringIO(text), dtype={"layer": str})
        wanted = answer.to_dataframe().reset_index()[table.columns]
        pd.testing.assert_frame_equal(table, wanted, check_dtype=False, check_exact=True)


def test_csv_of_the_raster_has_every_spike_of_its_neurons(
    page: Browser, recording: analysis.Recording
) -> None:
    page.run("Report.choose(1)")
    line = page.find(f"{page.figure('raster')} code").text
    spikes = eval(line, {"recording": recording}).compute()  # noqa: S307
    frame, neuron = spikes.values.nonzero()
    wanted = pd.DataFrame(
        {
            "trial": spikes["trial"].values[frame],
            "sample": spikes["sample"].values[frame],
            "step": spikes["step"].values[frame],
            "neuron": neuron,
        }
    )
    table = pd.read_csv(io.StringIO(page.download(f"{page.figure('raster')} [data-table=spikes] button")))
    order = ["trial", "sample", "step", "neuron"]
    pd.testing.assert_frame_equal(
        table.sort_values(order, ignore_index=True), wanted.sort_values(order, ignore_index=True)
    )


@pytest.mark.parametrize("width", [320, 400, 1600])
def test_nothing_is_wider_than_the_window(chromium: Browser, report: Path, width: int) -> None:
    chromium.open(report, width)
    assert chromium.run("return document.documentElement.scrollWidth") <= width
    wider = chromium.run(
        "return [...document.querySelectorAll('main *')].filter((each) => each.getBoundingClientRect().right"
        " > innerWidth + 1 && !each.closest('code, pre, .u-axis')).map((each) => each.outerHTML.slice(0, 99))"
    )
    assert wider == []
    assert chromium.messages() == []


def test_charts_fill_their_cards(chromium: Browser, report: Path) -> None:
    chromium.open(report, 1600)
    chromium.settle()
    left, heights = chromium.run(
        "const filling = [...document.querySelectorAll('figure')]"
        ".filter((each) => each.querySelector('.uplot'));"
        "const of = (element) => element.getBoundingClientRect();"
        "return [filling.map((each) => each.querySelector('.sources')).map((each) =>"
        " of(each).top - of(each.previousElementSibling).bottom), filling.map((each) =>"
        " of(each.querySelector('.uplot')).height)]"
    )
    assert len(left) > 5
    assert max(left) < 8
    # As high as what stands beside it, and no higher.
    assert 250 < max(heights) < 450


def test_dark_mode_is_dark_in_pictures_too(chromium: Browser, report: Path) -> None:
    brightness = {}
    for dark in (False, True):
        chromium.open(report, dark=dark)
        names = ("time", "rates", "raster", "maps", "drift")
        brightness[dark] = [float(np.median(chromium.pixels(chromium.figure(name)))) for name in names]
    assert min(brightness[False]) > 200
    assert max(brightness[True]) < 60


def test_dark_mode_prints_on_white_paper(chromium: Browser, report: Path) -> None:
    chromium.open(report, dark=True)
    chromium.run("window.dispatchEvent(new Event('beforeprint'))")
    chromium.settle()
    assert np.median(chromium.pixels(chromium.figure("raster"))) > 200
    chromium.run("window.dispatchEvent(new Event('afterprint'))")
    chromium.settle()
    assert np.median(chromium.pixels(chromium.figure("raster"))) < 60


def test_every_picture_says_what_it_is_to_those_who_do_not_see_it(page: Browser) -> None:
    silent = page.run(
        "return [...document.querySelectorAll('canvas:not([aria-hidden])')].filter((each) =>"
        " !(each.ariaLabel || each.closest('[role=img]')?.ariaLabel)).length"
    )
    assert silent == 0
    unnamed = page.run(
        "return [...document.querySelectorAll('button, select')].filter((each) =>"
        " !(each.textContent.trim() || each.ariaLabel || each.labels?.length)).length"
    )
    assert unnamed == 0
