"""A recording of two layers, two runs and two tables of trials, and what is in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tapes import Run, Trial, write_recording


@pytest.fixture
def layers() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {"1": random.random((400, 3, 4, 5)) < 0.2, "features.3": random.random((400, 9)) < 0.05}


@pytest.fixture
def path(tmp_path: Path, layers: dict[str, np.ndarray]) -> Path:
    trials = [
        Trial(0, 8, {"label": list(range(8)), "speaker": ["ann"] * 8}),
        Trial(1, 8, {"label": [3] * 8}),
    ]
    write_recording(
        tmp_path / "run.zarr", layers, [Run(0, 20, 8, 0), Run(20, 30, 8, 1)], trials, chunk_bytes=256
    )
    return tmp_path / "run.zarr"
