"""Check that a monitor may go on with the recording that is at its store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from recorder.capture.wanted import Wanted
from recorder.circumstances import refuse_others
from recorder.frameworks import SpikingLayer
from recorder.provenance import class_name
from recorder.stores import ByteStore
from recorder.tape import TapeReader
from recorder.tape.holding.beginning import is_unbegun

_SCRIPT: Final = "__main__."


def has_begun(
    store: ByteStore,
    described: Mapping[str, Any],
    wanted: Wanted,
    layers: Mapping[str, SpikingLayer],
) -> bool:
    """True if there is a recording to go on with; False if there is nothing yet.

    Parameters
    ----------
    store : ByteStore
    described : mapping
        Provenance of what is going to be recorded.
    wanted : Wanted
    layers : mapping
        The layers that are going to be recorded.

    Raises
    ------
    ValueError
        If the recording is one of another network, or says otherwise how long a step is, what a spike or a
        signal is, what is kept of a layer, or how it may be used. What the monitor does not say stays as the
        recording has it.
    """
    if is_unbegun(store):
        return False
    recorded = TapeReader.open(store).metadata
    wanted.refuse_others(recorded, layers)
    counted, weight_layers = recorded.operations, tuple(wanted.weight_layers)
    if weight_layers and counted is not None and counted.weight_layers != weight_layers:
        raise ValueError(
            f"{store.location} has operations of the weight layers {counted.weight_layers!r:.200}, and would "
            f"go on with those of {weight_layers!r:.200}. Resume with the network that was recorded, without "
            "operations=True, or record to another store"
        )
    known = recorded.provenance
    if "network" in known and not _is_same_class(str(known["network"]), str(described["network"])):
        raise ValueError(
            f"{store.location} was recorded of a network of class {known['network']}, and would go on with "
            f"one of class {described['network']}: they would be taken for one. Resume with a network of "
            "that class, or record to another store"
        )
    for layer in recorded.layers:
        module = layers[layer.name].module if layer.name in layers else None
        if module is not None and not layer.layer_class.endswith(f".{type(module).__qualname__}"):
            raise ValueError(
                f"layer {layer.name!r} of {store.location} was recorded of a {layer.layer_class}, and would "
                f"go on as one of a {class_name(module)}: they would be taken for one. Resume with the "
                "network that was recorded, or record to another store"
            )
    refuse_others(described, known, store.location, "this monitor")
    return True


def _is_same_class(one: str, other: str) -> bool:
    """True if names are those of one class, which has another module where its file is run as a script."""
    if one.startswith(_SCRIPT) or other.startswith(_SCRIPT):
        one, other = (name.removeprefix(_SCRIPT) for name in (one, other))
        return f".{one}".endswith(f".{other}") or f".{other}".endswith(f".{one}")
    return one == other
