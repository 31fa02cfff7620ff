"""Parts of a recording, and values, as they are written on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import click

from analysis.display import printable
from analysis.recording import Recording

_INDEX = re.compile(
    r"\s*((?P<number>-?\d+)|\[(?P<several>[\d\s,-]+)\]|(?P<range>[^,\[\]]*:[^,\[\]]*?))\s*(?=,|$)"
)


def parse_range(text: str, what: str = "steps") -> slice:
    """The slice that ``A:B`` stands for; ``what`` is the name of the option."""
    first, colon, last = text.partition(":")
    try:
        bounds = [int(bound) if bound.strip() else None for bound in (first, last)]
    except ValueError:
        colon = ""
    if not colon:
        raise click.BadParameter(
            f"{text!r} is no range of {what}; expected A:B, such as 1000:2000, 1000: or :2000",
            param_hint=f"--{what}",
        )
    begin, end = bounds
    if begin is not None and end is not None and 0 <= end <= begin:
        raise click.BadParameter(
            f"{text!r} holds no {what.removesuffix('s')}; expected A below B", param_hint=f"--{what}"
        )
    return slice(begin, end)


def parse_numbers(text: str, what: str) -> slice | list[int]:
    """The numbers that ``3``, ``0,2,5`` or ``A:B`` stand for, the last with or without a stride."""
    try:
        if ":" in text:
            return _slice(text)
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{text!r} are no {what}; expected numbers such as 0,2,5, or a range such as 0:10 or ::2",
            param_hint=f"--{what}",
        ) from None


def parse_indices(text: str) -> tuple[Any, ...]:
    """Indices along each axis of neurons, as in ``numpy.s_[...]``: ``:,::2,[0,3]``."""
    chosen: list[Any] = []
    place = 0
    while place <= len(text):
        found = _INDEX.match(text, place)
        if found is None:
            raise click.BadParameter(
                f"{text!r} are no neurons; expected an index, a range or [indices] for each axis, such as "
                "0:10 or :,::2,[0,3]",
                param_hint="--neurons",
            )
        if found["number"]:
            chosen.append(int(found["number"]))
        elif found["several"]:
            chosen.append(parse_numbers(found["several"], "neurons"))
        else:
            try:
                chosen.append(_slice(found["range"]))
            except ValueError:
                raise click.BadParameter(f"{found['range']!r} is no range", param_hint="--neurons") from None
        place = found.end() + 1
    return tuple(chosen)


def _slice(text: str) -> slice:
    bounds = [int(bound) if bound.strip() else None for bound in text.split(":")]
    if len(bounds) > 3 or bounds[2:] == [0]:
        raise ValueError(text)
    return slice(*bounds)


def parse_value(text: str) -> Any:
    """A value by JSON, such as 3, 0.5, true, "3" or [1, 2]; anything else is text."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text
    return text if value is None or isinstance(value, dict) else value


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def parse_settings(settings: Sequence[str], option: str) -> dict[str, list[Any]]:
    """Values by name, of several ``name=value``."""
    parsed: dict[str, list[Any]] = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        if not sign or not name.strip():
            raise click.BadParameter(
                f"{setting!r} gives no value; expected name=value", param_hint=f"--{option}"
            )
        parsed.setdefault(name.strip(), []).append(parse_value(value.strip()))
    return parsed


def need_one_layer(recording: Recording, words: Sequence[str], per: str) -> None:
    """Refuse to tell neurons or channels apart in several layers."""
    if {"neuron", "channel"} & set(words) and len(recording) != 1:
        names = ", ".join(printable(repr(name)) for name in recording)
        raise click.UsageError(
            f"--per {per} needs one layer: choose it with --layer NAME. The layers are: {names}"
        )
