"""Parts of a recording, and values, as they are written on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from analysis.display import printable
from analysis.recording import Recording

_INDEX = re.compile(
    r"\s*((?P<number>-?\d+)|\[(?P<several>[\d\s,-]+)\]|(?P<range>[^,\[\]]*:[^,\[\]]*?))\s*(?=,|$)"
)

_RANGES: Final = {
    "steps": ("A:B", "Only steps A to B, B exclusive; either may be left out."),
    "time": ("A:B", "Only these steps of each trial, counted from its first."),
    "trials": ("A:B|N,N", "Only these trials."),
    "samples": ("A:B|N,N", "Only these samples of each batch."),
    "neurons": ("INDICES", "Only these neurons, by an index along each axis, as in :,::2,[0,3]."),
    "channels": ("A:B|N,N", "Only these channels."),
}
# Names of the options that say which part is meant.
CHOSEN: Final = ("layers", "recordings", "conditions", *_RANGES)


def chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which part of a recording is meant; their names are those of `select`."""
    options = [
        click.option("--layer", "layers", multiple=True, help="Only this layer; may be given several times."),
        click.option("--recording", "recordings", multiple=True, help="Of several, only this one; likewise."),
        click.option(
            "--where",
            "conditions",
            multiple=True,
            metavar="COLUMN=VALUE",
            help="Only samples with this value, such as epoch=3; likewise. A value is JSON, or else text.",
        ),
        *(
            click.option(f"--{name}", default="", metavar=metavar, help=text)
            for name, (metavar, text) in _RANGES.items()
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def select(
    recording: Recording,
    *,
    layers: Sequence[str] = (),
    recordings: Sequence[str] = (),
    conditions: Sequence[str] = (),
    steps: str = "",
    time: str = "",
    trials: str = "",
    samples: str = "",
    neurons: str = "",
    channels: str = "",
) -> Recording:
    """The part of a recording that options say; empty where one is left out.

    Raises
    ------
    click.UsageError
        If an option makes no sense, or nothing of what was recorded is left.
    """
    where = {
        name: [each for value in values for each in (value if isinstance(value, list) else [value])]
        for name, values in parse_settings(conditions, "where").items()
    }
    whole = recording.select(
        layers=layers or None,
        neurons=parse_indices(neurons) if neurons else None,
        channels=parse_numbers(channels, "channels") if channels else None,
        recordings=recordings or None,
    )
    frames: dict[str, Any] = {
        "steps": parse_range(steps) if steps else None,
        "time": parse_range(time, "time") if time else None,
        "trials": parse_numbers(trials, "trials") if trials else None,
        "samples": parse_numbers(samples, "samples") if samples else None,
        "where": where or None,
    }
    given = {name: chosen for name, chosen in frames.items() if chosen is not None}
    narrowed = whole.select(**given)
    if given and not _has_frames(narrowed) and _has_frames(whole):
        texts = {"steps": steps, "time": time, "trials": trials, "samples": samples}
        empty = [name for name in given if not _has_frames(whole.select(**{name: given[name]}))]
        said = [f"--{name} {texts.get(name) or ' --where '.join(conditions)}" for name in empty or given]
        raise click.UsageError(
            f"nothing is left of what was recorded by {printable(' and '.join(said))}: there are "
            f"{whole.steps} steps and {_trials(whole)} trials"
        )
    return narrowed


def _has_frames(recording: Recording) -> bool:
    return any(layer.frames for layer in recording.layers.values())


def _trials(recording: Recording) -> int:
    return max(source.trials.trials for layer in recording.layers.values() for source in layer.sources)


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


def parse_value(text: str, *, may_be_null: bool = False) -> Any:
    """A value by JSON, such as 3, 0.5, true, "3", [1, 2], or null where it may be; anything else is text."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text
    is_text = isinstance(value, dict) or (value is None and not may_be_null)
    return text if is_text else value


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def parse_settings(
    settings: Sequence[str], option: str, *, may_be_null: bool = False
) -> dict[str, list[Any]]:
    """Values by name, of several ``name=value``."""
    parsed: dict[str, list[Any]] = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        if not sign or not name.strip():
            raise click.BadParameter(
                f"{setting!r} gives no value; expected name=value", param_hint=f"--{option}"
            )
        parsed.setdefault(name.strip(), []).append(parse_value(value.strip(), may_be_null=may_be_null))
    return parsed


def need_one_layer(recording: Recording, words: Sequence[str], per: str) -> None:
    """Refuse to tell neurons or channels apart in several layers."""
    if {"neuron", "channel"} & set(words) and len(recording) != 1:
        names = ", ".join(printable(repr(name)) for name in recording)
        raise click.UsageError(
            f"--per {per} needs one layer: choose it with --layer NAME. The layers are: {names}"
        )
