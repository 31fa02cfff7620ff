"""The command ``spiketape info``: facts about a recording."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import click

from analysis.cli.running import complete_path, errors_as_messages, open_shown
from analysis.display import (
    bytes_text,
    printable,
    provenance_lines,
    shape_text,
    text_table,
    uncalled_text,
    values_text,
)
from analysis.recording import Recording
from recorder.format.record.parts import LayerPart


def facts_of(recording: Recording) -> dict[str, Any]:
    """Facts about a recording, as JSON values."""
    metadata = recording.metadata
    layers = []
    for name, layer in recording.layers.items():
        stored = _size(lambda name=name: recording.stored_spike_bytes(name))  # type: ignore[misc]
        slots = layer.frames * layer.neurons
        layers.append(
            {
                "name": name,
                "class": layer.layer_class,
                "dtype": layer.dtype,
                "neuron_shape": list(layer.neuron_shape),
                "part": _part_facts(layer.part),
                "steps": layer.steps,
                "frames": layer.frames,
                "lost_frames": layer.lost_frames,
                "stored_bytes": stored,
                "value_range": list(layer.value_range),
                "value_scale": layer.value_scale,
                "bits_per_slot": stored * 8 / slots if stored is not None and slots else None,
                "signals": [
                    {
                        "name": signal.name,
                        "dtype": signal.dtype.name,
                        "neuron_shape": list(signal.neuron_shape),
                        "every": signal.every,
                        "samples": signal.samples,
                        "frames": signal.frames,
                        "lost_frames": signal.lost_frames,
                    }
                    for signal in layer.signals.values()
                ],
            }
        )
    return {
        "location": recording.location,
        "format_version": metadata.format_version,
        "recording_id": metadata.recording_id,
        "state": metadata.state,
        "created": metadata.created,
        "committed": metadata.committed,
        "trials": metadata.trials.trials,
        "stored_bytes": _size(recording.stored_bytes),
        "packed": metadata.shard_bytes > 0,
        "digest": metadata.digest or None,
        "uncalled": dict(metadata.uncalled),
        "operations": None
        if metadata.operations is None
        else {
            "weight_layers": [*metadata.operations.weight_layers],
            "uncounted": dict(metadata.operations.uncounted),
            "frames": metadata.operations.frames,
            "lost_frames": metadata.operations.lost_frames,
        },
        "layers": layers,
        "provenance": dict(recording.provenance),
    }


def _part_facts(part: LayerPart | None) -> dict[str, Any] | None:
    """What was kept of a layer; None where it is the whole."""
    if part is None:
        return None
    return {
        "kept": str(part),
        "neuron_shape": list(part.shape),
        "neurons": part.kept_neurons,
        "samples": part.samples,
        "trials_every": part.trials_every,
        "counts_only": part.counts_only,
    }


def _size(ask: Callable[[], int]) -> int | None:
    """A size in the store; None for stores that cannot list what they hold, such as plain HTTP."""
    try:
        return ask()
    except (NotImplementedError, OSError):
        return None


def _operations_text(operations: dict[str, Any]) -> str:
    gone = f", {operations['lost_frames']} frames lost" * (operations["lost_frames"] > 0)
    text = f"counted of {len(operations['weight_layers'])} weight layers, {operations['frames']} frames{gone}"
    left = [f"{name!r} ({why})" for name, why in [*operations["uncounted"].items()][:10]]
    return f"{text}; not all of {', '.join(left)}" if left else text


def _lines_of_layers(layers: list[dict[str, Any]]) -> Iterator[str]:
    """What there is to say of layers that are kept in part, or have other values than 0 and 1."""
    for layer in layers:
        if layer["part"]:
            yield f"  kept         of {printable(layer['name'])}: {layer['part']['kept']}"
    for layer in layers:
        if (layer["value_range"], layer["value_scale"]) != ([0, 1], 1):
            about = values_text(layer["value_range"], layer["value_scale"])
            yield f"  values       of {printable(layer['name'])}: {about.removeprefix('values ')}"


def facts_text(facts: dict[str, Any]) -> str:
    """The same for people, a line for each fact and a row for each layer."""

    def size(stored: int | None) -> str:
        return "unknown" if stored is None else bytes_text(stored)

    state = "closed" if facts["state"] == "closed" else "recording, or interrupted"
    lines = [
        f"{printable(facts['location'])}",
        f"  state        {state}, last commit {printable(facts['committed'])}",
        f"  created      {printable(facts['created'])}",
        f"  size         {size(facts['stored_bytes'])}",
        f"  trials       {facts['trials']}",
        f"  format       version {facts['format_version']}, recording {printable(facts['recording_id'])}",
    ]
    lost = [(layer["name"], layer["lost_frames"]) for layer in facts["layers"] if layer["lost_frames"]]
    if lost:
        listed = ", ".join(f"{frames} frames of layer {name!r}" for name, frames in lost)
        lines.append(f"  lost         {printable(listed)}; no figure has them")
    lines += _lines_of_layers(facts["layers"])
    for layer in facts["layers"]:
        for signal in layer["signals"]:
            kept = f", every {signal['every']} steps" * (signal["every"] > 1)
            gone = f", {signal['lost_frames']} frames lost" * (signal["lost_frames"] > 0)
            shape = shape_text(tuple(signal["neuron_shape"]))
            about = f"{signal['frames']} frames of {shape} {signal['dtype']}{kept}{gone}"
            lines.append(f"  signal       {printable(signal['name'])} of {printable(layer['name'])}: {about}")
    if facts["operations"]:
        lines.append(f"  operations   {printable(_operations_text(facts['operations']))}")
    if facts["uncalled"]:
        lines.append(f"  not recorded {printable(uncalled_text(facts['uncalled']))}")
    if facts["digest"]:
        lines.append(f"  packed       with the digest {facts['digest']}")
    lines += provenance_lines(facts["provenance"])
    headings = ("layer", "class", "neurons", "steps", "frames", "size", "bits per slot")
    rows = [
        (
            layer["name"],
            layer["class"],
            shape_text(tuple(layer["neuron_shape"])),
            layer["steps"],
            layer["frames"],
            size(layer["stored_bytes"]),
            "–" if layer["bits_per_slot"] is None else f"{layer['bits_per_slot']:.3f}",
        )
        for layer in facts["layers"]
    ]
    return "\n".join([*lines, "", text_table(headings, rows)])


@click.command()
@click.argument("path", shell_complete=complete_path)
@click.option(
    "--format", "file_format", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def info(path: str, file_format: str) -> None:
    """Say what is in the recording at PATH: layers, sizes, state, and where it comes from."""
    with errors_as_messages():
        facts = [facts_of(each) for each in open_shown(path).recordings.values()]
    if file_format == "json":
        click.echo(json.dumps(facts if len(facts) > 1 else facts[0], indent=2, allow_nan=False))
    else:
        click.echo("\n\n".join(map(facts_text, facts)))
