"""Recordings that are opened together: what they must have in common, and what they may be asked so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.display import shape_text
from analysis.errors import JointRecordingError
from recorder.format.metadata import RecordingMetadata
from recorder.format.ranks import RankRecord
from recorder.format.reading import TapeReader


@dataclass(frozen=True)
class Members:
    """The recordings that are looked at as one.

    Attributes
    ----------
    names : tuple of str
        The last part of each location, or all of it where these are not all different.
    share_steps : bool
        Whether a step, and a trial, of one means the same in the others: there is only one, or they are the
        ranks of one distributed run.
    """

    names: tuple[str, ...]
    share_steps: bool


def members_of(readers: Sequence[TapeReader]) -> Members:
    """What the recordings behind some readers are together.

    Raises
    ------
    JointRecordingError
        If one is there twice, or if they do not have the same layers with the same neuron shapes.
    """
    locations = [reader.store.location for reader in readers]
    first_location: dict[str, str] = {}
    for reader, location in zip(readers, locations, strict=True):
        twin = first_location.setdefault(reader.metadata.recording_id, location)
        if twin is not location:
            raise JointRecordingError(
                f"{location} is the same recording as {twin}, or a copy of it; its spikes would count twice"
            )
    for reader, location in zip(readers[1:], locations[1:], strict=True):
        _check_alike(readers[0].metadata, locations[0], reader.metadata, location)
    short = [location.rstrip("/").rpartition("/")[2] for location in locations]
    names = short if len(set(short)) == len(short) else locations
    return Members(tuple(names), len(readers) == 1 or _are_ranks_of_one_run(readers))


def _check_alike(
    first: RecordingMetadata, first_location: str, other: RecordingMetadata, other_location: str
) -> None:
    expected = {layer.name: layer.plan.neuron_shape for layer in first.layers}
    found = {layer.name: layer.plan.neuron_shape for layer in other.layers}
    both = f"{first_location} and {other_location} cannot be looked at as one recording"
    for one, its_layers, another, its_others in (
        (first_location, expected, other_location, found),
        (other_location, found, first_location, expected),
    ):
        for name in its_layers:
            if name not in its_others:
                there = ", ".join(map(repr, its_others)) or "none, as nothing has been committed yet"
                raise JointRecordingError(
                    f"{both}: layer {name!r} of {one} is not in {another}, whose layers are: {there}"
                )
    for name, shape in expected.items():
        if found[name] != shape:
            raise JointRecordingError(
                f"{both}: the neurons of layer {name!r} are {shape_text(shape)} in the first, and "
                f"{shape_text(found[name])} in the second"
            )


def _are_ranks_of_one_run(readers: Sequence[TapeReader]) -> bool:
    records = [RankRecord.from_provenance(reader.metadata.provenance) for reader in readers]
    present = [record for record in records if record is not None]
    runs = {(record.run, record.ranks) for record in present}
    ranks = {record.rank for record in present}
    return len(present) == len(ranks) == len(readers) and len(runs) == 1
