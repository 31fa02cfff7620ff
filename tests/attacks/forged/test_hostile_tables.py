"""Tables of trials that no recorder makes: one error that names what is wrong, or the right answer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import analysis
from analysis.asking.narrowing import narrow_trials
from analysis.cli import commands
from analysis.kernels.selecting.selected_frames import SelectedFrames
from analysis.kernels.selecting.selection import Selection
from analysis.kernels.selecting.trial_table import TrialRows
from damage import edit_record
from processes import finished, python
from recorder.format import RecordingFormatError
from recorder.format.segments import Segments
from tapes import Run, Trial, write_recording

LABELS = ("a", 2.5, True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three trials of three samples, each sample with a label of another kind."""
    trials = [Trial(number, 3, {"label": list(LABELS)}) for number in range(3)]
    spikes = np.zeros((18, 2), np.bool_)
    spikes[6:12] = True
    runs = [Run(number * 2, 2, 3, number) for number in range(3)]
    write_recording(tmp_path / "run.zarr", {"1": spikes}, runs, trials)
    return tmp_path / "run.zarr"


def columns(record: dict[str, Any]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = record["trials"]["columns"]
    return listed


def twice(record: dict[str, Any]) -> None:
    columns(record).append(columns(record)[2])


def no_trial(record: dict[str, Any]) -> None:
    del columns(record)[0]


def trial_of_floats(record: dict[str, Any]) -> None:
    columns(record)[0]["kind"] = "float64"


def long_label(record: dict[str, Any]) -> None:
    columns(record)[2]["categories"][0] = 10**400


def label_beyond_64_bits(record: dict[str, Any]) -> None:
    columns(record)[2]["categories"][0] = -(2**63)


def label_twice(record: dict[str, Any]) -> None:
    columns(record)[2]["categories"][0] = 2.5


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (twice, "columns lists 'label' 2 times, expected once"),
        (no_trial, "columns has 'trial' of kind None, expected 'int64'"),
        (trial_of_floats, "columns has 'trial' of kind 'float64', expected 'int64'"),
        (long_label, "categories holds 1000.*a whole number that 64 bits do not hold"),
        (label_beyond_64_bits, "categories holds -9223372036854775808, a whole number that 64 bits do not"),
        (label_twice, "categories hold 2.5 2 times, expected once"),
    ],
)
def test_a_forged_table_is_one_error_that_names_it(
    path: Path, forge: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit_record(path, forge)
    with pytest.raises(RecordingFormatError, match=message):
        analysis.open_recording(path)
    asked = ["rates", str(path), "--per", "label", "-o", str(path.parent / "out.parquet")]
    told = CliRunner().invoke(commands.main, asked)
    assert told.exit_code == 1
    assert "Traceback" not in told.output


def test_true_and_one_are_two_categories(path: Path) -> None:
    edit_record(path, lambda record: columns(record)[2].update(categories=[1, 1.0, True]))
    assert [*map(repr, analysis.open_recording(path).trials.label.values[:3])] == ["1", "1.0", "True"]


def test_any_number_of_trials_may_be_claimed(path: Path) -> None:
    edit_record(path, lambda record: record["trials"].update(trials=2**40))
    recording = analysis.open_recording(path)
    for trials in (slice(None), slice(0, None), slice(None, None, -1)):
        selected = recording.select(trials=trials)
        assert selected.firing_rate(per="trial").values.tolist() == [0, 1, 0]
        assert selected.trials.trial.values.tolist() == [0] * 3 + [1] * 3 + [2] * 3
        assert "selected trials: 0, 1, 2, " in repr(selected)
    odd = recording.select(trials=slice(1, None, 2)).select(trials=slice(None, -1, 3))
    assert odd.firing_rate(per="trial").trial.values.tolist() == []
    assert (
        recording.select(trials=slice(1, None)).select(trials=[0, 1]).trials.trial.values.tolist() == [1] * 3
    )


slices = st.builds(
    slice, *[st.one_of(st.none(), st.integers(-30, 30))] * 2, st.sampled_from([None, 1, 2, 3, 6, -1, -4])
)


@given(st.integers(0, 25), slices, st.one_of(slices, st.lists(st.integers(0, 24))))
def test_trials_are_selected_as_python_slices_them(begun: int, first: slice, second: Any) -> None:
    if isinstance(second, list):
        second = [trial for trial in second if trial < begun]
    selection = narrow_trials(narrow_trials(Selection(), first, begun), second, begun)
    given = set(range(begun)[second]) if isinstance(second, slice) else set(second)
    expected = sorted(set(range(begun)[first]) & given)
    assert selection.trials is not None
    assert [*selection.trials] == expected
    assert [*np.flatnonzero(selection.has_trials(np.arange(begun)))] == expected


def test_labels_of_a_batch_larger_than_any_memory_are_looked_up() -> None:
    """Of what a commit record may promise: one step of as many samples as there are frames."""
    batch = 2**50
    segments = Segments(np.array([[0, 0, 1, batch, 0]], np.int64))
    frames = SelectedFrames(segments, Selection(), TrialRows(np.zeros(3, np.int64)))
    row, sample = np.zeros(1000, np.int64), np.arange(1, 1001)
    assert frames.table_rows(row, sample).tolist() == [1, 2] + [-1] * 998


PARSER = """
import resource, sys
from recorder.format import RecordingFormatError
from recorder.format.parsing.record import parse_document
resource.setrlimit(resource.RLIMIT_AS, (2**30, resource.RLIM_INFINITY))
column = '{"name":"a","kind":"category","crc32c":0,"categories":[' + "null," * 2_000_000 + 'null]}'
record = '{"format_version":1,"state":"closed","trials":{"columns":[' + column + ']}}'
try:
    parse_document(('{"attributes":{"spiketape":' + record + '}}').encode(), "zarr.json")
except RecordingFormatError as error:
    print(len(str(error)) < 100_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
def test_millions_of_problems_are_one_short_error() -> None:
    with python(PARSER) as parser:
        assert finished(parser).strip() == "True"
