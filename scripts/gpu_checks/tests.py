"""All tests of the repository that run on a device."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gpu_checks.devices import Device
from gpu_checks.findings import Effort, Finding

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    "tests/recording/packing/test_transfer.py",
    "tests/recording/packing/test_device_packing.py",
    "tests/recording/packing/test_kernel.py",
    "tests/recording/packing/test_values.py",
    "tests/recording/signals/test_signals_on_devices.py",
)


def check_tests(device: Device, effort: Effort) -> Iterator[Finding]:
    """Pass them, each file by itself."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    # The tests decide by themselves what Triton interprets.
    environment.pop("TRITON_INTERPRET", None)
    for file in FILES[:1] if effort.is_quick else FILES:
        run = subprocess.run(  # noqa: S603 - our own tests
            [sys.executable, "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", file],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        last = (run.stdout.strip().splitlines() or [run.stderr.strip() or "no output"])[-1].strip("= ")
        on = "on the GPU" if device.is_real else "without a GPU"
        if run.returncode:
            print(run.stdout[-8000:], run.stderr[-2000:], flush=True)
        yield Finding(file, run.returncode == 0, f"{last}, {on}")
