"""Patterns say which axes of a tensor are steps, samples and neurons, in the notation of einops.

Names are separated by blanks: ``t`` is the axis of steps, ``n`` that of samples; any other name is a neuron
axis, and ``...`` stands for all remaining neuron axes. Brackets hold axes that are folded into one, the
slower first. Neuron axes keep their order.

    "t c n ..."    tensor [T, C, N, H, W]  ->  [T, N, C, H, W]
    "(n t) ..."    tensor [N*T, C]         ->  [T, N, C]
    "n ... t"      tensor [N, C, T]        ->  [T, N, C]
    "..."          tensor [C, H, W]        ->  [1, C, H, W]     one step, without an axis of steps

Tensors of torch and arrays of numpy are arranged alike; torch is not needed to import this.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

# A tensor of torch, which need not be installed where patterns are.
Tensor = TypeVar("Tensor", bound=Any)

STEPS, SAMPLES, REST = "t", "n", "..."
EXAMPLES = ("n ...", "t n ...", "n t ...", "n ... t", "(t n) ...", "(n t) ...", "t c n ...", "...", "t ...")

# Older names of patterns.
_SYNONYMS = {"N": "n ...", "TN": "t n ...", "NT": "n t ...", "N*T": "(n t) ..."}
_TOKEN = re.compile(r"\(([^()]*)\)|([^\s()]+)|\s+")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SHOWN = {STEPS: "T", SAMPLES: "N", REST: "*neuron"}


class AxesError(ValueError):
    """A tensor does not have the axes that its pattern says."""


@dataclass(frozen=True)
class Pattern:
    """A parsed pattern; made by `parse_pattern`.

    Attributes
    ----------
    axes : tuple of tuple of str
        Names that are folded into each axis of the tensor; for most axes this is one name. ``("...",)``
        stands for any number of axes.
    """

    axes: tuple[tuple[str, ...], ...]

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """All names, in order."""
        return tuple(name for axis in self.axes for name in axis)

    @functools.cached_property
    def has_steps(self) -> bool:
        """True if there is an axis of steps; otherwise the tensor is one step."""
        return STEPS in self.names

    @functools.cached_property
    def begins_with_steps(self) -> bool:
        """True if the first axis is steps and nothing else, so that a list of steps can be stacked to it."""
        return self.axes[0] == (STEPS,)

    @functools.cached_property
    def is_ordered(self) -> bool:
        """True if the tensor is ``[N, *neuron]`` or ``[T, N, *neuron]`` already."""
        return self.axes[: self.has_steps + 1] == ((STEPS,), (SAMPLES,))[not self.has_steps :] and all(
            len(axis) == 1 for axis in self.axes
        )

    def __str__(self) -> str:
        return " ".join(axis[0] if len(axis) == 1 else f"({' '.join(axis)})" for axis in self.axes)

    def show_shape(self) -> str:
        """Text that shows the pattern as a shape, such as ``[T, N, *neuron]``."""
        return f"[{', '.join('*'.join(_SHOWN.get(name, name) for name in axis) for axis in self.axes)}]"

    @functools.cached_property
    def ndims(self) -> tuple[int, float]:
        """Least and largest number of axes of a tensor with this pattern."""
        return (len(self.axes) - 1, math.inf) if REST in self.names else (len(self.axes), len(self.axes))

    def without_samples(self) -> Pattern:
        """The same pattern without the axis of samples."""
        axes = (tuple(name for name in axis if name != SAMPLES) for axis in self.axes)
        return Pattern(tuple(axis for axis in axes if axis))

    def with_steps_first(self) -> Pattern:
        """Pattern of a list that has a tensor of this pattern, without steps, for each step."""
        axes = (tuple(name for name in axis if name != STEPS) for axis in self.axes)
        return Pattern(((STEPS,), *(axis for axis in axes if axis)))

    def unknown_of(self, known: Iterable[str]) -> list[str]:
        """Names of unknown size in the first bracket that has more than one of them; empty if none has."""
        for axis in self.axes:
            unknown = [name for name in axis if name not in known]
            if len(axis) > 1 and len(unknown) > 1:
                return unknown
        return []

    def arrange(self, tensor: Tensor, sizes: Mapping[str, int]) -> Tensor:
        """View a tensor as ``[T, N, *neuron]``; as ``[N, *neuron]`` if the pattern has no steps.

        Parameters
        ----------
        tensor : tensor of torch
            Tensor with the axes of this pattern.
        sizes : mapping
            Name → size of the axes whose size is known. Only brackets use them.

        Raises
        ------
        AxesError
            If the tensor has other axes.
        """
        least, most = self.ndims
        if not least <= tensor.ndim <= most:
            raise AxesError(f"{tensor.ndim} axes")
        if self.is_ordered:
            return tensor
        brackets, order = self._plan(tensor.ndim)
        # The last bracket is split first, so that the places of the others do not change.
        for place, names in brackets:
            shape = tensor.shape
            split = _split(shape[place], names, sizes)
            tensor = tensor.view(*shape[:place], *split, *shape[place + 1 :])
        arranged: Tensor = tensor.permute(order)
        if SAMPLES not in self.names:
            arranged = arranged.unsqueeze(int(self.has_steps))
        return arranged

    def axes_of(self, ndim: int) -> list[int]:
        """Axes of an array with ``ndim`` axes, none of them folded, as ``[T, N, *neuron]``.

        Where there is no axis of steps or samples, -1 stands for it.

        Examples
        --------
        >>> parse_pattern("t ... n").axes_of(4), parse_pattern("c t").axes_of(2)
        ([0, 3, 1, 2], [1, -1, 0])
        """
        _, order = self._plan(ndim)
        left = iter(order)
        return [*(next(left) if name in self.names else -1 for name in (STEPS, SAMPLES)), *left]

    def arrange_array(self, array: NDArray[Any]) -> NDArray[Any]:
        """View an array of numpy, of whose axes none are folded, as ``[T, N, *neuron]``."""
        _, order = self._plan(array.ndim)
        arranged = array.transpose(order)
        arranged = arranged if self.has_steps else arranged[None]
        return arranged if SAMPLES in self.names else arranged[:, None]

    @functools.lru_cache  # noqa: B019 - patterns are few, and live as long as the process
    def _plan(self, ndim: int) -> tuple[list[tuple[int, tuple[str, ...]]], list[int]]:
        """Brackets with their places, last first; and the order in which to permute the unfolded axes."""
        rest = ndim - len(self.axes) + 1
        axes = [same for axis in self.axes for same in ([axis] * rest if axis == (REST,) else [axis])]
        brackets = [(place, axis) for place, axis in enumerate(axes) if len(axis) > 1]
        names = [name for axis in axes for name in axis]
        order = [names.index(name) for name in (STEPS, SAMPLES) if name in names]
        order += [place for place in range(len(names)) if place not in order]
        return brackets[::-1], order


def _split(length: int, axis: tuple[str, ...], sizes: Mapping[str, int]) -> list[int]:
    known = math.prod(sizes[name] for name in axis if name in sizes)
    left = length // known
    split = [sizes.get(name, left) for name in axis]
    if math.prod(split) != length:
        raise AxesError(f"an axis of {length}, which is no multiple of {known}")
    return split


@functools.lru_cache
def parse_pattern(text: str) -> Pattern:
    """Parse a pattern such as ``"t n ..."``, or one of the synonyms N, TN, NT and N*T.

    Raises
    ------
    ValueError
        If the text is no pattern. The message says what is wrong, and shows examples.
    """
    pattern = _SYNONYMS.get(text, text)
    axes: list[tuple[str, ...]] = []
    end = 0
    for token in _TOKEN.finditer(pattern):
        if token.start() != end:
            break
        end = token.end()
        bracket, name = token.groups()
        if bracket is not None:
            axes.append(tuple(bracket.split()))
        elif name is not None:
            axes.append((name,))
    problem = "brackets do not match" if end != len(pattern) else _problem(axes)
    if problem:
        raise ValueError(
            f"axes is {text!r}: {problem}. Expected names separated by blanks (t steps, n samples, other "
            f"letters and ... neurons, brackets for what is folded), such as {', '.join(map(repr, EXAMPLES))}"
        )
    return Pattern(tuple(axes))


def _problem(axes: list[tuple[str, ...]]) -> str:
    names = [name for axis in axes for name in axis]
    if not names:
        return "no axis is named"
    for axis in axes:
        if len(axis) == 0:
            return "a bracket is empty"
        if len(axis) > 1 and REST in axis:
            return "'...' is in a bracket"
    for name in names:
        if name != REST and not _NAME.fullmatch(name):
            return f"{name!r} is no name in small letters"
        if names.count(name) > 1:
            return f"{name!r} occurs twice"
    return ""
