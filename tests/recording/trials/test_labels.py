"""Labels and other attached values: what `trial()` accepts is kept exactly, the rest is refused there."""

from __future__ import annotations

import enum
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from hypothesis import strategies as st

import analysis
from analysis.cli.commands import main
from labelled import exactly, kept, monitored, record
from recorder.format import columns
from recorder.format.trials import TrialLog
from recorder.keeping.pack import pack_recording
from recorder.stores import Folder
from recorder.tape import TapeReader
from tapes import Run, Trial, write_recording

NAN = float("nan")
ALIKE = [True, 1, 1.0, "1", False, 0, 0.0, "0"]


# -- missing values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected", "kind"),
    [
        ([1, None], [1, None], "int64"),
        ([1, NAN], [1, None], "int64"),
        ([2**53 + 1, None], [2**53 + 1, None], "int64"),
        ([0.5, None], [0.5, None], "float64"),
        (np.array([0.5, np.nan], np.float32), [0.5, None], "float64"),
        (torch.tensor([0.5, NAN], dtype=torch.bfloat16), [0.5, None], "float64"),
        (["a", None], ["a", None], "category"),
        (["a", NAN], ["a", None], "category"),
        (np.array(["a", np.nan], object), ["a", None], "category"),
        ([True, None], [True, None], "category"),
        ([np.bool_(True), np.float64("nan")], [True, None], "category"),
        ([None, "x"], [None, "x"], "category"),
        (pd.Series([7, None], dtype="Int64"), [7, None], "int64"),
        (pd.Series([True, None], dtype="boolean"), [True, None], "category"),
        (pd.array(["a", pd.NA], dtype="string"), ["a", None], "category"),
        (pd.Categorical(["a", None]), ["a", None], "category"),
        (np.ma.masked_array([5, 6], [False, True]), [5, None], "int64"),
        ([torch.tensor(3), np.int8(4)], [3, 4], "int64"),
        (np.array(5), [5, 5], "int64"),
        (torch.tensor(0.5), [0.5, 0.5], "float64"),
        (np.str_("x"), ["x", "x"], "category"),
        (range(2), [0, 1], "int64"),
    ],
)
def test_missing_values_are_kept_as_such(tmp_path: Path, given: Any, expected: list[Any], kind: str) -> None:
    recording = record(tmp_path / "a.zarr", {"label": given})
    assert kept(recording) == expected
    (column,) = (c for c in recording.metadata.trials.columns if c.name == "label")
    assert column.kind == kind
    present = [value for value in dict.fromkeys(expected) if value is not None]
    assert recording.spike_count(per="label").label.values.tolist() == present
    spikes = recording["0"].spikes
    assert [value for _, value in exactly(spikes.label.values)] == expected


@pytest.mark.parametrize(
    "missing", [[None, None], [NAN, NAN], torch.full((2,), NAN), [pd.NA, None], NAN, np.array(NAN)]
)
@pytest.mark.parametrize("later", [[3, 4], ["a", "b"], [0.5, 1.5], [True, False]])
def test_a_column_of_missing_values_becomes_what_comes_later(
    tmp_path: Path, missing: Any, later: list[Any]
) -> None:
    recording = record(tmp_path / "a.zarr", {"label": missing}, {"label": later}, {"label": missing})
    assert kept(recording) == [None, None, *later, None, None]
    assert recording.select(labels=later[1]).trials.trial.values.tolist() == [1]
    kind = {int: "int64", float: "float64"}.get(type(later[0]), "category")
    assert recording.metadata.trials.columns[-1].kind == kind


def test_a_column_of_missing_values_alone_is_there(tmp_path: Path) -> None:
    recording = record(tmp_path / "a.zarr", {"label": [NAN, NAN], "mood": None}, {"epoch": 1})
    assert kept(recording) == [None] * 4
    assert kept(recording, "mood") == [None] * 4
    assert kept(recording, "epoch") == [None, None, 1, 1]
    again = record(tmp_path / "a.zarr", {"label": [2**53 + 1, "x"], "mood": "good"}, resume=True)
    assert kept(again) == [*[None] * 4, 2**53 + 1, "x"]
    assert kept(again, "mood") == [*[None] * 4, "good", "good"]


