"""The committed recordings: those of `exemplars`, with their right answers, and those of earlier versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDINGS = Path(__file__).parents[1] / "recordings"
ANSWERS: dict[str, Any] = json.loads((RECORDINGS / "answers.json").read_text())
NAMES = sorted(set(ANSWERS) - {"run"})
OLD = ["version-1.zarr", "version-2.zarr", "version-3.zarr", "version-3-signals.zarr"]
