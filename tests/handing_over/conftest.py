"""A recording to export: layers of two shapes, with trials, gaps and labels of several kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tapes import Run, Trial, write_recording

RUNS = [Run(0, 20, 8, 0), Run(20, 15, 8, 1), Run(40, 15, 8)]
TRIALS = [
    Trial(0, 8, {"label": ["cat"] * 8, "count": [*range(7), None]}),
    Trial(1, 8, {"label": ["dog", None] * 4, "steps": [0.5] * 8}),
]
STEP = {"dt": 0.5, "dt_unit": "ms"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    layers = {"1": random.random((400, 3, 4, 5)) < 0.2, "features.3": random.random((400, 9)) < 0.05}
    write_recording(tmp_path / "run.zarr", layers, RUNS, TRIALS, chunk_bytes=256, provenance=STEP)
    return tmp_path / "run.zarr"
