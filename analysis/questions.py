"""The grammar of ``per``: what a statistic is asked to keep apart.

A question is a product of independent choices: whether recordings and layers are kept apart, how time is cut
into groups, and which places within a layer are kept apart. ``per="step"`` makes one of them, ``per=("label",
"neuron")`` two.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from analysis.errors import QuestionError
from recorder.format.tallying import Place

Time = Literal["step", "window", "trial", "label"]
Per = str | Sequence[str]

PER = ("network", "layer", "neuron", "channel", "step", "window", "trial", "label", "recording")


@dataclass(frozen=True)
class Question:
    """What is kept apart.

    Attributes
    ----------
    recordings : bool
        Recordings that were opened together; otherwise they are pooled.
    layers : bool
        Layers; likewise.
    time : {None, "step", "window", "trial", "label"}
        Groups of frames.
    window : int
        Steps in a window.
    place : {"all", "channel", "neuron"}
        Places within a layer.
    """

    recordings: bool
    layers: bool
    time: Time | None
    window: int
    place: Place


def parse_question(per: Per, window: int | None) -> Question:
    """Read what a user passed as ``per`` and ``window``.

    Raises
    ------
    QuestionError
        Naming what is unknown, twice there, or missing, and what is valid.
    TypeError
        If ``window`` is no integer.
    """
    words = [per] if isinstance(per, str) else list(per)
    for word in words:
        if word not in PER:
            raise QuestionError(
                f"per={per!r}: {word!r} is unknown; expected {_listed(PER)}, or several of them"
            )
    times: list[Time] = [word for word in get_args(Time) if word in words]
    places: list[Place] = [word for word in get_args(Place) if word in words]
    for several in (times, places):
        if len(several) > 1:
            raise QuestionError(f"per={per!r} asks for {_listed(several, 'and')} at once; choose one of them")
    if "window" not in words and window is not None:
        raise QuestionError(f'window={window!r} was given, but per={per!r}; pass per="window" with it')
    if "window" in words:
        if window is None:
            raise QuestionError(
                'per="window" needs the length of a window in steps: window=1000, for instance'
            )
        try:
            window = operator.index(window)
        except TypeError:
            raise TypeError(
                f"window is {window!r} ({type(window).__name__}); expected a number of steps"
            ) from None
        if window < 1:
            raise QuestionError(f"window={window} steps; expected 1 or more")
    return Question(
        recordings="recording" in words,
        layers="layer" in words,
        time=times[0] if times else None,
        window=window or 1,
        place=places[0] if places else "all",
    )


def _listed(words: Sequence[str], last: str = "or") -> str:
    quoted = [repr(word) for word in words]
    return f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"
