"""Typed access to the JSON objects of a commit record, which nobody trusts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recorder.format.columns import is_text
from recorder.format.record.metadata import MAX_NAME_LENGTH

_MAX_PROBLEMS = 100


class Fields:
    """Typed access to a JSON object. Problems are collected, each with its place, and not raised.

    A thousand recordings have a million fields, and nearly all are as they should be: those are let pass
    first, before anything is written about them.
    """

    def __init__(self, record: Mapping[str, Any], place: str, problems: list[str] | None = None) -> None:
        self.record = record
        self.place = place
        self.problems: list[str] = [] if problems is None else problems

    def problem(self, key: str, what: str) -> None:
        """Note that the value of a key is not as it should be."""
        # A stranger's document may have millions of them.
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(f"{self.place}{key} {what}")

    def take(self, key: str, kind: type, default: Any) -> Any:
        """The value of a key, which must be of a type; the default otherwise."""
        value = self.record.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.problem(
                key, f"is {short(value) if key in self.record else 'missing'}, expected {kind.__name__}"
            )
            return default
        return value

    def text(self, key: str) -> str:
        """The text of a key; empty where it is no text."""
        value: str = self.take(key, str, "")
        if value.isascii() and len(value) <= MAX_NAME_LENGTH:
            return value
        if len(value) > MAX_NAME_LENGTH:
            self.problem(key, f"has {len(value)} characters, at most {MAX_NAME_LENGTH} are read")
        if not is_text(value):
            self.problem(key, f"is {short(value)}, which holds half a character")
        return value

    def integer(self, key: str, least: int, most: int) -> int:
        """The whole number of a key, within limits; ``least`` where it is none."""
        value = self.record.get(key)
        if type(value) is int and least <= value <= most:
            return value
        return self._within(key, self.take(key, int, None), least, most)

    def number(self, key: str, most: float) -> float:
        """The number of a key, from 0 to ``most``; 0 where it is none."""
        value = self.record.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            self.problem(key, f"is {short(value)}, expected a number from 0 to {most}")
            return 0.0
        return float(value)

    def items(self, key: str, most: int) -> list[Any]:
        """The list of a key; empty where it is no list, or too long."""
        value: list[Any] = self.take(key, list, [])
        if len(value) > most:
            self.problem(key, f"has {len(value)} items, at most {most} are read")
            return []
        return value

    def item_integer(self, key: str, index: int, value: Any, least: int, most: int) -> int:
        """An item of the list of a key, as `integer`."""
        if type(value) is int and least <= value <= most:
            return value
        place = f"{key}[{index}]"
        if not isinstance(value, int) or isinstance(value, bool):
            self.problem(place, f"is {short(value)}, expected int")
            return least
        return self._within(place, value, least, most)

    def child(self, key: str) -> Fields:
        """The object of a key; an empty one where it is no object."""
        return Fields(self.take(key, dict, {}), f"{self.place}{key}.", self.problems)

    def objects(self, key: str, most: int) -> list[Fields]:
        """The objects in the list of a key; other items are left out."""
        children = []
        for index, item in enumerate(self.items(key, most)):
            place = f"{self.place}{key}[{index}]"
            if isinstance(item, dict):
                children.append(Fields(item, f"{place}.", self.problems))
            else:
                self.problem(f"{key}[{index}]", f"is {short(item)}, expected an object")
        return children

    def _within(self, place: str, value: int | None, least: int, most: int) -> int:
        if value is None:
            return least
        if not least <= value <= most:
            self.problem(place, f"is {short(value)}, expected {least} to {most}")
            return least
        return value


def short(value: object, limit: int = 80, show: Callable[[object], str] = repr) -> str:
    """Text of a value, cut where it is long."""
    shown = show(value)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
