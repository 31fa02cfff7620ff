"""What a mutant is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A way to break a promise: in each file, a text is replaced; and the test that notices."""

    name: str
    test: str
    changes: tuple[tuple[str, str, str], ...]
