"""Fixtures of the tests of packing."""

from __future__ import annotations

from pathlib import Path

import pytest

from packs import write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A closed recording, to be packed."""
    write(tmp_path / "run.zarr")
    return tmp_path / "run.zarr"
