"""Recordings to report on, and the figures that a report holds, read without any code of the report."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapes import CONNECTIONS, Made, Run, Trial, write_recording

STEPS, SAMPLES, TRIALS = 10, 6, 8


def make_recording(path: Path, *, seed: int = 7, rate: float = 1.0, **options: Any) -> Path:
    """Record three layers in trials with labels and epochs, a signal, and the connections of two of them."""
    random = np.random.default_rng(seed)
    frames = STEPS * SAMPLES * TRIALS
    label = np.arange(TRIALS * SAMPLES) % 4
    # A neuron fires at the time that is its own, and most at a label of its own.
    time = np.repeat(np.tile(np.arange(STEPS), TRIALS), SAMPLES)
    shown = np.repeat(label.reshape(TRIALS, 1, SAMPLES), STEPS, axis=1).ravel()
    layers = {
        "1": random.random((frames, 3, 7)) < rate * (0.1 + 0.02 * time[:, None, None]),
        "3": random.random((frames, 9)) < rate * np.linspace(0, 0.6, 9),
        "out": random.random((frames, 4)) < rate * np.where(shown[:, None] == np.arange(4), 0.7, 0.1),
    }
    runs = [Run(STEPS * trial, STEPS, SAMPLES, trial) for trial in range(TRIALS)]
    trials = [
        Trial(
            trial,
            SAMPLES,
            {"label": label.reshape(TRIALS, -1)[trial].tolist(), "epoch": [trial // 2] * SAMPLES},
        )
        for trial in range(TRIALS)
    ]
    about = {"network": "torch.nn.Sequential", "dt": 1.0, "dt_unit": "ms", "git_commit": "c0ffee"}
    potential = Made(random.normal(size=(frames, 9)).astype(np.float32))
    given = {
        "provenance": about,
        "connections": CONNECTIONS,
        "signals": {("3", "v"): potential},
        **options,
    }
    write_recording(path, layers, runs, trials, **given)
    return path


def data_of(text: str) -> dict[str, Any]:
    """The figures in a page, as JSON values."""
    (found,) = re.findall(r'<script type="application/json" id="report">(.*?)</script>', text, re.DOTALL)
    data: dict[str, Any] = json.loads(found)
    return data


def numbers_of(figure: dict[str, Any]) -> NDArray[Any]:
    """The numbers of a figure."""
    if figure["type"] == "text":
        return np.array(figure["data"], object).reshape(figure["shape"])
    values = np.frombuffer(base64.b64decode(figure["data"]), f"<{figure['type']}")
    values = values / figure["divisor"] if "divisor" in figure else values
    return values.reshape(figure["shape"])
