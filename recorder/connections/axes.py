"""Where each value of a tensor of spikes lies in tensors that views and copies make of it.

A layer puts out ``[T, N, *neuron]``. What the next one is given may be the same memory under other axes, or a
copy of it, in which time and batch are folded, neurons flattened, axes exchanged, some left out or repeated.
All of that is arithmetic on strides, done here exactly and without looking at a value.

A memory that holds spikes is described by *digits*: each is a stride in memory that moves along one axis of
the spikes, by some places at a time. An axis of a tensor is then one digit, or several, the fast ones first::

    spikes        [T=4, N=3, C=2, H=5]    strides 30, 10, 5, 1
    digits        (4, 30, axis 0), (3, 10, axis 1), (2, 5, axis 2), (5, 1, axis 3)
    flatten(0, 1) [12, 2, 5]              strides 10, 5, 1
    its axes      [(3, axis 1), (4, axis 0)], [(2, axis 2)], [(5, axis 3)]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch


class Digit(NamedTuple):
    """Steps of equal size in memory, and what they are along an axis of the spikes.

    Attributes
    ----------
    size : int
        How many values it takes.
    stride : int
        Elements of memory from one to the next.
    axis : int
        Axis of the spikes; -1 where a value is repeated.
    places : int
        Places along that axis from one to the next.
    """

    size: int
    stride: int
    axis: int
    places: int


class Run(NamedTuple):
    """Part of an axis of a tensor: so many steps, each of so many places along an axis of the spikes."""

    size: int
    axis: int
    places: int


@dataclass(frozen=True)
class Axes:
    """The axes of a tensor that holds spikes.

    Attributes
    ----------
    runs : tuple of tuple of Run
        For each axis of the tensor, what its index moves along, the fastest first; empty if it has one place.
    first : tuple of int
        For each axis of the spikes, the place of the tensor's first element.
    """

    runs: tuple[tuple[Run, ...], ...]
    first: tuple[int, ...]


@dataclass(frozen=True)
class Memory:
    """A memory that holds spikes.

    Attributes
    ----------
    offset : int
        Element from which on it is described.
    digits : tuple of Digit
    first : tuple of int
        For each axis of the spikes, the place of the element at ``offset``.
    """

    offset: int
    digits: tuple[Digit, ...]
    first: tuple[int, ...]

    @classmethod
    def of_spikes(cls, spikes: torch.Tensor) -> Memory | None:
        """The memory of a tensor of spikes, ``[T, N, *neuron]``; None if places share it."""
        digits = [
            Digit(size, stride, axis, 1)
            for axis, (size, stride) in enumerate(zip(spikes.shape, spikes.stride(), strict=True))
            if size > 1
        ]
        if spikes.numel() == 0 or not _are_apart(digits):
            return None
        return cls(int(spikes.storage_offset()), tuple(digits), (0,) * spikes.ndim)

    def axes_of(self, tensor: torch.Tensor) -> Axes | None:
        """The axes of a tensor in this memory; None if it holds anything else."""
        used = [0] * len(self.digits)
        first = [*self.first]
        rest = int(tensor.storage_offset()) - self.offset
        if rest < 0 or tensor.numel() == 0:
            return None
        for number, digit in sorted(enumerate(self.digits), key=lambda item: -item[1].stride):
            used[number], rest = divmod(rest, digit.stride) if digit.stride else (0, rest)
            if digit.axis >= 0:
                first[digit.axis] += used[number] * digit.places
        if rest:
            return None
        axes = []
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            parts = self._parts(size, stride)
            if parts is None:
                return None
            for number, steps, taken in parts:
                if number >= 0:
                    used[number] += (taken - 1) * steps
            axes.append(tuple(self._run(*part) for part in parts))
        # No sum of steps along one digit reaches the next, so that digits add up one by one.
        if any(most >= digit.size for most, digit in zip(used, self.digits, strict=True)):
            return None
        return Axes(tuple(axes), tuple(first))

    def _run(self, number: int, steps: int, taken: int) -> Run:
        if number < 0:
            return Run(taken, -1, 0)
        digit = self.digits[number]
        return Run(taken, digit.axis, steps * digit.places)

    def _parts(self, size: int, stride: int) -> list[tuple[int, int, int]] | None:
        """The digits that an axis moves along: number of the digit (-1: none), steps of it, and how often."""
        if size == 1:
            return []
        if stride == 0:
            return [(-1, 0, size)]
        parts = []
        while size > 1:
            fitting = [
                (digit.stride, number)
                for number, digit in enumerate(self.digits)
                if 0 < digit.stride <= stride < digit.stride * digit.size and stride % digit.stride == 0
            ]
            if not fitting:
                return None
            _, number = max(fitting)
            digit = self.digits[number]
            steps = stride // digit.stride
            if (size - 1) * steps < digit.size:
                parts.append((number, steps, size))
                break
            taken, uneven = divmod(digit.size, steps)
            if uneven or size % taken:
                return None
            parts.append((number, steps, taken))
            size //= taken
            stride *= taken
        return parts

    def copied(self, source: torch.Tensor, copy: torch.Tensor) -> Memory | None:
        """The memory of a copy that has the elements of ``source`` in their order; None if that is not known.

        ``source`` is in this memory. The copy may have another shape.
        """
        axes = self.axes_of(source)
        if axes is None:
            return None
        strides: Sequence[int]
        if copy.shape == source.shape:
            strides = copy.stride()
        elif copy.is_contiguous():
            strides = _contiguous(source.shape)
        else:
            return None
        digits = []
        for runs, stride in zip(axes.runs, strides, strict=True):
            step = stride
            for run in runs:
                digits.append(Digit(run.size, step, run.axis, run.places))
                step *= run.size
        return Memory(int(copy.storage_offset()), tuple(digits), axes.first) if _are_apart(digits) else None


def _contiguous(shape: Sequence[int]) -> list[int]:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * size)
    return strides[::-1] if len(shape) else []


def _are_apart(digits: Sequence[Digit]) -> bool:
    """True if no two values of these digits lie at one place in memory."""
    behind = 1
    for digit in sorted(digits, key=lambda digit: digit.stride):
        if digit.stride < behind:
            return False
        behind = digit.stride * digit.size
    return True
