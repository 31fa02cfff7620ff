"""Monitors that are replaced, copied and forked: nothing records twice, and nothing answers for another."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from zarr.storage import MemoryStore

import analysis
from processes import collect_garbage, finished, forked
from recorder import Monitor
from recorder.format import RecordingClosedWarning, RecordingInUseError, UncalledLayersWarning
from recorder.session import RecordingSession
from recorder.tape.holding.lock import LOCK_KEY


class Threshold(nn.Module):
    """Spikes wherever its input exceeds 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).to(x.dtype)


def monitor_of(store: Any, net: nn.Module, **options: Any) -> Monitor:
    return Monitor(net, layers=[Threshold], store=store, **options)


# -- a cell of a notebook that is run again ------------------------------------------------------------------


@pytest.mark.parametrize(("how", "frames"), [("overwrite", 2), ("resume", 5)])
@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_cell_that_is_run_again_closes_the_monitor_that_it_made_before(
    tmp_path: Path, how: str, frames: int, kind: str
) -> None:
    store = tmp_path / "run.zarr" if kind == "folder" else MemoryStore()
    net = nn.Sequential(Threshold())
    monitor = monitor_of(store, net)
    monitor.enable()
    net(torch.ones(3, 2))
    first = monitor
    with pytest.warns(RecordingClosedWarning, match=r"earlier monitor of this process .*was closed") as told:
        monitor = monitor_of(store, net, **{how: True})
    assert Path(told[0].filename) == Path(__file__)
    assert monitor.store in str(told[0].message)
    assert (first._session.closed, first._hooks.in_place) == (True, False)
    monitor.enable()
    net(torch.ones(2, 2))
    monitor.close()
    assert analysis.open_recording(store)["0"].frames == frames


