"""Importing one part of spiketape does not bring in what only another part needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EVERY_MODULE_OF_ANALYSIS = """
import importlib, pkgutil, analysis
for module in pkgutil.walk_packages(analysis.__path__, "analysis."):
    importlib.import_module(module.name)
"""
EVERY_MODULE_OF_THE_FORMAT = EVERY_MODULE_OF_ANALYSIS.replace("analysis", "recorder.format")
MONITOR = "from recorder import Monitor"
# Not imported alone: written with, too.
WRITE = """
import numpy, tempfile
from recorder import EventTable, write_recording
with tempfile.TemporaryDirectory() as folder:
    write_recording(folder + "/run.zarr", {"1": numpy.ones((3, 2, 4))}, labels=[0, 1])
"""


def packages_after(statements: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter holds after running the statements."""
    report = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    # -P: the working folder of whoever runs the tests is no part of the answer.
    answer = subprocess.run(
        [sys.executable, "-P", "-c", f"{statements}\n{report}"], check=True, capture_output=True, text=True
    )
    return set(answer.stdout.split())


@pytest.mark.parametrize(
    ("statements", "unwanted"),
    [
        pytest.param("import analysis", {"torch"}, id="analysis"),
        pytest.param(EVERY_MODULE_OF_ANALYSIS, {"torch"}, id="every module of analysis"),
        pytest.param("import recorder.format", {"torch", "dask", "xarray"}, id="recorder.format"),
        pytest.param(
            EVERY_MODULE_OF_THE_FORMAT, {"torch", "dask", "xarray"}, id="every module of recorder.format"
        ),
        pytest.param("import recorder", {"torch", "dask", "xarray"}, id="recorder"),
        pytest.param(WRITE, {"torch", "dask", "xarray", "scipy", "pandas", "zarr"}, id="write_recording"),
        # Folders are read by our own code, and zarr takes a third of a second to import.
        pytest.param(
            f"{WRITE}    import analysis; analysis.open_recording(folder + '/run.zarr')",
            {"torch", "zarr"},
            id="open_recording",
        ),
        # Those who verify, digest, pack and recover.
        pytest.param(
            "import analysis.cli.keeping", {"torch", "xarray", "pandas", "scipy", "zarr"}, id="keeping"
        ),
        pytest.param("import spiketape_worker", {"torch", "dask", "numpy"}, id="spiketape_worker"),
        pytest.param(
            "import spiketape_scheduler",
            {"torch", "xarray", "analysis", "recorder"},
            id="spiketape_scheduler",
        ),
        pytest.param(MONITOR, {"dask", "xarray", "analysis", "zarr"}, id="Monitor"),
        pytest.param(MONITOR, {"spikingjelly", "snntorch", "norse", "sinabs"}, id="Monitor, frameworks"),
    ],
)
def test_import_brings_nothing_unwanted(statements: str, unwanted: set[str]) -> None:
    assert packages_after(statements) & unwanted == set()


def test_the_probe_sees_what_an_import_brings() -> None:
    assert {"recorder", "torch", "numpy"} <= packages_after(MONITOR)


def test_the_probe_fails_when_an_import_does() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        packages_after("import no_such_module")


def test_a_file_of_the_same_name_in_the_working_folder_is_not_imported_with_p(tmp_path: Path) -> None:
    for name in ("analysis.py", "recorder.py"):
        (tmp_path / name).write_text("raise SystemExit('the file of the user')")
    script = "import analysis, recorder.format; print(analysis.open_recording.__module__)"

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *options, "-c", script]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run("-P").stdout == "analysis.opening.recordings\n"
    assert run().returncode != 0
