"""Values that users attach to the samples of a trial: read, checked, and the kind of column that holds them.

A value is text, a boolean, a whole number or a float; None stands for a missing one. ``True``, ``1``, ``1.0``
and ``"1"`` are four values, though Python holds three of them for equal. Whatever passes here can be written
and read again; whatever cannot is refused here, before a frame of its trial comes.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np

from recorder.format.errors import RecordingFormatError
from recorder.format.record.metadata import MAX_NAME_LENGTH, ColumnKind

KEYS: Final = ("trial", "sample")
MISSING_INTEGER: Final = int(np.iinfo(np.int64).min)
# Characters in a text; no label needs them.
MAX_TEXT_LENGTH: Final = 2**16
# JSON of the categories of one column up to which they stand in the commit record, which each commit writes.
MAX_RECORDED_BYTES: Final = 2**17
# Below it, float64 has every whole number.
EXACT_IN_FLOAT: Final = 2**53

Value = str | int | float | bool

# A folder of such a name would stand where a file of the group is, or hold a key of the table.
_TAKEN_NAME = re.compile(r"(trial_)*(trial|sample|zarr\.json)")
_DATES = ("m", "M")
_EXPECTED = "expected text, a boolean or a number (whole ones below 2**63) for each sample, or None"


def stored_name(name: str) -> str:
    """Name under which an attached column is stored: its own, unless every recording has that already.

    Examples
    --------
    >>> stored_name("epoch"), stored_name("trial"), stored_name("trial_trial")
    ('epoch', 'trial_trial', 'trial_trial_trial')
    """
    return f"trial_{name}" if _TAKEN_NAME.fullmatch(name) else name


def check_name(name: str) -> None:
    """Raise ValueError if no column can have this name."""
    if len(stored_name(name)) > MAX_NAME_LENGTH:
        raise ValueError(
            f"trial(): {_short(name)} has {len(name)} characters; a name has at most {MAX_NAME_LENGTH}"
        )
    if not is_text(name):
        raise ValueError(f"trial(): the name {_short(name)} holds half a character, which cannot be stored")


def identity(value: Any) -> tuple[type, Any]:
    """Key that is equal only for equal values of the same type."""
    return type(value), value


def is_text(value: object) -> bool:
    """True if a value can be written. A lone surrogate, half a character, cannot be encoded."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class Attached:
    """The values that a user has attached to a trial under one name, read once.

    Attributes
    ----------
    values : tuple
        One for each sample, or a single one for all; None where missing.
    is_single : bool
    """

    values: tuple[Value | None, ...]
    is_single: bool

    @classmethod
    def read(cls, name: str, given: Any) -> Attached:
        """Read what was given.

        Parameters
        ----------
        name : str
            Name of the column, for errors.
        given : scalar, sequence or array
            One value for all samples or one for each: Python's, or those of numpy, torch, pandas and others
            that have ``tolist`` or turn into a numpy array. None, NaN and pandas' NA are missing values.

        Raises
        ------
        TypeError
            If a value is neither text, number nor boolean, or no whole number that 64 bits hold.
        ValueError
            If a text is too long, or holds half a character.
        """
        _refuse_dates(name, given)
        if hasattr(given, "tolist"):
            given = given.tolist()
        elif hasattr(given, "__array__"):
            given = np.asarray(given).tolist()
        is_single = isinstance(given, str | bytes | bytearray) or not isinstance(given, Sequence)
        values = [given] if is_single else given
        return cls(tuple(_read_value(name, value) for value in values), is_single)

    def of_batch(self, place: str, batch: int) -> list[Value | None]:
        """Values of the samples of a batch; ValueError, naming ``place``, if there are not as many."""
        if self.is_single:
            return [*self.values] * batch
        if len(self.values) != batch:
            raise ValueError(
                f"{place} has {len(self.values)} values, but each step of the trial has a batch of {batch}; "
                "give one value for each sample, or a single one for all. Where the network hands a layer "
                "only a part of its batch, leave that layer out with layers=..."
            )
        return [*self.values]


def _read_value(name: str, value: Any) -> Value | None:
    _refuse_dates(name, value)
    if hasattr(value, "item"):
        try:
            value = value.item()
        except (ValueError, RuntimeError) as error:
            raise _refused(name, value) from error
    if value is None or value is _pandas_missing():
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -(2**63) < value < 2**63:
            raise _refused(name, value)
        return int(value)
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, str):
        return _read_text(name, value)
    raise _refused(name, value)


def _read_text(name: str, value: str) -> str:
    if len(value) > MAX_TEXT_LENGTH:
        raise ValueError(
            f"{name} holds a text of {len(value)} characters, {_short(value)}; at most {MAX_TEXT_LENGTH} are "
            "kept. Attach a name for it, and keep the text elsewhere"
        )
    if not is_text(value):
        raise ValueError(f"{name} holds {_short(value)}, half a character of which cannot be stored")
    # Of a subclass, such as that of an enumeration, the text itself.
    return str.__str__(value)