def test_whole_numbers_with_missing_ones_are_exact(tmp_path: Path) -> None:
    numbers = [2**53 + 1, -(2**63) + 1, 2**63 - 1, 2**53 - 1]
    recording = record(tmp_path / "a.zarr", {"label": [*numbers, None], "small": [1, 2, 3, 4, None]}, batch=5)
    assert recording.trials.label.dtype == object
    assert recording.trials.label.values.tolist() == [*numbers, None]
    assert recording.trials.small.dtype == np.float64
    spikes = recording["0"].spikes
    assert spikes.label.values.tolist() == [*numbers, None]
    assert spikes.label.dtype == object
    assert spikes.small.dtype == np.float64
    assert recording.spike_count(per="label").label.values.tolist() == sorted(numbers)
    assert recording.select(labels=2**53 + 1)["0"].spike_count().values.item() == 1


def test_whole_numbers_stay_exact_across_recordings(tmp_path: Path) -> None:
    record(tmp_path / "a.zarr", {"label": [2**53 + 1, 7], "part": 1})
    record(tmp_path / "b.zarr", {"epoch": 3})
    recording = analysis.open_recording([tmp_path / "a.zarr", tmp_path / "b.zarr"])
    assert recording.trials.label.values.tolist() == [2**53 + 1, 7, None, None]
    assert recording["0"].spikes.label.values.tolist() == [2**53 + 1, 7, None, None]
    assert recording["0"].spikes.part.dtype == np.float64
    np.testing.assert_array_equal(recording["0"].spikes.part.values, [1, 1, np.nan, np.nan])


# -- four labels that Python holds for one -------------------------------------------------------------


def test_equal_labels_of_different_types_stay_apart(tmp_path: Path) -> None:
    recording = record(tmp_path / "a.zarr", {"label": ALIKE}, {"label": ALIKE}, batch=8)
    assert exactly(recording.trials.label.values) == exactly([*ALIKE, *ALIKE])
    spikes = np.tril(np.ones((8, 8))).sum(axis=1)
    counts = recording.spike_count(per="label")
    assert exactly(counts.label.values) == exactly(ALIKE)
    np.testing.assert_array_equal(counts.values, 2 * spikes)
    for place, label in enumerate(ALIKE):
        some = recording.select(labels=[label])
        assert exactly(some.trials.label.values) == exactly([label, label])
        assert some.spike_count().values.item() == 2 * spikes[place]
        assert some.spike_count(per="label").values.tolist() == [2 * spikes[place]]
        assert some["0"].spikes.shape == (2, 8)
        assert exactly(some["0"].spikes.label.values) == exactly([label, label])
    # Asked of one view or of several, in whatever order.
    assert recording.select(labels=[1, "1"]).select(labels=1).trials.sizes == {"presentation": 2}
    with pytest.raises(
        analysis.QuestionError, match=r"no sample is labelled 2; the labels are True, 1, 1\.0"
    ):
        recording.select(labels=2)


def test_labels_stay_apart_after_resuming(tmp_path: Path) -> None:
    for label in ALIKE:
        recording = record(tmp_path / "a.zarr", {"label": [label, "other"]}, resume=True)
    assert exactly(recording.trials.label.values[::2]) == exactly(ALIKE)
    counts = recording.select(labels=ALIKE).spike_count(per="label")
    assert exactly(counts.label.values) == exactly(ALIKE)
    assert counts.values.tolist() == [1] * 8


def test_labels_stay_apart_across_recordings(tmp_path: Path) -> None:
    for place, label in enumerate([1, 1.0, True, "1"]):
        record(tmp_path / f"{place}.zarr", *[{"label": label}] * (place + 1))
    recording = analysis.open_recording(str(tmp_path / "*.zarr"))
    counts = recording.spike_count(per="label")
    assert exactly(counts.label.values) == exactly([1, 1.0, True, "1"])
    assert counts.values.tolist() == [3, 6, 9, 12]
    assert exactly(recording.trials.label.values[::2]) == exactly([1, *[1.0] * 2, *[True] * 3, *["1"] * 4])
    assert exactly(recording["0"].spikes.label.values[::2]) == exactly(
        [1, *[1.0] * 2, *[True] * 3, *["1"] * 4]
    )
    assert recording.select(labels=1).spike_count().values.item() == 3
    assert recording.select(labels=True).spike_count().values.item() == 9
    numbers = recording.select(recordings=["0.zarr", "1.zarr"])
    assert exactly(numbers.spike_count(per="label").label.values) == exactly([1, 1.0])


