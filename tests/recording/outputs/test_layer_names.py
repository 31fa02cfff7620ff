"""Names of layers and the folders they lie in: none shared, none that cannot be stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import analysis
from analysis.keeping import find_problems
from recorder import Monitor, SpikeOutput
from recorder.format import RecordingFormatError
from recorder.format.layout import folder_name
from recorder.format.parsing.record import parse_document
from recorder.format.record.records import record_checksum
from recorder.keeping import pack_recording
from recorder.stores import open_store
from recorder.tape import TapeReader


class Teller(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Net(nn.Module):
    """Layers of these names, called in this order."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, Teller())

    def forward(self, x: torch.Tensor) -> None:
        for place, module in enumerate(self.children()):
            module(torch.roll(x, place, 1))


LAYERS = {Teller: SpikeOutput()}
NAMES = "fc_LIF", "fc_lif", "fc_Lif", "other"
X = (torch.rand(3, 5, generator=torch.Generator().manual_seed(0)) < 0.5).float()


def record(path: Path, *names: str, **options: bool) -> None:
    with Monitor(Net(*names), store=path, layers=LAYERS, **options) as monitor:  # type: ignore[arg-type]
        Net.forward(monitor._hooks._network, X)  # type: ignore[arg-type]


def folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in (path / "layers").iterdir() if entry.is_dir())


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr")
def test_names_that_differ_by_case_only_have_folders_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    record(path, *NAMES)
    assert len({name.lower() for name in folders(path)}) == 4
    assert {"fc_LIF", "other"} < {*folders(path)}, "a folder is named as ever where nothing stands against it"
    recording = analysis.open_recording(path)
    for place, name in enumerate(NAMES):
        expected = torch.roll(X, place, 1).numpy()
        assert np.array_equal(recording[name].spikes.values, expected)
        assert recording.stored_spike_bytes(name) > 0
        assert recording[name].firing_rate().compute() == pytest.approx(expected.mean())
    assert not find_problems(TapeReader.open(open_store(path, read_only=True)))
    group = zarr.open_group(path, mode="r")["layers"]
    assert {group[folder].attrs["name"] for folder in folders(path)} == {*NAMES}


def test_the_record_says_where_a_layer_lies_that_is_set_apart(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    record(path, *NAMES)
    record_of = json.loads((path / "zarr.json").read_bytes())["attributes"]["spiketape"]
    assert record_of["format_version"] == 3
    assert [layer.get("folder") for layer in record_of["layers"]] == [
        None,
        "=66=63_=6C=69=66",
        "=66=63_=4C=69=66",
        None,
    ]
    record(tmp_path / "plain.zarr", "fc_LIF", "other")
    plain = json.loads((tmp_path / "plain.zarr" / "zarr.json").read_bytes())["attributes"]["spiketape"]
    assert plain["format_version"] == 1
    assert not any("folder" in layer for layer in plain["layers"])


def test_a_name_that_comes_with_a_resumed_network_is_set_apart_too(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    record(path, "LIF")
    record(path, "lif", "LIF", resume=True)
    record(path, "lif", "LIF", resume=True)
    assert folders(path) == ["=6C=69=66", "LIF"]
    recording = analysis.open_recording(path)
    assert recording["LIF"].spikes.shape == (9, 5)
    assert recording["lif"].spikes.shape == (6, 5)
    assert np.array_equal(recording["lif"].spikes.values, np.concatenate([X.numpy()] * 2))


@pytest.mark.parametrize("folder", ["lif", "../LIF", "", "=4C=49=46", 3, None])
def test_a_folder_that_is_not_that_of_the_name_is_refused(tmp_path: Path, folder: object) -> None:
    path = tmp_path / "run.zarr"
    record(path, "LIF", "lif")
    document = json.loads((path / "zarr.json").read_bytes())
    record_of = document["attributes"]["spiketape"]
    record_of["layers"][1]["folder"] = folder
    record_of["crc32c"] = record_checksum(record_of)
    with pytest.raises(RecordingFormatError, match=r"layers\[1\].folder is .*expected '=6C=69=66'"):
        parse_document(json.dumps(document).encode(), "here")


def test_a_recording_with_folders_set_apart_is_verified_packed_and_quoted(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    record(path, *NAMES)
    recording = analysis.open_recording(path)
    pack_recording(TapeReader.open(open_store(path, read_only=True)), str(tmp_path / "run.zip"))
    packed = analysis.open_recording(tmp_path / "run.zip")
    assert packed.digest() == recording.digest()
    assert np.array_equal(packed["fc_lif"].spikes.values, recording["fc_lif"].spikes.values)


letters = st.text(min_size=1, max_size=80)


@given(st.lists(letters, min_size=2, max_size=2, unique=True))
def test_a_folder_set_apart_differs_from_every_other_by_more_than_case(names: list[str]) -> None:
    one, other = names
    apart = folder_name(one, apart=True).lower()
    assert apart != folder_name(other, apart=True).lower()
    assert apart != folder_name(other).lower()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 1025, r"layer 'x{40}…' has 1025 characters, a recording holds at most 1024"),
        ("a\ud800b", r"layer 'a\\ud800b' holds half a character"),
    ],
)
def test_a_name_that_cannot_be_stored_is_refused_when_the_monitor_is_made(
    tmp_path: Path, name: str, message: str
) -> None:
    net = Net("good", name)
    with pytest.raises(ValueError, match=message):
        Monitor(net, store=tmp_path / "run.zarr", layers=LAYERS)
    assert not (tmp_path / "run.zarr").exists()
    with Monitor(net, store=tmp_path / "run.zarr", layers={"good": SpikeOutput()}) as monitor:
        net(X)
    assert analysis.open_recording(monitor.store)["good"].spikes.shape == (3, 5)


def test_the_longest_name_is_stored(tmp_path: Path) -> None:
    name = "x" * 1024
    record(tmp_path / "run.zarr", name)
    assert analysis.open_recording(tmp_path / "run.zarr")[name].spikes.shape == (3, 5)
