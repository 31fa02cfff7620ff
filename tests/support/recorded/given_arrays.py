"""Spikes in arrays that are written without a monitor, and the frames that were recorded of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

import recorder
from recorder.stores import Folder
from recorder.tape import TapeReader

# Waiting for the disk takes longer than everything else.
write_recording = partial(recorder.write_recording, durability="process")

STEPS, SAMPLES = 13, 3
SHAPES = {"0": (5,), "1": (2, 3, 3)}


def made(seed: int = 0, steps: int = STEPS, samples: int = SAMPLES) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        f"layers.{name}": (random.random((steps, samples, *shape)) < 0.3).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def frames(path: Path, layer: str) -> np.ndarray:
    reader = TapeReader.open(Folder(path)).layers[layer]
    return reader.frame_bits(0, reader.frames)
