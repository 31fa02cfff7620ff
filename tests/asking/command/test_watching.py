"""Somebody watches a recording that another process makes: on a terminal, in a pipe, until it is closed."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from analysis.cli.watching import figures
from analysis.cli.watching.figures import Watched
from analysis.opening.readers import open_readers
from networks import Threshold, on_store
from processes import ROOT, Process, forked, line
from recorder import Monitor
from recorder.format import plan_chunks
from recorder.session import layers
from terminals import SPIKETAPE, terminal

EVIL = "\x1b[31m[red]evil[/red]"

# Records so many steps at each line that it is given, and commits them; closes at the end of its input.
RECORDER = """
import sys
import torch
from torch import nn
from networks import Threshold
from recorder import Monitor
from test_watching import EVIL, inputs

net = nn.ModuleDict({"first": Threshold(), EVIL: Threshold(), "never": Threshold()})
net.forward = lambda x: net[EVIL](net["first"](x) * (torch.arange(x.shape[1]) != 0))
step = 0
# No commit but those that are asked for, however busy the machine is.
options = {"layers": [Threshold], "durability": "process", "commit_interval": 3600}
with Monitor(net, store=sys.argv[1], **options) as monitor:
    print("begun", flush=True)
    for steps in iter(sys.stdin.readline, "end\\n"):
        for _ in range(int(steps)):
            net(inputs(step))
            step += 1
        monitor.flush()
        print("committed", flush=True)
