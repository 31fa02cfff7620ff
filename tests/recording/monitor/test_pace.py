"""Commits say how fast the network was, and how long it was held up."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from networks import Threshold, on_store
from recorder.format import RecordingFormatError
from recorder.format.documents import encode_root, root_document
from recorder.format.parsing.record import parse_document
from recorder.format.record.metadata import RecordingMetadata
from recorder.format.record.pace import PaceCommit
from recorder.stores import Folder
from recorder.tape import TapeReader
from recorder.tape.layers.layer_writing import LayerWriter


def pace_of(path: Path) -> PaceCommit:
    pace = TapeReader.open(Folder(path)).metadata.pace
    assert pace is not None
    return pace


def test_a_commit_has_the_steps_and_seconds_of_the_network(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    began = time.monotonic()
    with on_store(tmp_path, net) as monitor:
        for _ in range(5):
            net(torch.rand(2, 3))
        monitor.flush()
        pace = pace_of(Path(monitor.store))
        assert (pace.steps, pace.waited) == (5, 0.0)
        assert 0 < pace.seconds <= time.monotonic() - began
        net(torch.rand(2, 3))
    assert pace_of(Path(monitor.store)).steps == 6


def test_waiting_for_a_slow_store_is_in_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = LayerWriter.append

    def slow(writer: LayerWriter, rows: Any) -> None:
        time.sleep(0.02)
        append(writer, rows)

    monkeypatch.setattr(LayerWriter, "append", slow)
    monkeypatch.setattr("recorder.monitor.QUEUE_LIMIT_BYTES", 1)
    net = nn.Sequential(Threshold())
    with on_store(tmp_path, net) as monitor:
        for _ in range(4):
            net(torch.rand(8, 200_000))
        monitor.flush()
        waited = monitor.stats.seconds_waited
    assert waited > 0
    assert pace_of(Path(monitor.store)).waited >= round(waited, 3)


def test_whoever_goes_on_with_a_recording_counts_from_there(tmp_path: Path) -> None:
    net = nn.Sequential(Threshold())
    with on_store(tmp_path, net):
        net(torch.rand(2, 3))
    with on_store(tmp_path, net, resume=True) as monitor:
        assert TapeReader.open(Folder(monitor.store)).metadata.pace is None
        for _ in range(3):
            net(torch.rand(2, 3))
    assert pace_of(Path(monitor.store)).steps == 3


def record(pace: object) -> bytes:
    metadata = RecordingMetadata("closed", "0", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 0)
    document = root_document(replace(metadata, pace=PaceCommit(3, 1.5, 0.25)), None)
    written = json.loads(encode_root(document, "here"))
    written["attributes"]["spiketape"]["pace"] = pace
    return json.dumps(written).encode()


@pytest.mark.parametrize(
    ("pace", "problem"),
    [
        (3, "pace is 3, expected dict"),
        ({"steps": -1, "seconds": 1.0, "waited": 0.0}, "pace.steps is -1, expected 0 to"),
        ({"steps": 1, "seconds": "1", "waited": 0.0}, "pace.seconds is '1', expected a number from 0"),
        ({"steps": 1, "seconds": True, "waited": 0.0}, "pace.seconds is True"),
        ({"steps": 1, "seconds": 1.0}, "pace.waited is None"),
        ({"steps": 1, "seconds": 1.0, "waited": 1e300}, "pace.waited is 1e"),
    ],
)
def test_a_malformed_pace_is_an_error(pace: object, problem: str) -> None:
    with pytest.raises(RecordingFormatError, match=problem):
        parse_document(record(pace), "here")
