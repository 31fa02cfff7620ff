"""The check of a GPU runs where there is none, says so, and notices what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from processes import ROOT, SUPPORT

PATHS = [ROOT, ROOT / "scripts", *SUPPORT]

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")

# A packer that loses the spikes of the first neuron; then the command as it is.
BROKEN = """
import sys
from recorder.capture.device import packing
pack = packing.pack_with_torch
def broken(frames, *others):
    frames = frames.clone()
    frames[:, 0] = 0
    pack(frames, *others)
packing.choose_packing = lambda _: broken
from gpu_checks.__main__ import main
sys.exit(main())
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, PATHS)),
        "OMP_NUM_THREADS": "1",
        "PYTHON": sys.executable,
    }
    return subprocess.run([*command, "--quick"], check=False, capture_output=True, text=True, env=environment)


def test_without_a_gpu_all_checks_run_on_a_late_device_and_the_report_says_so(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    # All but the tests of the repository, which are passed anyway.
    checks = [f"--check={name}" for name in ("exactness", "stream", "run time", "rate", "soak")]
    done = run(str(ROOT / "scripts" / "gpu_check"), *checks, "-o", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    found = report.read_text()
    assert "**No CUDA device.**" in found
    assert "Everything that was checked is right." in found
    for what in (
        "bfloat16, multi-step, overwritten in place | right",
        "two networks on two streams | right",
        "a CUDA graph that is captured is refused, and recording goes on | right",
        "the kernel on float16 | right | by Triton's interpreter",
        "waiting for the device, large outputs | right",
        "calls that pack, for each output, large outputs | right | 1.00",
        "calls that pack, for each output, small outputs | right | 0.0",
        "memory of the host | right",
        "slots a second, sustained",
    ):
        assert what in found
    # No time of a CPU passes for one of a GPU.
    assert "run time ÷ bare, small, single-step, begin and end included | – |" in found


@pytest.mark.long
def test_a_packer_that_loses_spikes_is_noticed(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    done = run(sys.executable, "-c", BROKEN, "--check=exactness", "-o", str(report))
    assert done.returncode == 1, done.stdout + done.stderr
    found = report.read_text()
    assert "float32, single-step, overwritten in place | **wrong**" in found
    assert "bits differ" in found
    assert "not right.**" in found