"""


def inputs(step: int) -> torch.Tensor:
    return torch.rand(4, 10, generator=torch.Generator().manual_seed(step)) * (0.6 + 0.1 * (step % 5))


def tell(process: Process, steps: int) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    assert line(process) == "committed"


def close(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write("end\n")
    process.stdin.flush()
    assert process.wait(100) == 0


def watching(path: Path) -> subprocess.Popen[str]:
    command = [*SPIKETAPE, "watch", path, "--every", "0.1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def rates(first: int, last: int) -> tuple[float, float]:
    """Firing rates of the two layers in these steps."""
    spikes = torch.stack([inputs(step) for step in range(first, last)]) > 0.5
    without_first = spikes.clone()
    without_first[..., 0] = False
    return float(spikes.double().mean()), float(without_first.double().mean())


def test_a_pipe_gets_a_line_for_each_commit_until_the_recording_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with forked(RECORDER, path, beside=__file__) as recorder:
        assert line(recorder) == "begun"
        tell(recorder, 20)
        with watching(path) as watcher:
            assert watcher.stdout is not None
            seen = [watcher.stdout.readline()]
            tell(recorder, 30)
            seen.append(watcher.stdout.readline())
            shutil.move(path / "zarr.json", tmp_path / "zarr.json")
            assert "cannot be looked at: no recording at" in watcher.stdout.readline()
            shutil.move(tmp_path / "zarr.json", path / "zarr.json")
            close(recorder)
            rest, err = watcher.communicate(timeout=100)
    assert (watcher.returncode, err) == (0, "")
    assert rest.endswith("  closed\n")
    assert not re.search("[\r\x1b]", "".join(seen) + rest)
    for text, first, last in ((seen[0], 0, 20), (seen[1], 20, 50)):
        one, other = rates(first, last)
        assert f"  step {last}  " in text
        assert re.search(r"\d steps/s  waited \d+\.\d%  disk left \d+\.\d GiB", text)
        assert f"  first {one:.4f} (dead 0.0%)  \\x1b[31m[red]evil[/red] {other:.4f} (dead 10.0%)  " in text
        assert text.endswith("  not called: 'never'\n")


def test_a_terminal_shows_a_table_with_bars_until_ctrl_c_and_names_do_nothing_to_it(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with forked(RECORDER, path, beside=__file__) as recorder:
        assert line(recorder) == "begun"
        tell(recorder, 20)
        with terminal(*SPIKETAPE, "watch", path, "--every", "0.1", width=120) as shell:
            shell.wait_for("step 20,")
            tell(recorder, 30)
            shell.wait_for("step 50,")
            shell.press_ctrl_c()
            assert shell.end() == 130
        close(recorder)
    assert "\x1b[31m" not in shell.shown
    assert "\\x1b[31m[red]evil[/red]" in shell.shown
    assert "█" in shell.shown
    assert f"{rates(20, 50)[0]:.4f}" in shell.shown
    assert f"{rates(0, 50)[1]:.4f}" in shell.shown
    assert "10.0%" in shell.shown
    assert "no longer watching; the recording goes on" in shell.shown


def test_a_writer_that_is_killed_is_said_to_be_gone(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with forked(RECORDER, path, beside=__file__) as recorder:
        assert line(recorder) == "begun"
        tell(recorder, 20)
        with watching(path) as watcher:
            assert watcher.stdout is not None
            assert "gone" not in watcher.stdout.readline()
            recorder.kill()
            recorder.wait()
            text = watcher.stdout.readline()
            assert f"the writer is gone, and has not closed the recording: process {recorder.pid} on" in text
            subprocess.run(
                [*SPIKETAPE, "recover", path, "--apply"], check=True, cwd=ROOT, capture_output=True
            )
            rest, _ = watcher.communicate(timeout=100)
    assert watcher.returncode == 0
    assert rest.endswith("  closed\n")


def looked(watched: Watched) -> figures.Figures:
    found = watched.look()
    assert found is not None
    return found


def test_spikes_are_read_once_when_they_have_been_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "plan_chunks", partial(plan_chunks, target_bytes=1))
    net = nn.Sequential(Threshold())
    with on_store(tmp_path, net) as monitor:
        for step in range(20):
            net(inputs(step))
        monitor.flush()
        watched = Watched(open_readers(monitor.store))
        assert looked(watched).layers[0].rate == rates(0, 20)[0]
        assert watched.look() is None
        Path(monitor.store, "layers/0/spikes/c/0/0").write_bytes(b"damaged")
        for step in range(20, 25):
            net(inputs(step))
        monitor.flush()
        found = looked(watched).layers[0]
    assert found.rate == rates(20, 25)[0]
    assert found.rate_so_far == rates(0, 25)[0]


def test_a_layer_of_which_counts_are_kept_is_watched_beside_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Sequential(Threshold(), Threshold())
    with on_store(tmp_path, net, keep={"1": "counts"}) as monitor:
        watched = Watched(open_readers(monitor.store))
        # In the middle of trials and at their ends; at last with too many neurons to remember each.
        for commits in ([(0, 7, 20), (7, 10, 20)], [(10, 14, 20), (14, 16, 19)]):
            with monitor.trial(label=0):
                for first, last, most in commits:
                    monkeypatch.setattr(figures, "MAX_NEURONS", most)
                    for step in range(first, last):
                        net(inputs(step))
                    monitor.flush()
                    bits, counts = looked(watched).layers
                    assert (counts.rate, counts.rate_so_far) == (rates(first, last)[0], rates(0, last)[0])
                    assert (bits.rate, bits.rate_so_far) == (counts.rate, counts.rate_so_far)
                    assert math.isnan(counts.dead) == (most < 20)


def test_a_recording_that_is_begun_anew_is_counted_anew(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    with on_store(tmp_path, net) as monitor:
        net(inputs(0))
        monitor.flush()
        watched = Watched(open_readers(monitor.store))
        looked(watched)
        monitor.reset()
        for step in range(3, 7):
            net(inputs(step))
        monitor.flush()
        found = looked(watched)
    assert (found.steps, found.layers[0].rate_so_far) == (4, rates(3, 7)[0])


def test_ranks_are_watched_together(tmp_path: Path) -> None:
    ranks = [tmp_path / f"run.rank-0000{rank}-of-00002.zarr" for rank in range(2)]
    nets = [nn.Sequential(Threshold()) for _ in ranks]
    monitors = [Monitor(net, layers=[Threshold], store=store) for net, store in zip(nets, ranks, strict=True)]
    with monitors[0], monitors[1]:
        for rank, net in enumerate(nets):
            for step in range(10 + rank):
                net(inputs(step + 50 * rank))
            monitors[rank].flush()
        watched = Watched(open_readers([str(rank) for rank in ranks]))
        looked(watched)
        # Only one of them has gone on.
        for step in range(60, 64):
            nets[1](inputs(step + 1))
        monitors[1].flush()
        found = looked(watched)
    spikes = torch.stack([inputs(step) for step in [*range(10), *range(50, 65)]]) > 0.5
    assert found.layers[0].rate_so_far == float(spikes.double().mean())
    assert found.state == "recording"


def test_where_there_are_too_many_neurons_to_remember_only_dead_ones_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Sequential(Threshold())
    with on_store(tmp_path, net) as monitor:
        net(inputs(0))
        monitor.flush()
        watched = Watched(open_readers(monitor.store))
        assert looked(watched).layers[0].dead >= 0
        monkeypatch.setattr(figures, "MAX_NEURONS", 9)
        net(inputs(1))
        monitor.flush()
        found = looked(watched).layers[0]
    assert math.isnan(found.dead)
    assert found.rate_so_far == rates(0, 2)[0]
