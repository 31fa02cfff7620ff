"""Values that users pass, read in one way: an error names the argument, what was given and what is expected.

Readers here know no recording. What only one can tell, such as which columns and neurons there are, is
checked where it is looked up, with the same errors.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Sequence
from numbers import Real
from typing import Any, NoReturn

import numpy as np


class QuestionError(ValueError):
    """A statistic or a selection was asked for that this recording cannot give."""


class ArgumentTypeError(QuestionError, TypeError):
    """An argument is of a type that makes no sense there; a TypeError as well, as in Python."""


def refuse_type(name: str, given: Any, expected: str) -> NoReturn:
    """Raise ArgumentTypeError: a value is of a wrong type."""
    raise ArgumentTypeError(f"{name} is {given!r:.200} ({type(given).__name__}); expected {expected}")


def is_boolean(given: Any) -> bool:
    """True for Python's booleans and numpy's, which count as numbers nowhere."""
    return isinstance(given, bool | np.bool_)


def whole_number(
    given: Any, name: str, expected: str, *, least: int | None = None, most: int | None = None
) -> int:
    """A whole number, of Python, numpy or whatever else is an index; booleans are none.

    Parameters
    ----------
    given : object
    name : str
        Of the argument.
    expected : str
        What it is to be, in words.
    least, most : int, optional
        Its bounds, which are allowed.

    Raises
    ------
    ArgumentTypeError, QuestionError
        If it is none, or beyond its bounds.
    """
    try:
        number = None if is_boolean(given) else operator.index(given)
    except TypeError:
        number = None
    if number is None:
        refuse_type(name, given, expected)
    if (least is not None and number < least) or (most is not None and number > most):
        bounds = f"{least} to {most}" if most is not None else f"{least} or more"
        raise QuestionError(f"{name}={number}; expected {expected}, {bounds}")
    return number


def real_number(given: Any, name: str, expected: str) -> Any:
    """A number as it was given, within the range of floats; ArgumentTypeError for others and booleans."""
    if is_boolean(given) or not isinstance(given, Real):
        refuse_type(name, given, expected)
    try:
        float(given)
    except OverflowError:
        raise QuestionError(f"{name} is beyond all floats; expected {expected}") from None
    return given


def check_choice(given: Any, name: str, choices: Collection[Any], otherwise: str = "") -> None:
    """Raise QuestionError unless a value is one of a few words, or None where that is one of them.

    ``otherwise`` is said behind the words that are.
    """
    if not any(given is each or (isinstance(given, str) and given == each) for each in choices):
        raise QuestionError(f"{name}={given!r:.200}; expected {listed([*choices])}{otherwise}")


def is_single(given: Any) -> bool:
    """True for what is one value, such as a text, and not several."""
    return isinstance(given, str | bytes) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0


def as_list(given: Any) -> list[Any]:
    """Several values as a list, a single one as a list of it; those of arrays are Python's."""
    if hasattr(given, "__array__"):
        given = np.asarray(given).tolist()
    return [given] if is_single(given) else list(given)


def text(given: Any, name: str, expected: str) -> str:
    """A text; ArgumentTypeError for anything else."""
    if not isinstance(given, str):
        refuse_type(name, given, expected)
    return given


def texts(given: Any, name: str, expected: str) -> tuple[str, ...]:
    """One text or several; ArgumentTypeError for anything else."""
    values = as_list(given)
    if not all(isinstance(value, str) for value in values):
        refuse_type(name, given, expected)
    return tuple(values)


def listed(words: Sequence[Any], last: str = "or") -> str:
    """Words in quotes, as in a sentence."""
    quoted = [repr(word) for word in words]
    return f"{', '.join(quoted[:-1])} {last} {quoted[-1]}" if len(quoted) > 1 else "".join(quoted)
