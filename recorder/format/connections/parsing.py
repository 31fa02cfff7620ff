"""Parse the connections in a stored commit record; nothing of them is trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from recorder.format.connections.records import (
    MAX_FACTORS,
    MAX_FAN_OUT,
    MAX_STORED_CHARACTERS,
    Connections,
    FanOut,
    InputReader,
    Reader,
)

MAX_CONNECTIONS: Final = 100_000
MAX_OPERATIONS: Final = 2**62
_MAX_AXES: Final = 16
_MAX_NAME: Final = 1024
_MAX_LENGTH: Final = 2**34

Problem = Callable[[str, str], None]


class _MalformedError(ValueError):
    """Something in the connections is not as it must be; its text is a place and what is wrong there."""


def parse_connections(value: Any, problem: Problem) -> Connections | None:
    """Parse the field ``connections`` of a commit record.

    Parameters
    ----------
    value : JSON value
    problem : callable
        Told the first thing that is wrong, as a place and what is wrong with it.

    Returns
    -------
    Connections or None
        None if anything is wrong.
    """
    try:
        fields = _object(value, "connections")
        layers = _object(fields.get("layers"), "connections.layers")
        _limit(layers, "connections.layers")
        inputs = _list(fields.get("inputs"), "connections.inputs", MAX_CONNECTIONS)
        uncovered = _object(fields.get("uncovered"), "connections.uncovered")
        _limit(uncovered, "connections.uncovered")
        return Connections(
            layers={
                _name(name, "connections.layers"): tuple(
                    _reader(each, f"connections.layers[{number}][{place}]")
                    for place, each in enumerate(
                        _list(readers, f"connections.layers[{number}]", MAX_CONNECTIONS)
                    )
                )
                for number, (name, readers) in enumerate(layers.items())
            },
            inputs=tuple(_input(each, f"connections.inputs[{place}]") for place, each in enumerate(inputs)),
            uncovered={
                _name(name, "connections.uncovered"): _name(why, "connections.uncovered")
                for name, why in uncovered.items()
            },
        )
    except _MalformedError as error:
        place, _, what = str(error).partition(" ")
        problem(place, what)
        return None


def _reader(value: Any, place: str) -> Reader:
    fields = _object(value, place)
    kept = fields.get("nonzero_fan_out")
    return Reader(
        name=_name(fields.get("name"), f"{place}.name"),
        kind=_name(fields.get("kind"), f"{place}.kind"),
        weight_shape=_integers(fields.get("weight_shape"), f"{place}.weight_shape", 1),
        stride=_integers(fields.get("stride"), f"{place}.stride", 1),
        padding=tuple(
            _pair(each, f"{place}.padding") for each in _list(fields.get("padding"), f"{place}.padding")
        ),
        padding_mode=_name(fields.get("padding_mode"), f"{place}.padding_mode"),
        dilation=_integers(fields.get("dilation"), f"{place}.dilation", 1),
        groups=_integer(fields.get("groups"), f"{place}.groups", 1),
        fan_out=_fan_out(fields.get("fan_out"), f"{place}.fan_out"),
        nonzero_fan_out=None if kept is None else _fan_out(kept, f"{place}.nonzero_fan_out"),
    )


def _fan_out(value: Any, place: str) -> FanOut:
    if not isinstance(value, dict):
        return FanOut(_integer(value, place, 0, MAX_FAN_OUT))
    if "stored" in value:
        stored = value["stored"]
        if not isinstance(stored, str) or len(stored) > MAX_STORED_CHARACTERS or not stored.isascii():
            raise _MalformedError(
                f"{place}.stored is no base64 of at most {MAX_STORED_CHARACTERS} characters"
            )
        if not stored:
            raise _MalformedError(f"{place}.stored is empty")
        return FanOut(stored=stored)
    times = _integer(value.get("times"), f"{place}.times", 0, MAX_FAN_OUT)
    along = tuple(
        None if each is None else _integers(each, f"{place}.along", 0, MAX_FAN_OUT, MAX_FACTORS)
        for each in _list(value.get("along"), f"{place}.along")
    )
    most = times * math.prod(max(each, default=0) for each in along if each is not None)
    if most > MAX_FAN_OUT:
        raise _MalformedError(f"{place} makes a fan-out of {most}, expected at most {MAX_FAN_OUT}")
    return FanOut(times, along)


def _input(value: Any, place: str) -> InputReader:
    fields = _object(value, place)
    is_binary = fields.get("is_binary")
    if not isinstance(is_binary, bool):
        raise _MalformedError(f"{place}.is_binary is {_shown(is_binary)}, expected true or false")
    return InputReader(
        name=_name(fields.get("name"), f"{place}.name"),
        kind=_name(fields.get("kind"), f"{place}.kind"),
        operations=_integer(fields.get("operations"), f"{place}.operations", 0, MAX_OPERATIONS),
        nonzero_operations=_integer(
            fields.get("nonzero_operations"), f"{place}.nonzero_operations", 0, MAX_OPERATIONS
        ),
        frames=_integer(fields.get("frames"), f"{place}.frames", 1, MAX_OPERATIONS),
        is_binary=is_binary,
    )


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _MalformedError(f"{place} is {_shown(value)}, expected an object")
    return value


def _limit(value: dict[str, Any], place: str) -> None:
    if len(value) > MAX_CONNECTIONS:
        raise _MalformedError(f"{place} has {len(value)} entries, at most {MAX_CONNECTIONS} are read")


def _list(value: Any, place: str, most: int = _MAX_AXES) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise _MalformedError(f"{place} is {_shown(value)}, expected a list of at most {most} items")
    return value


def _name(value: Any, place: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_NAME or not _is_text(value):
        raise _MalformedError(f"{place} is {_shown(value)}, expected text of at most {_MAX_NAME} characters")
    return value


def _is_text(value: str) -> bool:
    """As `recorder.format.columns.is_text`, which stands above this room."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _integer(value: Any, place: str, least: int, most: int = _MAX_LENGTH) -> int:
    if type(value) is not int or not least <= value <= most:
        raise _MalformedError(f"{place} is {_shown(value)}, expected {least} to {most}")
    return value


def _integers(
    value: Any, place: str, least: int, most: int = _MAX_LENGTH, length: int = _MAX_AXES
) -> tuple[int, ...]:
    return tuple(_integer(each, place, least, most) for each in _list(value, place, length))


def _pair(value: Any, place: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise _MalformedError(f"{place} is {_shown(value)}, expected numbers before and behind")
    return _integer(value[0], place, 0), _integer(value[1], place, 0)


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:79] + "…"
