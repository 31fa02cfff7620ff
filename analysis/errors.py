"""What a user can get wrong, said so that the next try is right."""

from __future__ import annotations

from collections.abc import Iterable


class UnknownLayerError(KeyError):
    """The recording has no layer of this name.

    Attributes
    ----------
    name : object
        What was asked for.
    valid : tuple of str
        Names of the layers there are.
    """

    def __init__(self, name: object, valid: Iterable[str]) -> None:
        self.name = name
        self.valid = tuple(valid)
        super().__init__(name, self.valid)

    def __str__(self) -> str:
        # KeyError itself would show the message as a quoted literal.
        names = ", ".join(map(repr, self.valid)) or "none: nothing was recorded"
        return f"no layer is named {self.name!r}; the layers are: {names}"


class QuestionError(ValueError):
    """A statistic or a selection was asked for that this recording cannot give."""


class JointRecordingError(ValueError):
    """Recordings that cannot be looked at as one: they differ in their layers, or one is there twice."""
