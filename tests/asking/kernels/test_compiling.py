"""Compiled loops ask for no place to be kept in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from processes import ROOT, SUPPORT, python
from tapes import Run, Trial, write_recording

ASK = """
import sys
import analysis
from analysis.kernels.events import by_group, word_loops

layer = analysis.open_recording(sys.argv[1])["1"]
print(analysis.__file__)
print(layer.spike_count(("label", "neuron")).values.tolist())
print(by_group.loops().__name__, len(word_loops.list_groups.signatures))
"""


def test_loops_are_compiled_in_silence_where_neither_our_folder_nor_the_home_can_be_written(
    tmp_path: Path,
) -> None:
    spikes = np.random.default_rng(0).random((64, 3)) < 0.3
    labels = [0, 1, 1, 0]
    trials = [Trial(0, 4, {"label": labels})]
    write_recording(tmp_path / "run.zarr", {"1": spikes}, [Run(0, 16, 4, 0)], trials)
    site, home = tmp_path / "site", tmp_path / "home"
    for package in ("analysis", "recorder"):
        shutil.copytree(ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("spiketape_scheduler.py", "spiketape_worker.py"):
        shutil.copy(ROOT / file, site)
    # Files where folders would be, as root may write into any folder.
    (site / "analysis" / "kernels" / "events" / "__pycache__").touch()
    home.touch()
    nowhere = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "NUMBA_CACHE_DIR": ""}
    path = os.pathsep.join(map(str, [site, *SUPPORT]))
    with python(ASK, tmp_path / "run.zarr", environment={**nowhere, "PYTHONPATH": path}) as process:
        assert process.stderr is not None
        out, err = process.communicate(timeout=120)
    assert err == ""
    assert process.returncode == 0
    file, counts, loops = out.splitlines()
    assert Path(file).is_relative_to(site)
    of_sample = spikes.reshape(16, 4, 3).sum(axis=0)
    assert counts == str([(of_sample[[0, 3]].sum(axis=0)).tolist(), of_sample[1:3].sum(axis=0).tolist()])
    assert loops == "analysis.kernels.events.loops 1"
