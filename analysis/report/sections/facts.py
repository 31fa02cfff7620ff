"""What a recording is, in words: where it comes from, what it holds, and what is missing from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from analysis.display import bytes_text, printable, shape_text, uncalled_text
from analysis.recording import Recording
from analysis.report.scope import Scope
from analysis.report.wording import counted

# A digest reads every chunk once more; of larger recordings it is told only where it is known already.
DIGEST_SLOTS: Final = 2**33
_MAX_TEXT: Final = 600
_MAX_NOTES: Final = 12


def facts_of(scope: Scope) -> list[tuple[str, str]]:
    """Facts, each with a name."""
    recording = scope.recording
    members = recording.recordings
    first = next(iter(members.values()))
    notes = first.provenance
    facts = [("network", _network(notes)), ("recorded", _extent(scope)), ("state", _state(members))]
    if len(members) > 1:
        more = ", …" if len(members) > 4 else ""
        facts.append(("recordings", f"{len(members)} opened as one: {', '.join(list(members)[:4])}{more}"))
    if recording.members.step_duration is not None:
        duration, unit = recording.members.step_duration
        facts.append(("a step", f"{duration:g} {unit}"))
    facts += [
        ("digest", _digest(recording)),
        ("lost frames", _lost(recording)),
        ("never called", _uncalled(members)),
        ("kept in part", _in_part(recording)),
    ]
    facts += list(_notes(notes))
    return [(_cut(printable(name), 60), _cut(printable(text))) for name, text in facts if text]


def _cut(text: str, most: int = _MAX_TEXT) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _network(notes: Mapping[str, Any]) -> str:
    name, parameters = notes.get("network"), notes.get("parameters")
    if not isinstance(name, str):
        return ""
    return f"{name}, {parameters:,} parameters" if isinstance(parameters, int) else name


def _extent(scope: Scope) -> str:
    recording = scope.recording
    parts = [counted(len(recording.layers) + scope.left_out, "layer"), counted(recording.steps, "step")]
    if scope.trials:
        parts.append(counted(scope.presentations, "presentation"))
        if scope.times:
            parts.append(f"T = {counted(scope.times, 'step')}")
        if scope.labels is not None:
            parts.append(counted(len(scope.labels) + scope.labels_left_out, "label"))
    else:
        parts.append("no trials")
    slots = sum(layer.frames * layer.neurons for layer in recording.layers.values())
    return f"{', '.join(parts)}; {slots:,} slots, {bytes_text(slots / 8)} as bits"


def _state(members: Mapping[str, Recording]) -> str:
    every = [member.metadata for member in members.values()]
    growing = [metadata for metadata in every if metadata.state != "closed"]
    created = min(metadata.created for metadata in every)
    if growing:
        return (
            f"not closed: growing, or interrupted; this is what was committed by {growing[0].committed} "
            f"(begun {created})"
        )
    return f"closed, begun {created}, finished {max(metadata.committed for metadata in every)}"


def _digest(recording: Recording) -> str:
    members = list(recording.recordings.values())
    if len(members) == 1 and members[0].metadata.digest:
        return members[0].metadata.digest
    slots = sum(layer.frames * layer.neurons for layer in recording.layers.values())
    if slots > DIGEST_SLOTS:
        return "not computed, as that reads everything once more: recording.digest() does"
    return recording.digest()


def _lost(recording: Recording) -> str:
    lost = [(name, layer.lost_frames) for name, layer in recording.layers.items() if layer.lost_frames]
    listed = ", ".join(f"{frames:,} of {name!r}" for name, frames in lost[:8])
    return f"{listed}{', …' if len(lost) > 8 else ''}; they are in no figure" if lost else "none"


def _uncalled(members: Mapping[str, Recording]) -> str:
    uncalled = {name: step for member in members.values() for name, step in member.metadata.uncalled.items()}
    return uncalled_text(uncalled) or "none: every layer that was found was called"


def _in_part(recording: Recording) -> str:
    in_part = [(name, layer.part) for name, layer in recording.layers.items() if layer.part]
    listed = "; ".join(f"of {name!r} {part}" for name, part in in_part[:4])
    return f"{listed}{f'; and {len(in_part) - 4} more' if len(in_part) > 4 else ''}"


def _notes(notes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What else the recorder has noted, and its user."""
    for key, name in (("git_commit", "git commit"), ("command", "command"), ("licence", "licence"),
                      ("citation", "citation")):  # fmt: skip
        if isinstance(notes.get(key), str):
            yield name, notes[key]
    packages = notes.get("packages")
    if isinstance(packages, dict):
        yield "packages", ", ".join(f"{name} {version}" for name, version in packages.items())
    attached = notes.get("metadata")
    if isinstance(attached, dict):
        for key, value in list(attached.items())[:_MAX_NOTES]:
            yield key, str(value)


def layer_facts(scope: Scope) -> list[dict[str, Any]]:
    """What the page says of each layer."""
    return [
        {
            "key": layer.name,
            "name": printable(layer.name),
            "literal": printable(repr(layer.name)),
            "class": printable(layer.layer_class),
            "shape": shape_text(layer.neuron_shape),
            "neurons": layer.neurons,
            "frames": layer.frames,
        }
        for layer in scope.recording.layers.values()
    ]
