"""Messages about Python's arguments, said of the options of a command."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from typing import Any, Final

# Options that have another name than the argument they stand for.
_NAMES: Final = {"layers": "layer", "recordings": "recording", "labels": "where"}
_VALUE = r"\.\.\.|\"[^\"]*\"|'[^']*'|slice\([^()]*\)|\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|[\w.+-]+"
_ARGUMENT: Final = re.compile(rf"(?<![\w.])(\w+)=({_VALUE})")
_BEGINS: Final = re.compile(r"(?:[\w:]+: )?")
_SELECT: Final = re.compile(r"\b(?:\w+\.)?select\(((?:[^()]|\([^()]*\))*)\)")
_CALL: Final = re.compile(r"^((?:[\w:]+: )?\w+)\((\w+=(?:[^()]|\([^()]*\))+)\)")
_ONE_LAYER: Final = re.compile(r"ask one of them: recording\[[^\]]*\]\.\w+\([^()]*\)")


def as_options(message: str, options: Collection[str]) -> str:
    """A message in which arguments that a command has options for are these options.

    Arguments that a message begins with, or of the call that it begins with, are those of a statistic;
    without an option of their own they are set.

    Examples
    --------
    >>> as_options('pass per=("layer", "label"), or select(time=slice(0, 4))', ["--per", "--time"])
    'pass --per layer,label, or --time 0:4'
    >>> as_options("seed=-1; expected a whole number", ["--set"])
    '--set seed=-1; expected a whole number'
    >>> as_options("selectivity(per=('label',), by='label') is wrong", ["--per", "--set"])
    'selectivity with --per label and --set by=label is wrong'
    """
    if "--layer" in options:
        message = _ONE_LAYER.sub("choose one of them with --layer NAME", message)
    message = _SELECT.sub(lambda found: found[1] if _ARGUMENT.match(found[1]) else found[0], message)

    def replaced(found: re.Match[str], *, is_set: bool = False) -> str:
        name, value = found.groups()
        option = f"--{_NAMES.get(name, name)}"
        if option in options:
            return f"{option} {'label=' if name == 'labels' else ''}{_written(value)}"
        return f"--set {name}={_written(value)}" if is_set and "--set" in options else found[0]

    def called(found: re.Match[str]) -> str:
        given = [replaced(each, is_set=True) for each in _ARGUMENT.finditer(found[2])]
        return f"{found[1]} with {' and '.join(given)}"

    message = _CALL.sub(called, message)
    begins = _BEGINS.match(message)
    if begins is not None:
        first = _ARGUMENT.match(message, begins.end())
        if first is not None:
            message = begins[0] + replaced(first, is_set=True) + message[first.end() :]
    return _ARGUMENT.sub(replaced, message)


def _written(value: str) -> str:
    """A value of Python as it is written behind an option."""
    if value.startswith("slice("):
        bounds = [bound.strip().replace("None", "") for bound in value[6:-1].split(",")]
        return ":".join(bounds[: 3 if any(bounds[2:]) else 2])
    try:
        read: Any = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    if read is ...:
        return value
    if isinstance(read, dict):
        return " ".join(f"{name}={_written(repr(each))}" for name, each in read.items())
    return ",".join(map(str, read)) if isinstance(read, tuple | list) else str(read)
