"""Long commands say how far they have come, on terminals only; Ctrl-C ends them with what is done so far."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from processes import ROOT
from tapes import Run, write_recording
from terminals import SPIKETAPE, terminal
from web import Files, serving

LAYERS = 300


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of many layers, and so of many tasks; of the first one a chunk is damaged."""
    path = tmp_path_factory.mktemp("slow") / "run.zarr"
    spikes = np.random.default_rng(1).random((64, 5)) < 0.3
    write_recording(path, {str(number): spikes for number in range(LAYERS)}, [Run(0, 64, 1)])
    (path / "layers" / "0" / "spikes" / "c" / "0" / "0").write_bytes(b"damaged")
    return path


class SlowFiles(Files):
    """Takes its time for each chunk of spikes, so that a command is at work for a while."""

    asked = threading.Event()

    def do_GET(self) -> None:  # noqa: N802 - its name there
        if "/spikes/c/" in self.path:
            self.asked.set()
            threading.Event().wait(0.1)
        with suppress(ConnectionError):  # who asked has been interrupted
            super().do_GET()


@pytest.fixture
def slow(run: Path) -> Iterator[str]:
    """The address of the recording on a slow server."""
    SlowFiles.asked.clear()
    with serving(run.parent, SlowFiles) as address:
        yield f"{address}/run.zarr"


def test_a_terminal_shows_rate_and_time_left_and_ctrl_c_says_what_is_found_so_far(slow: str) -> None:
    with terminal(*SPIKETAPE, "verify", slow, width=120) as shell:
        shell.wait_for("left")
        shell.press_ctrl_c()
        assert shell.end() == 130
    assert re.search(r"verifying.*\d+/601.*tasks, (\d+\.\d|–)/s", shell.shown)
    said = shell.shown.replace("\r\n", "\n").split("\x1b")[-1]
    assert re.search(r"when \d+ of 601 tasks were done; \d+ problem\(s\) so far, nothing is known of", said)
    assert "Traceback" not in shell.shown


def test_ctrl_c_ends_workers_started_here_without_a_word_of_theirs(slow: str) -> None:
    with terminal(*SPIKETAPE, "verify", slow, "--cluster", "local:1", width=120) as shell:
        shell.wait_for("left")
        workers = psutil.Process(shell.process.pid).children(recursive=True)
        assert workers
        shell.press_ctrl_c()
        assert shell.end() == 130
        assert psutil.wait_procs(workers, timeout=100)[1] == []
    assert "Traceback" not in shell.shown
    assert "nothing is known of the rest" in shell.shown


def test_an_interrupted_statistic_prints_no_figures(slow: str) -> None:
    with terminal(*SPIKETAPE, "stats", slow, "--what", "isi_mean", "--boundary", "none", width=120) as shell:
        shell.wait_for("left")
        shell.press_ctrl_c()
        assert shell.end() == 130
    assert "no figure was printed or written" in shell.shown
    assert "isi_mean" not in shell.shown


def test_an_interrupted_packing_goes_on_when_asked_again(run: Path, slow: str, tmp_path: Path) -> None:
    damaged = run / "layers" / "0" / "spikes" / "c" / "0" / "0"
    sound = run / "layers" / "1" / "spikes" / "c" / "0" / "0"
    kept = damaged.read_bytes()
    damaged.write_bytes(sound.read_bytes())
    try:
        with terminal(*SPIKETAPE, "pack", slow, tmp_path / "packed.zarr", width=120) as shell:
            shell.wait_for("chunks,")
            shell.press_ctrl_c()
            assert shell.end() == 130
        assert "ask again to go on from here" in shell.shown
        shards = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("0") if path.is_file()}
        assert shards
        assert not (tmp_path / "packed.zarr").exists()
        done = subprocess.run(
            [*SPIKETAPE, "pack", run, tmp_path / "packed.zarr"], capture_output=True, check=True, cwd=ROOT
        )
        assert re.fullmatch(rb"[0-9a-f]{64}\n", done.stdout)
        gone_on = (
            tmp_path / "packed.zarr" / path.relative_to(tmp_path / "packed.zarr.partial" / "recording")
            for path in shards
        )
        assert [path.stat().st_mtime_ns for path in gone_on] == [*shards.values()]
    finally:
        damaged.write_bytes(kept)


def test_a_signal_to_a_process_without_a_terminal_ends_it_likewise(slow: str) -> None:
    command = [*SPIKETAPE, "verify", slow]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as verifying:
        assert SlowFiles.asked.wait(100)
        verifying.send_signal(signal.SIGINT)
        _, err = verifying.communicate(timeout=100)
    assert verifying.returncode == 130
    assert re.fullmatch(
        r"spiketape: interrupted while verifying.*so far, nothing is known of the rest\n", err
    )


def test_pipes_are_shown_no_progress(run: Path) -> None:
    with serving(run.parent, SlowFiles) as address:
        few = [f"--layer={number}" for number in range(1, 25)]
        command = [
            *SPIKETAPE,
            "stats",
            f"{address}/run.zarr",
            "--what",
            "isi_mean",
            "--boundary",
            "none",
            *few,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    assert "isi_mean" in done.stdout


LOSES_ONE = """
import time
import click
from analysis.cli.commands import Commands

@click.group(cls=Commands)
def main(): ...

@main.command()
def wait():
    try:
        print("ready", flush=True)
        time.sleep(100)
    except KeyboardInterrupt:
        print("lost", flush=True)
    time.sleep(100)

main(["wait"])
"""


def test_ctrl_c_ends_a_command_also_where_the_interrupt_gets_lost() -> None:
    with terminal(sys.executable, "-P", "-c", LOSES_ONE) as shell:
        shell.wait_for("ready")
        shell.press_ctrl_c()
        assert shell.end(seconds=50) == 130
    assert "lost" in shell.shown
    assert "spiketape: interrupted" in shell.shown
