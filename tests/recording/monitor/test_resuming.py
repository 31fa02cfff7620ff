"""A monitor goes on with a recording to the bit, replaces it when asked, and leaves alone what is none."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from networks import Outputs, Threshold, network, on_store, run
from recorder import Monitor
from recorder.format import RecordingExistsError, RecordingFormatError
from recorder.keeping import plan_recovery, recover
from recorder.keeping.verification import check_blocks
from recorder.stores import Folder
from recorder.tape import TapeReader


@pytest.mark.parametrize("batches", [(8,), (3, 3), (4, 4, 4, 3), (200,)])
def test_resuming_goes_on_to_the_bit(tmp_path: Path, batches: tuple[int, ...]) -> None:
    net = network()
    outputs = Outputs(net)
    for _ in range(3):
        with on_store(tmp_path, net, resume=True) as monitor:
            run(net, batches)
            outputs.check(monitor)
    segments = TapeReader.open(Folder(tmp_path / "run.zarr")).layers["0"].segments()
    steps = len(batches) * 3
    assert int(segments.last_step[-1]) == steps
    assert segments.frames == sum(batches) * 3


def test_resuming_keeps_layers_that_the_network_has_no_longer(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold(), Threshold())
    with on_store(tmp_path, net):
        run(net)
    shorter = nn.Sequential(Threshold())
    with on_store(tmp_path, shorter, resume=True) as monitor:
        run(shorter)
        assert [len(monitor.s["0"]), len(monitor.s)] == [8, 2]


def test_a_recording_is_refused_unless_told_what_to_do_with_it(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net) as monitor:
        run(net)
    with pytest.raises(
        RecordingExistsError, match=r"run\.zarr already holds a recording.*resume=True.*overwrite=True"
    ):
        on_store(tmp_path, net)
    with pytest.raises(ValueError, match="choose one"):
        on_store(tmp_path, net, resume=True, overwrite=True)
    with on_store(tmp_path, net, overwrite=True) as monitor:
        run(net, (2,))
        assert len(monitor.s["0"]) == 1


def test_without_a_store_a_new_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = network()
    stores = []
    for _ in range(2):
        with Monitor(net, layers=[Threshold]) as monitor:
            run(net)
        stores.append(monitor.store)
    assert stores[0] != stores[1]
    assert all(re.search(r"recordings/[-0-9]+_[-0-9]+(_2)?\.zarr$", store) for store in stores)


@pytest.mark.usefixtures("small_chunks")
def test_lost_frames_are_in_no_answer_of_a_resumed_monitor(tmp_path: Path) -> None:
    net = network()
    outputs = Outputs(net)
    inputs = torch.rand(120, 3, 9, generator=torch.Generator().manual_seed(1))
    with on_store(tmp_path, net):
        for step in range(100):
            net(inputs[step])
    store = Folder(tmp_path / "run.zarr")
    # Of layer "0" frames 64 to 127, which lie in steps 21 to 42; of layer "2" the last, from step 85 on.
    (tmp_path / "run.zarr/layers/0/spikes/c/1/0").unlink()
    (tmp_path / "run.zarr/layers/2/spikes/c/4/0").unlink()
    reader = TapeReader.open(store)
    problems = [problem for layer in reader.layers.values() for problem in check_blocks(layer, 0, 1)]
    recover(store, plan_recovery(reader, problems, mark_lost=True), reader.metadata.commit_number)
    del outputs.kept["0"][21:43]
    del outputs.kept["2"][85:]
    with on_store(tmp_path, net, resume=True) as monitor:
        for step in range(100, 120):
            net(inputs[step])
        outputs.check(monitor)
    outputs.check(monitor)


def test_what_is_lost_altogether_is_not_silent(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net):
        net(torch.ones(3, 9))
    store = Folder(tmp_path / "run.zarr")
    for layers in (["0"], ["2"]):
        for name in layers:
            (tmp_path / f"run.zarr/layers/{name}/spikes/c/0/0").unlink()
        reader = TapeReader.open(store)
        problems = [problem for layer in reader.layers.values() for problem in check_blocks(layer, 0, 1)]
        recover(store, plan_recovery(reader, problems, mark_lost=True), reader.metadata.commit_number)
        with on_store(tmp_path, net, resume=True) as monitor:
            if layers == ["0"]:
                alone = monitor.get_nonfire_ratio(all=False, module_name="2")
                assert monitor.get_nonfire_ratio() == alone
            assert np.isnan(monitor.get_avg_firing_rate(all=False, module_name="0"))
            assert len(monitor.s["0"]) == 0
    assert np.isnan(monitor.get_nonfire_ratio())


def test_a_foreign_folder_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "run.zarr").mkdir()
    (tmp_path / "run.zarr/zarr.json").write_text("{}")
    with pytest.raises(RecordingFormatError, match="not a recording made by spiketape"):
        on_store(tmp_path, network(), resume=True)


class Other(nn.Sequential):
    """Another class of network with the same layers."""


def other(told: dict[str, object], recorded: dict[str, object]) -> str:
    name = next(name for name in told if told[name] != recorded.get(name))
    return rf"run\.zarr has {recorded.get(name, 'nothing')!r} .*{name}={told[name]!r}.*another store".replace(
        "'nothing'", "nothing"
    )


@pytest.mark.parametrize(
    ("recorded", "told"),
    [
        ({"dt": 1.0, "dt_unit": "ms"}, {"dt": 0.5, "dt_unit": "ms"}),
        ({"dt": 1.0, "dt_unit": "ms"}, {"dt": 1.0, "dt_unit": "s"}),
        ({}, {"dt": 1.0, "dt_unit": "ms"}),
        ({"licence": "CC0-1.0"}, {"licence": "CC-BY-4.0"}),
        ({"citation": "one"}, {"citation": "two"}),
        ({}, {"citation": "two"}),
    ],
)
def test_what_holds_for_a_whole_recording_is_not_said_anew(
    tmp_path: Path, recorded: dict[str, object], told: dict[str, object]
) -> None:
    net = network()
    with on_store(tmp_path, net, **recorded):
        run(net)
    with pytest.raises(ValueError, match=other(told, recorded)):
        on_store(tmp_path, net, resume=True, **told)
    for same in ({}, recorded):
        with on_store(tmp_path, net, resume=True, **same):
            run(net)
    provenance = TapeReader.open(Folder(tmp_path / "run.zarr")).metadata.provenance
    assert {name: provenance.get(name) for name in told} == {name: recorded.get(name) for name in told}


def test_another_network_does_not_go_on(tmp_path: Path) -> None:
    net = network()
    with on_store(tmp_path, net):
        run(net)
    with pytest.raises(
        ValueError, match=r"of class torch\..*Sequential, and .* class .*\.Other: .*another store"
    ):
        on_store(tmp_path, Other(*network()), resume=True)
    assert TapeReader.open(Folder(tmp_path / "run.zarr")).metadata.state == "closed"


def test_a_network_is_the_same_where_its_file_runs_as_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Other(*network())
    with on_store(tmp_path, net):
        run(net)
    monkeypatch.setattr(Other, "__module__", "__main__")
    with on_store(tmp_path, net, resume=True):
        run(net)
    another = type("Another", (nn.Sequential,), {"__module__": "__main__"})
    with pytest.raises(ValueError, match=r"class __main__\.Another"):
        on_store(tmp_path, another(*network()), resume=True)


class Sharper(Threshold):
    """Another kind of neuron."""


def test_a_layer_goes_on_as_one_of_its_class(tmp_path: Path) -> None:
    with on_store(tmp_path, nn.Sequential(Threshold(), Threshold())) as monitor:
        monitor._hooks._network(torch.rand(2, 3))
    with pytest.raises(
        ValueError, match=r"layer '1' of .* was recorded of a .*Threshold, and would .*Sharper"
    ):
        on_store(tmp_path, nn.Sequential(Threshold(), Sharper()), resume=True)
    # A layer more, or less, is no other layer.
    on_store(tmp_path, nn.Sequential(Threshold(), nn.Identity(), Threshold()), resume=True).close()
