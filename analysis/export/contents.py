"""What is handed over: layers of recordings, as they are selected, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from analysis.asking.kept import refuse_counts
from analysis.export.presentations import Presentations, presentations_of
from analysis.keeping import find_digest
from analysis.kernels.selecting.selection import Selection
from analysis.kernels.selecting.source import Source
from analysis.members import Members
from recorder.keeping.digest import join_recordings
from recorder.tape import TapeReader
from recorder.tape.trial_columns import read_values

Run = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True, eq=False)
class Contents:
    """What is handed over.

    Attributes
    ----------
    members : Members
    layers : sequence of sequence of Source
        Each selected layer, in each recording.
    selection : Selection
        Of frames.
    readers : sequence of TapeReader
        The recordings; none where a layer is handed over, and nothing is said of them.
    """

    members: Members
    layers: Sequence[Sequence[Source]]
    selection: Selection
    readers: Sequence[TapeReader] = ()

    @property
    def several(self) -> bool:
        """Whether several recordings were opened as one."""
        return len(self.members.names) > 1

    @cached_property
    def tables(self) -> list[dict[str, NDArray[Any]]]:
        """Table of trials of each recording, see `TapeReader.trials`."""
        sources = self.layers[0] if self.layers else ()
        return [read_values(source.store, source.trials) for source in sources]

    @cached_property
    def presentations(self) -> list[Presentations]:
        """The selected presentations of each recording."""
        if not self.layers:
            return []
        return [presentations_of(source) for source in self.layers[0]]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        every = [layer.name for layer in self.readers[0].metadata.layers]
        return (
            self.selection == Selection()
            and [sources[0].layer for sources in self.layers] == every
            and all(sources[0].selection.neurons is None for sources in self.layers)
        )

    @property
    def stated_digest(self) -> str | None:
        """Digest that packed recordings state; None if one does not."""
        stated = [reader.metadata.digest for reader in self.readers]
        return join_recordings(stated) if all(stated) else None

    @property
    def lacks_digest(self) -> bool:
        """Whether a digest can be stated, and would have to be computed."""
        return self.stated_digest is None and self.is_whole

    def digest(self, run: Run) -> str | None:
        """Digest of the recordings, see `Recording.digest`; None if it would have to be computed for a part.

        That of recordings which do not state it is computed, which reads every chunk.
        """
        if self.lacks_digest:
            return find_digest(self.readers, run)
        return self.stated_digest


def with_events(contents: Contents, what: str) -> Contents:
    """The same, if all layers have events; QuestionError, which names ``what``, if only counts were kept."""
    refuse_counts(contents.layers, what)
    return contents
