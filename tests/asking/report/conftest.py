"""A recording and its report, and a browser, for the tests of reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import analysis
from browser import Browser, browser
from reported import make_recording


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> analysis.Recording:
    return analysis.open_recording(make_recording(tmp_path_factory.mktemp("made") / "run.zarr"))


@pytest.fixture(scope="session")
def report(recording: analysis.Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recording.report(tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests, as it takes seconds to start; each opens its own page."""
    with browser(tmp_path_factory.mktemp("downloads")) as opened:
        yield opened