def test_without_saying_how_the_store_of_another_monitor_stays_refused(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    with monitor_of(tmp_path / "run.zarr", net) as monitor:
        with pytest.raises(RecordingInUseError, match="which runs"):
            monitor_of(tmp_path / "run.zarr", net)
        net(torch.ones(2, 2))
        assert len(monitor.s["0"]) == 1


def test_a_monitor_that_cannot_be_finished_does_not_keep_the_next_one_from_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Sequential(Threshold())
    first = monitor_of(tmp_path / "run.zarr", net)
    first.enable()
    net(torch.ones(2, 2))
    close = RecordingSession.close

    def fail(self: RecordingSession) -> None:
        close(self)
        raise OSError("the disk is full")

    monkeypatch.setattr(RecordingSession, "close", fail)
    with pytest.warns(RecordingClosedWarning, match=r"failed after its last commit .*the disk is full"):
        second = monitor_of(tmp_path / "run.zarr", net, overwrite=True)
    monkeypatch.undo()
    first.close()
    second.close()


# -- a network that holds its monitor ------------------------------------------------------------------------


def through_torch(net: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),  # noqa: S301 - our own
    "torch.save": through_torch,
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_of_a_network_has_a_monitor_that_records_nothing_and_says_so(tmp_path: Path, way: str) -> None:
    net = nn.Sequential(nn.Linear(2, 2), Threshold())
    names, keys = [name for name, _ in net.named_modules()], list(net.state_dict())
    net.monitor = monitor_of(tmp_path / "run.zarr", net)  # type: ignore[assignment]
    net.monitor.enable()
    net(torch.ones(3, 2))
    twin: Any = COPIES[way](net)
    for each in (net, twin):
        assert [name for name, _ in each.named_modules()] == names
        assert list(each.state_dict()) == keys
    with twin.monitor.trial(label=1):
        twin(torch.ones(3, 2))
    for done in (twin.monitor.disable, twin.monitor.flush, twin.monitor.close):
        done()
    asked = (
        twin.monitor.enable,
        twin.monitor.reset,
        twin.monitor.get_avg_firing_rate,
        twin.monitor.get_nonfire_ratio,
        twin.monitor.__enter__,
        lambda: twin.monitor.s,
        lambda: twin.monitor.plan,
        lambda: twin.monitor.stats,
    )
    for ask in asked:
        with pytest.raises(RuntimeError, match=r"came with a copy of its network, and records nothing"):
            ask()
    assert "inert" in repr(twin.monitor)
    assert twin.monitor.layers == ("1",)
    again: Any = COPIES[way](twin)
    assert again.monitor.store == net.monitor.store == str(tmp_path / "run.zarr")
    assert (tmp_path / "run.zarr" / LOCK_KEY).exists(), "the copy gave back the lock of the first"
    net(torch.ones(3, 2))
    net.monitor.close()
    assert analysis.open_recording(tmp_path / "run.zarr")["1"].frames == 6


def test_a_network_and_its_monitor_that_are_forgotten_together_are_finished(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold(), Threshold())
    net[1].monitor = monitor_of(tmp_path / "run.zarr", net)  # type: ignore[assignment]
    net[1].monitor.enable()
    net(torch.ones(3, 2))
    gone = weakref.ref(net[1].monitor)
    del net
    collect_garbage()
    assert gone() is None
    assert not (tmp_path / "run.zarr" / LOCK_KEY).exists()
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert (recording.state, recording["0"].frames) == ("closed", 3)


def test_hooks_of_a_forgotten_monitor_go_with_it(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    monitor = monitor_of(tmp_path / "run.zarr", net)
    monitor.enable()
    with pytest.warns(UncalledLayersWarning, match="before a layer was called"):
        del monitor
    gc.collect()
    assert [*net._forward_hooks, *net[0]._forward_hooks, *net._forward_pre_hooks] == []


# -- a forked child ------------------------------------------------------------------------------------------

FORKED = """
import os, sys, threading, torch
from torch import nn
from recorder import Monitor, SpikeOutput
net = nn.Sequential(nn.ReLU(), nn.ReLU())
ones = torch.ones(2, 3)
with Monitor(net, store=sys.argv[1], layers={nn.ReLU: SpikeOutput("N")}) as monitor:
    net[0](ones)
    monitor.flush()
    seen = monitor.s
    net(ones)
    held, over = threading.Event(), threading.Event()

    def hold():  # as another thread may at the moment of the fork
        with monitor._session.entrance.lock:
            held.set()
            over.wait()

    threading.Thread(target=hold).start()
    held.wait()
    child = os.fork()
    if child == 0:
        asked = {
            "s": lambda: monitor.s, "an earlier s": lambda: seen["0"], "a layer too new": lambda: seen["1"],
            "rate": monitor.get_avg_firing_rate, "silent": monitor.get_nonfire_ratio,
            "plan": lambda: monitor.plan, "stats": lambda: monitor.stats, "reset": monitor.reset,
            "enable": monitor.enable, "trial": lambda: monitor.trial(label=1).__enter__(),
        }
        for name, ask in asked.items():
            try:
                ask()
            except RuntimeError as error:
                assert "forked child" in str(error), (name, error)
                assert sys.argv[1] in str(error), (name, error)
            else:
                os.write(2, f"{name} was not refused".encode())
                os._exit(1)
        assert "forked" in repr(monitor)
        net(ones)
        for end in (monitor.flush, monitor.disable, monitor.close):
            end()
        try:
            Monitor(net, store=sys.argv[1], layers={nn.ReLU: SpikeOutput("N")}, overwrite=True)
        except OSError as error:
            assert "which runs" in str(error), error
        else:
            os._exit(2)
        os._exit(0)
    over.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    net(ones)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_in_a_forked_child_every_question_is_refused_by_name(tmp_path: Path) -> None:
    with forked(FORKED, tmp_path / "run.zarr") as process:
        finished(process, seconds=60)
    recording = analysis.open_recording(tmp_path / "run.zarr")
    assert (recording.state, recording["0"].frames, recording["1"].frames) == ("closed", 6, 4)


def test_a_layer_called_after_s_was_asked_for_is_named_and_no_bare_key_error(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold(), Threshold())
    with monitor_of(tmp_path / "run.zarr", net) as monitor:
        net[0](torch.ones(2, 3))
        seen = monitor.s
        net(torch.ones(2, 3))
        with pytest.raises(RuntimeError, match=r"layer '1' had not been called .*ask `monitor.s` again"):
            seen["1"]
        assert len(monitor.s["1"]) == 1
