"""Rows become trains and counts the same way, compiled or not; the compiled loop is loaded when it pays."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from processes import python
from recorder.format.bits import count_per_neuron
from recorder.tape.threads import rearranging
from recorder.tape.threads.rearranging import Rearranging


@pytest.fixture(scope="module")
def compiled() -> Rearranging:
    pytest.importorskip("numba", reason="without numba there is no compiled loop")
    made = Rearranging()
    made.load()
    assert made._loop is not None
    return made


@pytest.mark.parametrize("neurons", [1, 7, 8, 63, 64, 65, 257])
@pytest.mark.parametrize("count", [8, 56, 64, 72, 1024])
def test_the_compiled_loop_does_what_numpy_does(compiled: Rearranging, count: int, neurons: int) -> None:
    rows = np.random.default_rng(count + neurons).integers(0, 256, (count, neurons), np.uint8)
    for made in (compiled, Rearranging()):
        trains = np.full((neurons, count), 255, np.uint8)
        counts = made.rearrange(rows, trains)
        assert np.array_equal(trains, rows.T)
        assert np.array_equal(counts, count_per_neuron(trains))
        assert np.array_equal(counts, np.unpackbits(rows.T, axis=1).sum(axis=1))


def rearranged(made: Rearranging) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (8, 3), np.uint8)
    trains = np.empty((3, 8), np.uint8)
    made.rearrange(rows, trains)
    assert np.array_equal(trains, rows.T)


def test_the_loop_is_loaded_once_numpy_has_rearranged_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(Rearranging, "load", lambda _: loaded.append("once"))
    made = Rearranging(load_after_bytes=48)
    rearranged(made)
    assert loaded == []
    for _ in range(3):
        rearranged(made)
    for thread in rearranging.threading.enumerate():
        if thread.name == "spiketape-compiler":
            thread.join()
    assert loaded == ["once"]


def test_a_loop_that_cannot_be_loaded_is_told_and_numpy_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: str) -> None:
        raise OSError("no compiler")

    monkeypatch.setattr(rearranging, "import_module", fail)
    made = Rearranging()
    with caplog.at_level(logging.WARNING, "recorder"):
        made.load()
    assert "OSError: no compiler" in caplog.text
    rearranged(made)


def test_numba_is_not_imported_before_it_pays() -> None:
    with python("import sys, recorder.tape; print('numba' in sys.modules)") as process:
        assert process.stdout is not None
        assert process.stdout.read().strip() == "False"
