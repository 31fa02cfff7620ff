"""Tell if a commit goes on from an earlier one of the same recording, for whoever looks at it again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recorder.format import RecordingFormatError, RecordingMetadata
from recorder.tape import LayerReader, TapeReader
from recorder.tape.layers.counts_reading import CountsReader, read_layer


class RecordingReplacedError(ValueError):
    """There is another recording now where one was opened, or an earlier or another state of it."""


def refuse_another(before: TapeReader, now: TapeReader) -> None:
    """Raise RecordingReplacedError unless a commit is that of an earlier reader, or goes on from it.

    A commit promises all that those before it have promised. Of one with a later number this is looked into,
    in the layer that has the fewest neurons: it may be that of a copy that somebody else has gone on with.
    """
    old, new = before.metadata, now.metadata
    if new.recording_id != old.recording_id:
        what = f"recording {new.recording_id}, begun {new.created}"
    elif new.commit_number < old.commit_number:
        what = f"its commit {new.commit_number} of {new.committed}, an earlier one"
    elif new.commit_number == old.commit_number and _unpacked(new) != _unpacked(old):
        what = f"another commit {new.commit_number}, of {new.committed}"
    elif new.commit_number > old.commit_number and not _goes_on(before, now):
        what = f"a commit {new.commit_number} of {new.committed} that does not go on from it"
    else:
        return
    raise RecordingReplacedError(
        f"{now.store.location} is not what was opened, commit {old.commit_number} of {old.committed} of "
        f"recording {old.recording_id}: there is {what}. It has been replaced; open it again to look at what "
        "is there"
    )


def _unpacked(metadata: RecordingMetadata) -> RecordingMetadata:
    return replace(metadata, shard_bytes=0, digest="")


def _goes_on(before: TapeReader, now: TapeReader) -> bool:
    """True if the newest frames of the earlier commit are still there.

    Recovery, on request, may have cut them away or marked them lost. Where the later commit's own frames are
    damaged nothing can be told, and whoever asks for them is told of the damage.
    """
    kept = [
        layer.commit
        for name, layer in before.layers.items()
        if layer.frames
        and name in now.layers
        and layer.frames <= now.layers[name].frames
        and layer.commit.lost == now.layers[name].commit.lost
    ]
    if not kept:
        return True
    smallest = min(kept, key=lambda commit: commit.plan.neurons)
    newest = smallest.frames - 1
    return _holds(read_layer(now.store, smallest), newest) or not _holds(now.layers[smallest.name], newest)


def _holds(layer: LayerReader, frame: int) -> bool:
    """True if the segments of a layer and what holds a frame are what its commit promises."""
    chunk = frame // layer.plan.chunk_frames
    try:
        segments = layer.segments()
        if isinstance(layer, CountsReader):
            list(layer.kept_rows(segments.segment_of(np.array([frame])).tolist()))
        elif not layer.is_lost(chunk):
            layer.chunk(chunk)
    except RecordingFormatError:
        return False
    return True
