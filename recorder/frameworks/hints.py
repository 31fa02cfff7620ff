"""Describe an unexpected output of a layer to the user, and propose a layout that fits it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from recorder.frameworks.outputs import AxesError, SpikeOutput, Step, are_steps

# Limits on depth of nesting, number of places, and number of values that are looked at for a proposal.
_DEPTH, _TRIED, _CHECKED_VALUES = 4, 64, 2**20
_PATTERNS = ("n ...", "t n ...", "...")


def describe(output: object, depth: int = 3) -> str:
    """Text that describes an output of a module."""
    if isinstance(output, torch.Tensor):
        return f"a tensor of shape {list(output.shape)}"
    if depth and isinstance(output, (tuple, list)):
        shown = [describe(item, depth - 1) for item in output[:4]] + ["…"] * (len(output) > 4)
        return f"a {type(output).__name__} of {len(output)} ({', '.join(shown)})"
    if depth and isinstance(output, Mapping):
        items = itertools.islice(output.items(), 4)
        shown = [f"{key!r}: {describe(item, depth - 1)}" for key, item in items] + ["…"] * (len(output) > 4)
        return f"a {type(output).__name__} of {len(output)} ({', '.join(shown)})"
    return f"an object of type {type(output).__name__}"


def propose(output: object, expected: SpikeOutput) -> SpikeOutput | None:
    """Propose a layout for an output that ``expected`` does not fit; None if nothing in it can be spikes.

    A tensor of only zeros and ones is preferred, and among these the layout that is nearest to ``expected``.
    """
    fitting: list[SpikeOutput] = []
    for path, _ in itertools.islice(_places(output, (), _DEPTH), _TRIED):
        for axes in (expected.axes, *_PATTERNS):
            where = SpikeOutput(axes, _as_item(path), expected.batch_size, expected.num_steps)
            spikes = _read(where, output)
            if spikes is not None:
                # Without sizes, if no bracket needs them.
                if not any(len(axis) > 1 for axis in where.pattern.axes):
                    where = SpikeOutput(axes, where.item)
                if _are_spikes(spikes):
                    return where
                fitting.append(where)
                break
    return fitting[0] if fitting else None


def _as_item(path: tuple[Step, ...]) -> Any:
    if not path:
        return None
    if len(path) == 1 and isinstance(path[0], int):
        return path[0]
    if all(isinstance(step, str) and "." not in step for step in path):
        joined = ".".join(map(str, path))
        return path if joined == "first" else joined
    return path


def _read(where: SpikeOutput, output: object) -> torch.Tensor | None:
    try:
        spikes = where.pick(output)
        if spikes is None or spikes.layout is not torch.strided:
            return None
        return where.arrange(spikes.detach())
    except (AxesError, RuntimeError):
        return None


def _are_spikes(spikes: torch.Tensor) -> bool:
    if spikes.is_meta or spikes.numel() == 0 or spikes.is_complex():
        return False
    some = spikes.reshape(-1)[:_CHECKED_VALUES]
    return bool(((some == 0) | (some == 1)).all())


def _places(output: object, path: tuple[Step, ...], depth: int) -> Iterator[tuple[tuple[Step, ...], object]]:
    """Paths to everything that could be spikes: tensors, and lists of tensors of one shape."""
    if isinstance(output, torch.Tensor):
        yield path, output
        return
    inside = list(_items(output)) if depth else []
    for step, item in inside:
        yield from _places(item, (*path, step), depth - 1)
    # The list as a whole comes after its tensors, because most tuples are spikes and states, and not steps.
    if are_steps(output):
        yield path, output


def _items(output: object) -> Iterator[tuple[Step, object]]:
    names = getattr(output, "_fields", None)
    if isinstance(output, Mapping):
        yield from ((key, item) for key, item in output.items() if isinstance(key, (int, str)) and key != "")
    elif isinstance(output, tuple) and names is not None:
        yield from zip(names, output, strict=True)
    elif isinstance(output, (tuple, list)):
        yield from enumerate(output)
    elif is_dataclass(output) and not isinstance(output, type):
        yield from ((each.name, getattr(output, each.name, None)) for each in fields(output))
    elif type(output).__module__ != "builtins" and not isinstance(output, type):
        yield from getattr(output, "__dict__", {}).items()