def test_digests_tell_labels_apart(tmp_path: Path) -> None:
    digests = {record(tmp_path / f"{p}.zarr", {"label": [x, "y"]}).digest() for p, x in enumerate(ALIKE)}
    assert len(digests) == len(ALIKE)


def test_packing_keeps_labels(tmp_path: Path) -> None:
    recording = record(tmp_path / "a.zarr", {"label": [*ALIKE, None], "trial": 1, "zarr.json": "x"}, batch=9)
    pack_recording(TapeReader.open(Folder(tmp_path / "a.zarr")), str(tmp_path / "b.zarr"))
    packed = analysis.open_recording(tmp_path / "b.zarr")
    assert packed.digest() == recording.digest()
    assert exactly(packed.trials.label.values) == exactly([*ALIKE, None])


def test_a_column_of_floats_takes_whole_numbers_that_a_float_is(tmp_path: Path) -> None:
    net, monitor = monitored(tmp_path / "a.zarr")
    with monitor:
        for contrast in (0.5, 1):
            with monitor.trial(label=contrast):
                net(torch.ones(1, 1))
        message = r"label is 9007199254740993, which no float64 is"
        with pytest.raises(TypeError, match=message), monitor.trial(label=2**53 + 1):
            pass
    recording = analysis.open_recording(tmp_path / "a.zarr")
    assert kept(recording) == [0.5, 1.0]
    # Whole numbers are taken for floats there, too.
    assert recording.select(labels=1).trials.sizes == {"presentation": 1}
    with pytest.raises(analysis.QuestionError, match="no sample is labelled True"):
        recording.select(labels=True)


@pytest.mark.parametrize(
    ("given", "kind"),
    [([1, 0.5], "float64"), ([1, 1.0], "category"), ([2**53 + 1, 0.5], "category"), ([1, 2.5], "float64")],
)
def test_whole_numbers_and_floats_are_one_kind_where_that_changes_nothing(
    tmp_path: Path, given: list[Any], kind: str
) -> None:
    recording = record(tmp_path / "a.zarr", {"label": given})
    assert recording.metadata.trials.columns[-1].kind == kind
    assert kept(recording) == given


def test_members_of_enumerations_are_what_they_stand_for(tmp_path: Path) -> None:
    class Colour(enum.StrEnum):
        RED = "red"

    class Number(enum.IntEnum):
        ONE = 1

    recording = record(tmp_path / "a.zarr", {"label": Colour.RED, "n": [Number.ONE, 2]})
    assert exactly(recording.trials.label.values) == exactly(["red", "red"])
    assert recording.trials.n.dtype == np.int64


def test_infinities_are_kept_among_floats(tmp_path: Path) -> None:
    recording = record(tmp_path / "a.zarr", {"label": [np.inf, -np.inf]}, {"label": [1.5, None]})
    assert kept(recording) == [np.inf, -np.inf, 1.5, None]


# -- names ----------------------------------------------------------------------------------------------

NAMES = {
    **{name: name for name in ["", "__x", "a/b", ".", "..", "c", "x y", "é", "Zarr", "zARR", "=", "self"]},
    **{name: name for name in ["Trial", "TRIAL", "trial_x", "attached", "n" * 1000]},
    **{name: f"trial_{name}" for name in ["step", "frame", "neuron", "spikes", "recording", "presentation"]},
    **{name: f"trial_{name}" for name in ["trial_step", "lag", "defined", "axis_4", "time_ms", "features"]},
    "trial": "trial_trial",
    "sample": "trial_sample",
    "trial_trial": "trial_trial_trial",
    "zarr.json": "trial_zarr.json",
}


