"""Labels and names of columns that cannot be stored are refused before a frame comes."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import analysis
from labelled import kept, monitored
from recorder.format.trials import TrialLog

# -- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        "\ud800",
        ["a", "b\udfff"],
        "x" * (2**16 + 1),
        2**63,
        -(2**63),
        -(2**63) - 1,
        np.array([2**63, 1], np.uint64),
        [1.0, "a", np.inf],
        [1, 1.0, -np.inf],
        datetime.date(2026, 1, 1),
        np.datetime64("2026-01-01", "ns"),
        np.array(["2026-01-01", "NaT"], "datetime64[ns]"),
        np.array([5, 6], "timedelta64[ns]"),
        pd.Series(pd.to_datetime(["2026-01-01", None])),
        pd.Timestamp("2026-01-01"),
        b"ab",
        bytearray(b"ab"),
        [b"a", b"b"],
        np.array([b"a", b"b"]),
        [[1], [2]],
        torch.ones(2, 3),
        np.ones((2, 2)),
        [torch.ones(2), torch.ones(2)],
        1j,
        torch.tensor([1j, 2]),
        {"a": 1},
        {1, 2},
        (value for value in (1, 2)),
        object(),
    ],
    ids=lambda given: f"{type(given).__name__} {str(given)[:20]!a}",
)
def test_what_cannot_be_stored_is_refused_before_a_frame_comes(tmp_path: Path, given: Any) -> None:
    net, monitor = monitored(tmp_path / "a.zarr")
    with monitor:
        for name in ("label", "other"):
            with pytest.raises((TypeError, ValueError), match=rf"trial\(\): {name}") as error:
                monitor.trial(**{name: given}).__enter__()
            str(error.value).encode()
        with monitor.trial(label=3):
            net(torch.ones(2, 2))
        monitor.flush()
    recording = analysis.open_recording(tmp_path / "a.zarr")
    assert kept(recording) == [3, 3]
    assert set(recording.trials) == {"trial", "sample", "label"}


@pytest.mark.parametrize("name", ["n" * 1025, "\ud800", "trial_" * 170 + "trial"])
def test_names_that_cannot_be_stored_are_refused(tmp_path: Path, name: str) -> None:
    net, monitor = monitored(tmp_path / "a.zarr")
    with monitor:
        with pytest.raises(ValueError, match=r"trial\(\): ") as error:
            monitor.trial(**{name: 1}).__enter__()
        str(error.value).encode()
        net(torch.ones(2, 2))
    assert analysis.open_recording(tmp_path / "a.zarr")["0"].frames == 2


def test_what_no_commit_record_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from recorder.format import trials

    monkeypatch.setattr(trials, "MAX_CATEGORY_BYTES", 1000)
    log = TrialLog()
    for number in range(100):
        try:
            log.begin({"label": f"text {number:04}"})
        except ValueError as error:
            assert "different texts" in str(error)  # noqa: PT017 - which of the trials fails, is arithmetic
            break
        log.note(1)
        log.end()
    assert 30 < number < 60
    log.begin({"label": "text 0000", "other": 1})
    log.end()
    with pytest.raises(ValueError, match="at most 998 attached columns"):
        log.begin({f"column {number}": 1 for number in range(999)})


def test_what_was_read_at_the_beginning_is_kept(tmp_path: Path) -> None:
    net, monitor = monitored(tmp_path / "a.zarr")
    listed, tensor = [1, 2], torch.tensor([3, 4])
    with monitor, monitor.trial(label=listed, other=tensor):
        listed[0], tensor[0] = b"x", 9  # type: ignore[call-overload]
        net(torch.ones(2, 2))
    recording = analysis.open_recording(tmp_path / "a.zarr")
    assert kept(recording) == [1, 2]
    assert kept(recording, "other") == [3, 4]


def test_columns_of_numbers_refuse_what_is_none(tmp_path: Path) -> None:
    net, monitor = monitored(tmp_path / "a.zarr")
    with monitor:
        with monitor.trial(whole=1, real=0.5, mixed="a"):
            net(torch.ones(1, 1))
        for column in ({"whole": "x"}, {"whole": True}, {"whole": 0.5}, {"real": "x"}, {"real": True}):
            with pytest.raises(TypeError, match="keep to one kind"), monitor.trial(**column):
                pass
        with monitor.trial(whole=None, real=None, mixed=7):
            net(torch.ones(1, 1))
    recording = analysis.open_recording(tmp_path / "a.zarr")
    assert kept(recording, "mixed") == ["a", 7]
    assert kept(recording, "whole") == [1, None]
