"""Operations that were counted while recording: what a commit promises of them.

They are one series of values for the whole recording: for each frame, and each weight layer of the network,
how many operations of each kind it has done. All that holds for the values of a signal holds for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from recorder.format.record.extents import TableCommit
from recorder.format.record.signals import SignalCommit, plan_signal, signal_to_json

OPERATIONS: Final = "operations"
OPERATIONS_DTYPE: Final = "int64"
# What is counted of each weight layer in each frame, in this order: operations on what is not 0; of these,
# those with weights that are not 0; and operations on everything. Each as accumulates, and as
# multiply-accumulates.
KINDS: Final = (
    "accumulates",
    "multiply_accumulates",
    "nonzero_accumulates",
    "nonzero_multiply_accumulates",
    "dense_accumulates",
    "dense_multiply_accumulates",
)


@dataclass(frozen=True)
class OperationsCommit(SignalCommit):
    """The promise of a commit about the operations: that of a signal of shape (weight layers, kinds).

    Attributes
    ----------
    weight_layers : tuple of str
        Names of the weight layers, in network order.
    uncounted : mapping of str to str
        Those of which not all operations were counted, and why.
    """

    weight_layers: tuple[str, ...] = ()
    uncounted: Mapping[str, str] = field(default_factory=dict)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the axes behind that of frames."""
        return ("weight_layer", "kind")

    def folder(self, layer_folder: str) -> str:  # noqa: ARG002 - they are of no layer
        """Key prefix of the group."""
        return OPERATIONS

    def described(self, layer: str | None) -> str:  # noqa: ARG002 - they are of no layer
        """What this is, for messages."""
        return "the operations"


def operations_of(weight_layers: tuple[str, ...]) -> OperationsCommit:
    """What operations of these weight layers are, of no frames."""
    shape = len(weight_layers), len(KINDS)
    nothing = TableCommit()
    return OperationsCommit(
        name=OPERATIONS,
        dtype=OPERATIONS_DTYPE,
        shape=shape,
        plan=plan_signal(shape, 8),
        frames=0,
        segments=nothing,
        checksums=nothing,
        weight_layers=weight_layers,
    )


def as_operations(commit: SignalCommit | None) -> OperationsCommit | None:
    """The same, of a writer or reader that knows it as a signal."""
    if commit is not None and not isinstance(commit, OperationsCommit):
        raise TypeError(f"{commit.name!r} is a signal, expected operations")
    return commit


def operations_to_json(operations: OperationsCommit) -> dict[str, Any]:
    """Operations as in the commit record."""
    record = signal_to_json(operations)
    kept = ("neuron_shape", "chunk_frames", "part_rows", "frames", "segments", "checksums", "tail", "lost")
    return {
        "weight_layers": [*operations.weight_layers],
        "uncounted": dict(operations.uncounted),
        **{key: record[key] for key in kept if key in record},
    }
