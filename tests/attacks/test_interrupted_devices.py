"""Interrupted at any place, a recording on an accelerator loses no other output, and misplaces none."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import analysis
import recorder
from devices import LateLane
from recorder import Monitor, SpikeOutput, SpikeValueError
from recorder.capture.device.gathering import GATHER_AFTER
from recorder.capture.device.transfer import TransferRing, TransferRings
from recorder.capture.packers import Packers

NEURONS = 13
OURS = str(Path(recorder.__file__).parent)


class Relay(nn.Module):
    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        return spikes.clone()


@pytest.fixture(autouse=True)
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is packed as on an accelerator, and arrives late through a small ring of each recording."""
    monkeypatch.setattr(Packers, "is_on_host", lambda *_: False)

    def ring(rings: TransferRings, _: torch.device) -> TransferRing:
        made: TransferRing = vars(rings).setdefault("late", TransferRing(LateLane(), 2000))
        return made

    monkeypatch.setattr(TransferRings, "of", ring)


class Interruption:
    """Raises KeyboardInterrupt at one of the places where our code calls something, or has called C.

    Elsewhere Python looks for none.
    """

    def __init__(self, place: int) -> None:
        self._left = place
        self.has_come = False

    def __enter__(self) -> Interruption:
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _look(self, frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "c_call", "c_return") and frame.f_code.co_filename.startswith(OURS):
            self._left -= 1
            if self._left < 0:
                sys.setprofile(None)
                self.has_come = True
                raise KeyboardInterrupt


def outputs(steps: int, most: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    shape = 3, NEURONS
    fires = (torch.rand((steps, *shape), generator=random) < 0.3).float()
    return [*fires * torch.randint(1, most + 1, fires.shape, generator=random)]


def is_whole(place: int, path: Path, *, before: int, most: int, what: str) -> bool | None:
    """Whether all is there of a run that is interrupted there, in the step or flush after some steps.

    None if it has no such place.
    """
    given = outputs(before + GATHER_AFTER, most)
    if what == "a step of no spikes":
        given[before] = given[before] + 0.5
    net = nn.Sequential(Relay(), Relay())
    monitor = Monitor(net, store=path, layers={Relay: SpikeOutput("n ...")})
    monitor.enable()
    for spikes in given[:before]:
        net(spikes)
    if what == "flush":
        net(given[before])
    interruption = Interruption(place)
    try:
        with interruption:
            if what == "flush":
                monitor.flush()
            else:
                net(given[before])
    except KeyboardInterrupt:
        pass
    if what == "a step of no spikes":
        with suppress(SpikeValueError):
            monitor.flush()
    for spikes in given[before + 1 :]:
        net(spikes)
    monitor.close()
    if not interruption.has_come:
        return None
    recording = analysis.open_recording(path)
    without = torch.cat([*given[:before], *given[before + 1 :]])
    wanted = [torch.cat(given)] if what == "flush" else [torch.cat(given), without]
    found = [layer.spikes if most == 1 else layer.values for layer in recording.layers.values()]
    first, second = found
    # Both layers put out the same, so that a step which is in both of them is one output.
    in_both = np.intersect1d(first.step, second.step)
    of_both = [one.values[np.isin(one.step, in_both)] for one in found]
    return np.array_equal(*of_both) and all(
        any(np.array_equal(one.values, each.numpy()) for each in wanted) for one in found
    )


@pytest.mark.parametrize(
    ("what", "before", "most"),
    [
        ("a step", 5, 1),
        ("a step", 2 * GATHER_AFTER, 1),
        ("a step", 5, 3),
        ("a step of no spikes", 5, 1),
        ("flush", 5, 1),
        ("flush", GATHER_AFTER + 3, 1),
    ],
)
@pytest.mark.parametrize("every", [23, pytest.param(1, marks=pytest.mark.long)])
def test_an_interruption_costs_at_most_the_output_that_it_comes_in(
    tmp_path: Path, what: str, before: int, most: int, every: int
) -> None:
    place, found = 0, {}
    while (whole := is_whole(place, tmp_path / f"{place}", before=before, most=most, what=what)) is not None:
        found[place] = whole
        place += every
    assert len(found) > 6
    assert all(found.values()), [place for place, whole in found.items() if not whole]
