"""Names and sentences, as the report writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_MAX_NAMED: Final = 6
_MAX_NAME: Final = 60


def quoted(name: str) -> str:
    """A name in quotes, of which the middle is left out if it is long."""
    return repr(name if len(name) <= _MAX_NAME else f"{name[:30]}…{name[-20:]}")


def named(names: Sequence[str]) -> str:
    """Some names in quotes, and how many more there are."""
    listed = ", ".join(map(quoted, names[:_MAX_NAMED]))
    return f"{listed} and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else listed


def sentence(text: str) -> str:
    """What a warning or an error says, with a capital letter unless it begins with code, and a full stop."""
    first = text.partition(" ")[0]
    begun = text[:1].upper() + text[1:] if first.isalpha() else text
    return begun if not text or text.endswith((".", "!", "?")) else f"{begun}."


def counted(number: int, what: str) -> str:
    """A number of things, of one of which the name is given."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