def _refuse_dates(name: str, given: Any) -> None:
    # As lists they would be whole numbers, and where they are missing None.
    if getattr(getattr(given, "dtype", None), "kind", None) in _DATES:
        raise TypeError(
            f"{name} holds dates or durations (dtype {given.dtype}); {_EXPECTED}. Give them as text, or as "
            "numbers in a unit of your choice"
        )


def _refused(name: str, value: Any) -> TypeError:
    return TypeError(f"{name} holds {_short(value)} ({type(value).__name__}); {_EXPECTED}")


def _pandas_missing() -> Any:
    pandas = sys.modules.get("pandas")
    return getattr(pandas, "NA", None)


def _short(value: object, limit: int = 80) -> str:
    shown = repr(value)
    # Errors are printed, and half a character cannot be.
    shown = shown.encode(errors="backslashreplace").decode()
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def kind_of(values: Iterable[Value | None]) -> ColumnKind | None:
    """The kind of column that holds these values; None if all are missing, as any kind then does.

    Whole numbers and floats are float64 together, unless that would change a number or make two of them one.
    """
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if not kinds:
        return None
    if kinds == {int}:
        return "int64"
    if kinds == {float} or (kinds == {int, float} and _can_be_floats(present)):
        return "float64"
    return "category"


def _can_be_floats(numbers: Sequence[Value]) -> bool:
    whole = {number for number in numbers if type(number) is int}
    floats = {number for number in numbers if type(number) is float}
    return not whole & floats and all(float(number) == number for number in whole)


def check_kind(name: str, kind: ColumnKind | None, values: Sequence[Value | None]) -> None:
    """Raise unless a column of this kind, or a new one, can take these values.

    Raises
    ------
    TypeError
        If they are of another kind. Columns of categories take any value, columns of floats also whole
        numbers that a float can be.
    ValueError
        If they are infinite and among categories.
    """
    given = kind_of(values)
    if given is None:
        return
    present = [value for value in values if value is not None]
    if (kind or given) == "category":
        infinite = next((v for v in present if isinstance(v, float) and math.isinf(v)), None)
        if infinite is not None:
            raise ValueError(
                f"trial(): {name} holds {infinite!r} in a column of categories, which are stored as JSON, "
                "and JSON has no infinity. Columns of floats alone can hold it: choose another name"
            )
    elif kind == "float64" and {type(value) for value in present} <= {int, float}:
        inexact = next((value for value in present if float(value) != value), None)
        if inexact is not None:
            raise TypeError(
                f"trial(): {name} is {inexact!r}, which no float64 is, and this recording's column {name!r} "
                "holds kind float64; choose another name"
            )
    elif kind not in (None, given):
        raise TypeError(
            f"trial(): {name} is {_short(present[0])}, a value of kind {given}, but this recording's column "
            f"{name!r} holds kind {kind}; keep to one kind or choose another name"
        )


def category_bytes(values: Iterable[Value]) -> int:
    """Bytes that categories take in the commit record, at most."""
    listed = list(values)
    # With the line break and the indent of each.
    return len(json.dumps(listed)) + 14 * len(listed) if listed else 0


def encode_categories(values: Sequence[Value]) -> bytes:
    """Categories as they are stored in an array: for each a line with its JSON, in UTF-8."""
    # None of a category's own JSON has a line break: in texts they are escaped.
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    return "".join(f"{encode(value)}\n" for value in values).encode()


def decode_categories(stored: bytes, count: int) -> list[Value]:
    """Categories of which `encode_categories` has made ``stored``.

    Raises
    ------
    RecordingFormatError
        If they are no lines of JSON, not ``count``, or hold what is no category.
    """
    try:
        text = stored.decode()
        # One list is read many times as fast as many lines. With their breaks, which no JSON of a text has,
        # there are as many values as lines only if each line is one.
        lines = text[:-1].replace("\n", ",\n")
        values = json.loads(f"[{lines}]")
        # Fails for halves of characters and for infinite floats, which JSON as Python reads it may have.
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise RecordingFormatError(
            f"the categories are no lines of JSON: {str(error) or type(error).__name__}"
        ) from error
    if not (len(values) == text.count("\n") == count and text[-1:] in ("", "\n")):
        raise RecordingFormatError(f"the categories are {len(values)}, but the commit names {count} lines")
    if not {*map(type, values)} <= {str, int, float, bool}:
        raise RecordingFormatError("the categories hold others than text, numbers and booleans")
    return cast(list[Value], values)
