"""Where spikes lie in views and copies of them, and what each neuron causes there, place by place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from recorder.connections.axes import Memory
from recorder.connections.fan_outs import fan_out_of

SHAPE = (4, 3, 2, 5, 6)  # [T, N, *neuron]
View = Callable[[torch.Tensor], torch.Tensor]

VIEWS: dict[str, View] = {
    "as it is": lambda x: x,
    "time in the batch": lambda x: x.flatten(0, 1),
    "flat neurons": lambda x: x.flatten(2),
    "all of both": lambda x: x.flatten(0, 1).flatten(1),
    "axes exchanged": lambda x: x.transpose(0, 1).transpose(2, 4),
    "channels last": lambda x: x.permute(0, 1, 3, 4, 2),
    "time last": lambda x: x.permute(1, 2, 3, 4, 0),
    "some neurons": lambda x: x[:, :, :, 1:4, ::2],
    "one channel": lambda x: x[:, :, 1],
    "repeated": lambda x: x.unsqueeze(2).expand(4, 3, 7, 2, 5, 6),
    "an axis in two": lambda x: x.unflatten(4, (3, 2)),
    "every other, in two": lambda x: x[..., ::2].flatten(0, 1).unsqueeze(0),
}
COPIES: dict[str, View] = {
    "copied with other axes": lambda x: x.permute(1, 0, 3, 4, 2),
    "copied flat": lambda x: x.transpose(2, 3).transpose(0, 1),
    "copied with axes folded": lambda x: x.flatten(2, 3).transpose(2, 3),
    "copied in part": lambda x: x[:, :, :, 1:3],
}


def indices(view: View) -> np.ndarray:
    """For each place of the view, the flat index of the slot that lies there."""
    return view(torch.arange(int(np.prod(SHAPE))).reshape(SHAPE)).numpy()


def expected(found: np.ndarray, operations: np.ndarray) -> np.ndarray | None:
    """What each slot causes, added up place by place; None if that differs from frame to frame."""
    caused = np.zeros(int(np.prod(SHAPE)), np.int64)
    np.add.at(caused, found.ravel(), np.broadcast_to(operations, found.shape).ravel())
    frames = caused.reshape(12, 60)
    return frames[0].reshape(SHAPE[2:]) if (frames == frames[0]).all() else None


def operations_for(view: torch.Tensor, axes: int) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 50, view.shape[view.ndim - axes :])


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("axes", [0, 1, 2, 3])
def test_each_neuron_causes_what_all_places_that_it_lies_at_cause(name: str, axes: int) -> None:
    spikes = torch.zeros(SHAPE)
    memory = Memory.of_spikes(spikes)
    view = VIEWS[name](spikes)
    operations = operations_for(view, axes)
    assert memory is not None
    found = memory.axes_of(view)
    assert found is not None
    fan_out = fan_out_of(found, operations, SHAPE)
    wanted = expected(indices(VIEWS[name]), operations)
    if wanted is None:
        assert fan_out is None
    else:
        assert fan_out is not None
        assert np.array_equal(fan_out, wanted)
    assert wanted is not None or axes > 1 or name == "time last"


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("axes", [1, 2])
def test_a_copy_is_followed_through_the_view_that_it_was_made_of(name: str, axes: int) -> None:
    spikes = torch.zeros(SHAPE)
    memory = Memory.of_spikes(spikes)
    assert memory is not None
    source = COPIES[name](spikes)
    copy = source.reshape(12, -1)
    copied = memory.copied(source, copy)
    assert copied is not None
    axes_found = copied.axes_of(copy.unflatten(0, source.shape[:2]))
    assert axes_found is not None
    operations = operations_for(copy, 1) if axes == 1 else np.array([[7]])
    wanted = expected(indices(lambda x: COPIES[name](x).reshape(12, -1)), operations)
    assert np.array_equal(fan_out_of(axes_found, operations, SHAPE), wanted)  # type: ignore[arg-type]


def test_some_steps_or_samples_are_no_reading_of_a_layer() -> None:
    spikes = torch.zeros(SHAPE)
    memory = Memory.of_spikes(spikes)
    assert memory is not None
    for view in (spikes[-1], spikes[1:], spikes[:, :2], spikes[::2], spikes[:, 0]):
        axes = memory.axes_of(view)
        assert axes is not None
        assert fan_out_of(axes, np.array([3]), SHAPE) is None


def test_memory_of_others_and_windows_that_overlap_are_not_taken_for_spikes() -> None:
    whole = torch.zeros(3, *SHAPE)
    memory = Memory.of_spikes(whole[1])
    assert memory is not None
    assert memory.axes_of(whole[0]) is None  # before it
    assert memory.axes_of(whole) is None
    assert memory.axes_of(whole[1].as_strided((3, 2), (7, 720))) is None  # behind it
    assert Memory.of_spikes(torch.zeros(1).expand(SHAPE)) is None
    windows = torch.zeros(1, 1, 8)
    line = Memory.of_spikes(windows)
    assert line is not None
    unfolded = line.axes_of(windows.unfold(2, 3, 1))  # [1, 1, 6, 3]
    assert unfolded is not None
    assert fan_out_of(unfolded, np.array([1]), (1, 1, 8)).tolist() == [1, 2, 3, 3, 3, 3, 2, 1]  # type: ignore[union-attr]


def test_steps_that_add_up_beyond_an_axis_are_not_followed() -> None:
    spikes = torch.zeros(1, 1, 6, 6)
    memory = Memory.of_spikes(spikes)
    assert memory is not None
    assert memory.axes_of(spikes.as_strided((2, 3), (3, 1))) is not None
    # Its last place is the first one of the next row.
    assert memory.axes_of(spikes.as_strided((2, 4), (3, 1))) is None
    assert memory.axes_of(spikes.as_strided((2, 2), (3, 1), 3)) is None


@pytest.mark.parametrize("kept", [slice(None, None, 4), slice(0, 14, 2)])
def test_parts_of_flat_neurons_that_are_no_whole_rows_are_not_followed(kept: slice) -> None:
    spikes = torch.zeros(1, 1, 6, 6)
    memory = Memory.of_spikes(spikes)
    assert memory is not None
    assert memory.axes_of(spikes.flatten(2)[..., kept]) is None
