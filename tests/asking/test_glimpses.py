"""Notebooks show small pictures of the layers' rates, which are read from counts and cost next to nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis import glimpses
from tapes import Run, write_recording
from web import Files, serving

FRAMES = 64 * 90
# Of each layer: drifting, silent, and without a whole block.
DRIFT = np.linspace(0.1, 0.6, FRAMES)[:, None]


@pytest.fixture(scope="module")
def spikes() -> np.ndarray:
    return np.random.default_rng(2).random((FRAMES, 6)) < DRIFT


@pytest.fixture
def path(tmp_path: Path, spikes: np.ndarray) -> Path:
    path = tmp_path / "run.zarr"
    layers = {"drifting": spikes, "silent": np.zeros_like(spikes)}
    write_recording(path, layers, [Run(0, FRAMES // 4, 4)], chunk_bytes=1, counts_share=1.0)
    return path


def heights(html: str) -> list[list[float]]:
    """Heights of the bars in each picture."""
    return [
        [float(height) for height in re.findall(r"height='([\d.]+)'/>", picture)]
        for picture in re.findall(r"<svg.*?</svg>", html)
    ]


def rates(spikes: np.ndarray) -> np.ndarray:
    """Rates at 24 places, each of some blocks of 64 frames."""
    blocks = spikes.reshape(90, 64, 6).mean((1, 2))
    cuts = [place * 90 // 24 for place in range(24)]
    return np.array([part.mean() for part in np.split(blocks, cuts[1:])])


def test_each_layer_has_bars_of_its_rates_in_one_scale(path: Path, spikes: np.ndarray) -> None:
    drifting, silent = heights(analysis.open_recording(path)._repr_html_())
    assert np.allclose(drifting, rates(spikes) / rates(spikes).max(), atol=0.0006)
    assert silent == [0.0] * 24


def test_a_layer_has_its_picture_with_the_range_in_words(path: Path, spikes: np.ndarray) -> None:
    html = analysis.open_recording(path)["drifting"]._repr_html_()
    assert len(heights(html)) == 1
    least, most = rates(spikes).min(), rates(spikes).max()
    assert f"aria-label='firing rate between {least:.4f} and {most:.4f}'" in html


def test_no_spikes_are_read(path: Path) -> None:
    recording = analysis.open_recording(path)
    shutil.rmtree(path / "layers" / "drifting" / "spikes")
    assert len(heights(recording._repr_html_())) == 2


def test_of_large_counts_a_few_places_are_read(
    path: Path, spikes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.format.arrays.TABLE_CHUNK_BYTES", 10 * 6 * 4, raising=False)
    monkeypatch.setattr("recorder.format.layout.TABLE_CHUNK_BYTES", 10 * 6 * 4)
    again = path.with_name("again.zarr")
    write_recording(again, {"1": spikes}, [Run(0, FRAMES // 4, 4)], chunk_bytes=1, counts_share=1.0)
    monkeypatch.setattr(glimpses, "MAX_BYTES", 3 * 10 * 6 * 4)
    recording = analysis.open_recording(again)
    for chunk in (1, 2, 4, 5, 7, 8):
        shutil.rmtree(again / "layers" / "1" / "counts" / "c" / str(chunk))
    (bars,) = heights(recording._repr_html_())
    assert len(bars) == 24
    monkeypatch.setattr(glimpses, "MAX_BYTES", 10 * 6 * 4 - 1)
    assert heights(recording._repr_html_()) == []


def test_parts_and_several_recordings_have_no_picture(path: Path) -> None:
    recording = analysis.open_recording(path)
    assert heights(recording.select(steps=slice(0, 100))._repr_html_()) == []
    assert heights(recording.select(layers="drifting")._repr_html_()) != []
    write_recording(path.with_name("b.zarr"), {"1": np.ones((64, 3), np.bool_)}, [Run(0, 64, 1)])
    write_recording(path.with_name("c.zarr"), {"1": np.ones((64, 3), np.bool_)}, [Run(0, 64, 1)])
    both = analysis.open_recording([path.with_name("b.zarr"), path.with_name("c.zarr")])
    assert heights(both._repr_html_()) == []


def test_a_web_server_is_asked_nothing_for_it(path: Path) -> None:
    asked: list[str] = []

    class Counting(Files):
        def send_head(self) -> object:  # type: ignore[override]
            asked.append(self.path)
            return super().send_head()

    with serving(path.parent, Counting) as address:
        recording = analysis.open_recording(f"{address}/run.zarr")
        repr(recording)
        before = len(asked)
        assert heights(recording._repr_html_()) == []
    assert [key for key in asked[before:] if "counts" in key] == []


def test_damaged_counts_are_said_in_place_of_the_picture(path: Path) -> None:
    file = next(each for each in (path / "layers" / "silent" / "counts" / "c").rglob("*") if each.is_file())
    file.write_bytes(b"damaged")
    html = analysis.open_recording(path)._repr_html_()
    assert heights(html) == []
    assert re.search(r"<div>no rates are shown: .*counts.*is damaged", html)
