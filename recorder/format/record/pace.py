"""How fast a recording has been made, and how long the network was held up: a note of the commit record."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class PaceCommit:
    """The pace of the writer that has made a commit, from its beginning or resumption on.

    Attributes
    ----------
    steps : int
        Number of steps that it has recorded.
    seconds : float
        From the begin of its first forward of the network to the end of its newest one.
    waited : float
        Seconds for which the network had to wait for the writer, as more was recorded than the store takes.
    """

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def to_json(self) -> dict[str, float]:
        """As it stands in the commit record."""
        return asdict(self)
