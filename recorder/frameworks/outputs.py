"""Describe the layout of a spiking module's output, and bring every output to one form.

Libraries order the axes of time and batch differently, and some put out tuples. The output of every spiking
module becomes a tensor ``[T, N, *neuron]``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch

from recorder.patterns import SAMPLES, STEPS, AxesError, Pattern, parse_pattern

Step: TypeAlias = int | str


@dataclass(frozen=True)
class SpikeOutput:
    """The layout of a module's output: the item that holds the spikes, and the axes of steps and samples.

    The output is the tensor of spikes, or an object that contains it: a tuple, a mapping, an object with
    attributes (``item``). Some axes of this tensor are steps (T) and samples (N); all others are neurons
    (``axes``). `pick` takes the tensor out of an output, and `arrange` views it as ``[T, N, *neuron]``.

    Nothing is guessed: a tensor is never indexed as if it were a tuple, and an output that does not have the
    described form is an error.

    Parameters
    ----------
    axes : str
        Axes of the tensor of spikes, in the notation of einops: names separated by blanks. ``t`` is the axis
        of steps, ``n`` that of samples; other names and ``...`` are neuron axes. Brackets hold axes that are
        folded into one, the slower first. For example:

        - ``"n ..."``: one step of a batch;
        - ``"t n ..."``, ``"n t ..."``, ``"n ... t"``: several steps of a batch;
        - ``"(n t) ..."``: steps and samples in one axis, all steps of the first sample first;
        - ``"t c n ..."``: a neuron axis between steps and samples;
        - ``"..."``, ``"t ..."``: one or several steps of one sample, without an axis of samples.

        ``"N"``, ``"TN"``, ``"NT"`` and ``"N*T"`` are older names of ``"n ..."``, ``"t n ..."``, ``"n t ..."``
        and ``"(n t) ..."``.
    item : int, str, tuple of these, None or "first"
        Place of the tensor of spikes in the output:

        - ``None``: the output itself;
        - an int: this item of a tuple or list;
        - text: the key or attribute of this name; with dots, such as ``"logits.spikes"``, names in names;
        - a tuple such as ``("out", 0)``: a path of keys, attributes and items;
        - ``"first"``: the output itself if it is a tensor, or else the first item of a tuple or list.

        If ``axes`` begin with ``t``, the place may also hold a list or tuple of T tensors, one for each step
        (not with ``"first"``, which takes the first tensor).
    batch_size, num_steps : int or None
        Sizes of N and T. In each bracket of ``axes`` all sizes but one must be known; not used otherwise.

    Raises
    ------
    ValueError
        If a parameter has another value than these.

    Examples
    --------
    The layout of a module that puts out ``(membrane, spikes)``, both of shape ``[N, T, *neuron]``:

    >>> SpikeOutput("n t ...", item=1)
    SpikeOutput('n t ...', item=1)
    """

    # Not compared, because one pattern may have two spellings; `pattern` is compared.
    axes: str = field(default="n ...", compare=False)
    item: Step | tuple[Step, ...] | Literal["first"] | None = "first"
    batch_size: int | None = None
    num_steps: int | None = None
    pattern: Pattern = field(init=False)
    # These are derived once, because the hooks need them at each call.
    has_steps: bool = field(init=False, compare=False)
    is_ordered: bool = field(init=False, compare=False)
    least_axes: int = field(init=False, compare=False)
    most_axes: float = field(init=False, compare=False)
    path: tuple[Step, ...] = field(init=False, compare=False)
    sizes: Mapping[str, int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.axes, str):
            raise TypeError(f"axes is a {type(self.axes).__name__}, expected text such as 't n ...'")
        pattern = parse_pattern(self.axes)
        sizes = {}
        for name, what, size in (
            (SAMPLES, "batch_size", self.batch_size),
            (STEPS, "num_steps", self.num_steps),
        ):
            if size is not None and size < 1:
                raise ValueError(f"{what} is {size}, expected at least 1, or None if it is not known")
            if size is not None:
                sizes[name] = size
        unknown = pattern.unknown_of(sizes)
        if unknown:
            raise ValueError(
                f"axes {self.axes!r} cannot be unfolded without sizes: of {' and '.join(unknown)} all but "
                "one must be known: give batch_size (n), num_steps (t) or both"
            )
        derived = {
            "pattern": pattern,
            "has_steps": pattern.has_steps,
            "is_ordered": pattern.is_ordered,
            "least_axes": pattern.ndims[0],
            "most_axes": pattern.ndims[1],
            "path": _parse_item(self.item),
            "sizes": sizes,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        fields = [repr(self.axes)]
        fields += [] if self.item == "first" else [f"item={self.item!r}"]
        fields += [] if self.batch_size is None else [f"batch_size={self.batch_size}"]
        fields += [] if self.num_steps is None else [f"num_steps={self.num_steps}"]
        return f"SpikeOutput({', '.join(fields)})"

    def __str__(self) -> str:
        which = "" if self.item is None else f"a tuple whose item {self.item} is "
        which = "(a tuple whose first item is) " if self.item == "first" else which
        if any(isinstance(step, str) for step in self.path):
            which = f"something whose {'.'.join(map(str, self.path))} is "
        sizes = f" with N = {self.batch_size or 'any'}, T = {self.num_steps or 'any'}"
        is_folded = any(len(axis) > 1 for axis in self.pattern.axes)
        return f"{which}a tensor of shape {self.pattern.show_shape()}" + (sizes if is_folded else "")

    def without_batch(self) -> SpikeOutput:
        """The same layout without the axis of samples."""
        return _without_batch(self)

    def pick(self, output: object) -> torch.Tensor | None:
        """Tensor of spikes in an output, unchanged; None if the output does not have the described form."""
        if isinstance(output, torch.Tensor):
            return None if self.path else output
        if self.item == "first":
            first = output[0] if isinstance(output, (tuple, list)) and output else None
            return first if isinstance(first, torch.Tensor) else None
        found = follow(output, self.path)
        if isinstance(found, torch.Tensor):
            return found
        return torch.stack(tuple(found)) if self.pattern.begins_with_steps and are_steps(found) else None

    def arrange(self, spikes: torch.Tensor) -> torch.Tensor:
        """View a picked tensor as ``[T, N, *neuron]``; as ``[N, *neuron]`` if the layout has no steps.

        Raises
        ------
        AxesError
            If the tensor has other axes.
        """
        return self.pattern.arrange(spikes, self.sizes)


@functools.lru_cache
def _without_batch(where: SpikeOutput) -> SpikeOutput:
    pattern = where.pattern.without_samples()
    return SpikeOutput(str(pattern) or "...", where.item, None, where.num_steps)


def _parse_item(item: Any) -> tuple[Step, ...]:
    if item in (None, "first"):
        return ()
    names = item.split(".") if isinstance(item, str) else item
    path: tuple[Any, ...] = tuple(names) if isinstance(names, (list, tuple)) else (item,)
    if isinstance(item, list) or not path or not all(map(_is_step, path)):
        raise ValueError(
            f"item is {item!r}, expected None, 'first', an index of a tuple, from 0, a key or attribute such "
            "as 'logits.spikes', or a path of these such as ('out', 0)"
        )
    return path


def _is_step(step: Any) -> bool:
    return step >= 0 if type(step) is int else isinstance(step, str) and step != ""


def follow(output: object, path: tuple[Step, ...]) -> Any:
    """Object at the end of a path of keys, attributes and items; None if the path leads nowhere."""
    found: Any = output
    for step in path:
        if isinstance(found, torch.Tensor):
            return None  # the path must not lead into a tensor, though it has attributes and items
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(step, str):
            found = getattr(found, step, None)
        elif isinstance(found, (tuple, list)) and step < len(found):
            found = found[step]
        else:
            return None
    return found


def are_steps(output: object) -> bool:
    """True for a list or tuple of tensors of one shape, which may be one tensor for each step."""
    return (
        isinstance(output, (tuple, list))
        and bool(output)
        and all(isinstance(item, torch.Tensor) for item in output)
        and len({item.shape for item in output}) == 1
    )


Layout: TypeAlias = SpikeOutput | Callable[[Any], SpikeOutput]

__all__ = ["AxesError", "Layout", "SpikeOutput", "Step", "are_steps", "follow"]
