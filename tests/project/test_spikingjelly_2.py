"""What speaks of SpikingJelly passes its tests under version 2 as well, which has no `clock_driven`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Which tests, by words in their names, and how many of each file at least.
KEYWORDS = "activation_based or jelly_counter or memory or nir or spikingjelly_graded"
PASSING = {
    "asking/statistics/test_counted_operations.py": 4,
    "asking/statistics/test_operation_references.py": 15,
    "recording/outputs/test_networks.py": 2,
    "recording/outputs/test_spikingjelly.py": 48,
    "recording/outputs/test_wrappers.py": 9,
    "recording/signals/test_potentials.py": 16,
    "recording/values/test_graded_libraries.py": 6,
}


def test_what_speaks_of_spikingjelly_passes_under_version_2(tmp_path: Path) -> None:
    installed = os.environ.get("SPIKETAPE_SPIKINGJELLY_2")
    if not installed:
        pytest.skip(
            "SPIKETAPE_SPIKINGJELLY_2 names no folder with SpikingJelly 2, which scripts/test fills by: "
            "pip install --no-deps --target FOLDER spikingjelly==2.0.0 loguru"
        )
    command = [sys.executable, "-m", "pytest", "-k", KEYWORDS, "-v", "-rs", "-W", "error"]
    command += ["-p", "no:cacheprovider", f"--basetemp={tmp_path / 'pytest'}", f"--rootdir={ROOT}"]
    run = subprocess.run(
        [*command, *(f"tests/{file}" for file in PASSING)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([installed, str(ROOT)])},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skipped" not in run.stdout.splitlines()[-1], run.stdout
    passed = Counter(re.findall(r"^tests/(\S+?)::.* PASSED", run.stdout, re.MULTILINE))
    assert passed >= Counter(PASSING)
