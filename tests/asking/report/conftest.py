"""A recording and its report, for the tests of reports."""

from __future__ import annotations

from pathlib import Path

import pytest

import analysis
from reported import make_recording


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> analysis.Recording:
    return analysis.open_recording(make_recording(tmp_path_factory.mktemp("made") / "run.zarr"))


@pytest.fixture(scope="module")
def report(recording: analysis.Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recording.report(tmp_path_factory.mktemp("report") / "report.html")
