"""Bytes arrive whole and in order through a ring of any size, and its memory is bounded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import DEVICES, LateLane, make_ring
from recorder.capture.device.transfer import CudaLane, TransferRing, TransferRings


@given(
    st.integers(1, 70),
    st.lists(st.tuples(st.integers(1, 200), st.sampled_from(["", "poll", "wait"])), max_size=40),
)
@settings(deadline=None)
@pytest.mark.parametrize("device", DEVICES)
def test_bytes_arrive_as_they_were_sent(device: str, size: int, sent: list[tuple[int, str]]) -> None:
    ring, where = make_ring(device, size)
    generator = np.random.default_rng(0)
    on_the_way = []
    for length, then in sent:
        data = generator.integers(0, 256, length, np.uint8)
        transfer = ring.send(torch.from_numpy(data).to(where), ring.lane.mark())
        on_the_way.append((transfer, data))
        if then == "poll":
            ring.poll()
        elif then == "wait":
            ring.wait(transfer)
            assert transfer.arrived
    for transfer, data in on_the_way:
        ring.wait(transfer)
        assert np.array_equal(transfer.data, data)


def test_no_more_than_the_ring_is_on_its_way() -> None:
    lane = LateLane()
    ring = TransferRing(lane, 1000)
    for length in [100, 999, 3000, 1, 400] * 5:
        ring.send(torch.zeros(length, dtype=torch.uint8), None)
    assert 500 <= lane.most_bytes_on_the_way <= 1000


def test_what_is_polled_does_not_wait() -> None:
    lane = LateLane()
    ring = TransferRing(lane, 1000)
    transfer = ring.send(torch.ones(100, dtype=torch.uint8), None)
    ring.poll()
    assert not transfer.arrived
    assert len(lane.begun) == 1


@pytest.mark.parametrize("device", DEVICES)
def test_a_ring_that_was_made_in_inference_mode_carries_bytes_outside_of_it(device: str) -> None:
    with torch.inference_mode():
        ring, where = make_ring(device, 1000)
    transfer = ring.send(torch.ones(100, dtype=torch.uint8, device=where), ring.lane.mark())
    ring.wait(transfer)
    assert (transfer.data == 1).all()


def test_each_device_has_one_ring() -> None:
    rings = TransferRings()
    assert rings.size_bytes == 0
    ring = rings.of(torch.device("cpu"))
    assert rings.of(torch.device("cpu")) is ring
    assert rings.size_bytes == ring.size_bytes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_network_s_stream_is_not_waited_for() -> None:
    device = torch.device("cuda", 0)
    ring = TransferRing(CudaLane(device), 2**20)
    data = torch.ones(1000, dtype=torch.uint8, device=device)
    mark = ring.lane.mark()
    transfer = ring.send(data, mark)
    torch.cuda._sleep(2_000_000_000)  # about a second of work behind what is sent
    still_working = torch.cuda.Event()
    still_working.record()
    ring.wait(transfer)
    assert not still_working.query()
    assert np.array_equal(transfer.data, np.ones(1000))
    torch.cuda.synchronize()
