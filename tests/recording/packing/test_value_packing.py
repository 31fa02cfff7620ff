"""Levels are packed as booleans are: whole, in order, and taken back where they do not count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from packed_levels import levels_of
from recorder.capture.host.host_packing import HostPacker, NotSpikesError, StagePool, pack_whole
from recorder.capture.host.value_packing import ValuePacker
from recorder.format.planes.values import PackedValues
from recorder.format.record.metadata import ValuesCommit


def packer(scale: float = 1.0, dtype: str = "float32", neurons: int = 3) -> ValuePacker:
    return ValuePacker(np.empty((0, neurons), np.bool_), StagePool(), scale, dtype)


def levels_in(packer: HostPacker) -> np.ndarray:
    """All frames that were pushed, whole rows and pending ones."""
    pending = packer.drain()
    pieces = []
    for rows in packer.ready:
        packed = pack_whole(rows)
        assert isinstance(packed, PackedValues)
        pieces.append(levels_of(packed))
    return np.concatenate([*pieces, pending]).astype(np.int64)


def push(packer: ValuePacker, values: Any) -> None:
    packer.push(torch.as_tensor(values))
    packer.undo = None


@pytest.mark.parametrize("most", [3, 127, 128, 32767])
def test_levels_come_out_as_they_went_in_through_full_stages(most: int) -> None:
    """A stage of 3 neurons has some 350,000 frames; larger levels make the packer go on with a wider one."""
    random = np.random.default_rng(most)
    made = packer()
    given = [
        random.integers(-1, 2, (5, 3)),
        random.integers(-most, most + 1, (400_001, 3)),
        np.full((2, 3), -2),
    ]
    for values in given:
        push(made, values.astype(np.float32))
    np.testing.assert_array_equal(levels_in(made), np.concatenate(given))
    assert (made.values.least, made.values.most) == (-most, most)


def test_what_does_not_count_leaves_no_trace() -> None:
    made = packer()
    push(made, [[1.0, 2, 0]])
    made.push(torch.tensor([[90.0, -90, 0]]))  # and is never said to count
    push(made, [[3.0, 0, 0]])
    assert made.values == ValuesCommit(1.0, 0, 3)
    made.push(torch.tensor([[300.0, 0, 0]]))  # with a wider stage
    made.roll_back()
    with pytest.raises(NotSpikesError, match=r"values from 0\.5 to 1"):
        made.push(torch.tensor([[0.5, 1, 1]]))
    assert levels_in(made).tolist() == [[1, 2, 0], [3, 0, 0]]
    assert made.values == ValuesCommit(1.0, 0, 3)


@pytest.mark.parametrize("bad", [0.5, 32768.0, -32768.0, float("nan"), float("inf"), 1e30])
def test_what_is_no_level_is_refused_as_a_whole(bad: float) -> None:
    made = packer()
    push(made, [[1.0, -1, 0]])
    with pytest.raises(NotSpikesError):
        made.push(torch.tensor([[1.0, 1, 1], [1, bad, 1]]))
    made.roll_back()
    assert levels_in(made).tolist() == [[1, -1, 0]]


def test_an_output_of_another_type_must_be_given_back_in_the_layers() -> None:
    made = packer(dtype="uint8")
    push(made, torch.tensor([[200, 1, 0]], dtype=torch.uint8))
    push(made, torch.tensor([[3.0, 1, 0]]))
    for values in ([[-1.0, 0, 0]], [[256.0, 0, 0]]):
        with pytest.raises(NotSpikesError):
            made.push(torch.tensor(values))
    assert levels_in(made).tolist() == [[200, 1, 0], [3, 1, 0]]


def test_multiples_of_a_scale_are_given_back_or_refused() -> None:
    made = packer(scale=1 / 3)
    values = torch.tensor([[1 / 3, 2 / 3, -1]])
    push(made, values)
    assert levels_in(made).tolist() == [[1, 2, -3]]
    with pytest.raises(NotSpikesError):
        made.push(values + 1e-6)
