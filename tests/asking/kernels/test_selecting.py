"""Parts of a recording are selected, and questions that make no sense are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import analysis


def test_selections_add_up(path: Path, layers: dict[str, np.ndarray]) -> None:
    recording = analysis.open_recording(path)
    narrow = (
        recording.select(steps=slice(4, None))
        .select(steps=slice(None, -40), layers="1")
        .select(labels=[3, 4])
    )
    narrow = narrow.select(labels=3, trials=[0, 1]).select(trials=slice(0, 1))
    assert list(narrow) == ["1"]
    assert narrow["1"].frames == 6
    assert int(narrow.spike_count()) == layers["1"][4 * 8 + 3 : 10 * 8 : 8].sum()
    assert narrow.steps == 50, "of the recording, not of the selection"
    layer = recording["1"].select(steps=slice(4, 10), labels=[3, 4]).select(labels=3, trials=0)
    assert int(layer.spike_count()) == int(narrow.spike_count())
    assert "selected steps: 4 to 9" in repr(narrow)


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ({"steps": slice(0, 9, 2)}, analysis.QuestionError, "has a stride of 2"),
        ({"steps": 5}, TypeError, r"expected a slice such as slice\(1000, 2000\)"),
        ({"steps": slice("a", None)}, TypeError, "expected a whole number"),
        ({"trials": [0, 2]}, analysis.QuestionError, "there is no trial 2; the trials are 0 to 1"),
        ({"trials": [-1]}, analysis.QuestionError, "there is no trial -1"),
        ({"trials": "one"}, TypeError, "expected whole numbers, a slice of them, or a mask of 2"),
        ({"labels": [99]}, analysis.QuestionError, "no sample is labelled 99; the labels are 0, 1, 2"),
    ],
)
def test_a_selection_that_makes_no_sense(
    path: Path, chosen: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        analysis.open_recording(path).select(**chosen)
    with pytest.raises(error, match=message):
        analysis.open_recording(path)["1"].select(**chosen)


@pytest.mark.parametrize(
    ("per", "window", "error", "message"),
    [
        ("neurons", None, analysis.QuestionError, "'neurons' is unknown; expected 'network', 'layer'"),
        (("step", "window"), 2, analysis.QuestionError, "asks for 'step' and 'window' at once"),
        (("trial", "presentation"), None, analysis.QuestionError, "a presentation is a trial and a sample"),
        (("trial", "trial"), None, analysis.QuestionError, "asks for 'trial' twice"),
        (("neuron", "channel"), None, analysis.QuestionError, "asks for 'channel' and 'neuron' at once"),
        ("window", None, analysis.QuestionError, "needs the length of a window"),
        ("window", 0, analysis.QuestionError, "window=0; expected a number of steps, 1 or more"),
        ("window", 1.5, TypeError, "expected a number of steps"),
        ("step", 5, analysis.QuestionError, "window=5 was given, but per='step'"),
    ],
)
def test_a_question_that_makes_no_sense(
    path: Path, per: str, window: int, error: type[Exception], message: str
) -> None:
    recording = analysis.open_recording(path)
    for ask in (recording.firing_rate, recording.silent_ratio, recording["1"].spike_count):
        with pytest.raises(error, match=message):
            ask(per=per, window=window)


def test_places_are_asked_of_one_layer_that_has_them(path: Path) -> None:
    recording = analysis.open_recording(path)
    with pytest.raises(analysis.QuestionError, match=r'recording\["1"\].firing_rate\(per="neuron"\)'):
        recording.firing_rate(per="neuron")
    assert recording.select(layers=["1"]).firing_rate(per=("layer", "channel")).dims == ("layer", "channel")
    with pytest.raises(analysis.QuestionError, match=r"layer 'features\.3' has no channels"):
        recording["features.3"].firing_rate(per="channel")


def test_too_long_results_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = analysis.open_recording(path)
    monkeypatch.setattr("analysis.asking.planning.MAX_RESULT_BLOCKS", 3)
    monkeypatch.setattr("analysis.asking.planning.RESULT_BLOCK_BYTES", 8)
    with pytest.raises(analysis.QuestionError, match="would give 50 × 1 values"):
        recording.firing_rate(per="step")
    monkeypatch.setattr("analysis.spikes.MAX_BLOCKS", 0)
    monkeypatch.setattr("analysis.spikes.BLOCK_FRAMES", 64)
    with pytest.raises(analysis.QuestionError, match="400 frames of spikes, too many for one lazy array"):
        recording["1"].spikes  # noqa: B018
