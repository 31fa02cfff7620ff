"""What a user wants recorded of the layers of a network, besides that they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from recorder.capture.signals import Signals
from recorder.capture.thresholds import Thresholds
from recorder.format import RecordingMetadata
from recorder.frameworks import SpikingLayer, layers_named
from recorder.parts import Parts


@dataclass(frozen=True)
class Wanted:
    """What is made of layers' outputs, what is recorded beside them, and what is kept of them.

    Attributes
    ----------
    thresholds : Thresholds
    signals : Signals
    parts : Parts
    weight_layers : mapping of str to module
        Weight layers whose operations are counted, by name; none if they are not.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    signals: Signals = field(default_factory=Signals)
    parts: Parts = field(default_factory=Parts)
    weight_layers: Mapping[str, nn.Module] = field(default_factory=dict)

    @classmethod
    def parse(
        cls,
        layers: Mapping[str, SpikingLayer],
        *,
        threshold: Any,
        signals: Any,
        weight_layers: Mapping[str, nn.Module],
        **parts: Any,
    ) -> Wanted:
        """Read what a user passed to a monitor; ``parts`` and errors are those of `Parts.parse`."""
        return cls(
            Thresholds.parse(threshold, layers),
            Signals.parse(signals, layers),
            Parts.parse(layers, partial(layers_named, layers, "the part of a layer that is kept"), **parts),
            weight_layers,
        )

    def refuse_others(self, recorded: RecordingMetadata, layers: Mapping[str, SpikingLayer]) -> None:
        """Raise ValueError if a recording was made with anything else for these layers."""
        self.thresholds.refuse_others(recorded, layers)
        self.signals.refuse_others(recorded)
        self.parts.refuse_others(recorded, layers)