def test_a_column_may_have_any_name(tmp_path: Path) -> None:
    attached = {name: [2 * place, None] for place, name in enumerate(NAMES)}
    recording = record(tmp_path / "a.zarr", {"label": 5, **attached}, {"trial": [7, 8]})
    assert recording.trials.trial.values.tolist() == [0, 0, 1, 1]
    assert recording.trials["sample"].values.tolist() == [0, 1, 0, 1]
    for name, shown in NAMES.items():
        expected = [*attached[name], *([7, 8] if name == "trial" else [None, None])]
        assert kept(recording, shown) == expected, name
    spikes = recording["0"].spikes
    assert spikes.step.values.tolist() == [0, 0, 1, 1]
    assert spikes.trial_step.values[0] == 2 * list(NAMES).index("step")
    assert spikes.trial_trial_step.values[0] == 2 * list(NAMES).index("trial_step")
    assert spikes.trial_trial.values[0] == 2 * list(NAMES).index("trial")
    assert spikes.trial_spikes.values[0] == 2 * list(NAMES).index("spikes")
    spikes.to_dataset().to_dataframe()
    again = record(tmp_path / "a.zarr", {"trial": 9, "zarr.json": 3}, resume=True)
    assert kept(again, "trial_trial")[-2:] == [9, 9]
    assert kept(again, "trial_zarr.json")[-2:] == [3, 3]


def test_names_of_columns_do_not_hide_those_of_recordings(tmp_path: Path) -> None:
    for name in "ab":
        record(tmp_path / f"{name}.zarr", {"recording": 1, "trial_recording": 2})
    recording = analysis.open_recording(str(tmp_path / "*.zarr"))
    for table in (recording.trials, recording["0"].spikes.coords):
        assert table["recording"].values.tolist() == ["a.zarr"] * 2 + ["b.zarr"] * 2
        assert table["trial_recording"].values.tolist() == [1] * 4
        assert table["trial_trial_recording"].values.tolist() == [2] * 4


def test_names_that_are_one_in_a_store_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size_of = Folder.size_of
    monkeypatch.setattr(Folder, "size_of", lambda self, key: size_of(self, key.lower()))
    net, monitor = monitored(tmp_path / "a.zarr")
    with monitor:
        with monitor.trial(label=1):
            net(torch.ones(1, 1))
        with pytest.raises(ValueError, match="two differ by case only"), monitor.trial(Label=1):
            pass
    monkeypatch.undo()
    assert kept(record(tmp_path / "b.zarr", {"label": 1, "Label": 2}), "Label") == [2, 2]


# -- all of it at once ----------------------------------------------------------------------------------

_values = st.one_of(
    st.none(),
    st.just(NAN),
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.sampled_from([0, 1, 2**53, 2**53 + 1]),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, 1.0, np.inf]),
    st.text(max_size=3),
)


@hypothesis.given(st.lists(st.lists(_values, min_size=2, max_size=2), min_size=1, max_size=5), st.data())
@hypothesis.settings(max_examples=80)
def test_whatever_is_accepted_is_kept(given: list[list[Any]], data: st.DataObject) -> None:
    accepted: list[Any] = []
    log = TrialLog()
    for values in given:
        try:
            log.begin({"label": values})
        except (TypeError, ValueError):
            continue
        log.note(2)
        log.end()
        accepted += values
    hypothesis.assume(accepted)
    presented = log.look()
    folder = Path(tempfile.mkdtemp())
    try:
        spikes = np.ones((len(accepted), 1), np.bool_)
        runs = [Run(step, 1, 2, step) for step in range(len(presented))]
        trials = [Trial(number, batch, columns) for number, batch, columns in presented]
        write_recording(folder / "a", {"0": spikes}, runs, trials)
        recording = analysis.open_recording(folder / "a")
        found = kept(recording)
        expected = [value for _, value in exactly(accepted)]
        assert found == expected
        column = recording.metadata.trials.columns[-1]
        if column.kind == "category":
            assert exactly(recording.trials.label.values) == exactly(accepted)
        recording.digest()
    finally:
        shutil.rmtree(folder)


def test_a_name_is_stored_as_one_name_and_no_other() -> None:
    names = [
        "trial",
        "trial_trial",
        "trial_trial_trial",
        "sample",
        "trial_sample",
        "zarr.json",
        "x",
        "trial_x",
    ]
    assert len({columns.stored_name(name) for name in names}) == len(names)
    assert not {"trial", "sample", "zarr.json"} & {columns.stored_name(name) for name in names}


def test_the_command_line_writes_infinite_labels_as_json(tmp_path: Path) -> None:
    record(tmp_path / "a.zarr", {"label": [np.inf, -np.inf]}, {"label": [1.5, None]})
    asked = ["rates", str(tmp_path / "a.zarr"), "--per", "label", "--format", "json"]
    rows = json.loads(CliRunner().invoke(main, asked, catch_exceptions=False).output)
    assert [row["label"] for row in rows] == ["-Infinity", 1.5, "Infinity"]
