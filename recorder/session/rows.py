"""Packed rows, and values of signals and operations, on their way from the network to the writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from recorder.capture import LayerRecorder
from recorder.capture.host.host_packing import PUT_BYTES, FullStage, WholeRows, pack_whole
from recorder.capture.signal_recorder import SignalRecorder
from recorder.format.planes.values import Pending
from recorder.format.record.operations import OperationsCommit
from recorder.session.background import BackgroundWriter
from recorder.session.layers import RecordedLayers, counts_only, part_of, plan_of
from recorder.session.operations import OperationsRecorder
from recorder.session.signals import LayerSignals, SignalPiece
from recorder.session.steps import LayerSteps
from recorder.tape import TapeWriter


class CollectedRows:
    """Rows that are handed to the writer many at a time: each time costs the network a switch of threads.

    Parameters
    ----------
    writer : BackgroundWriter
    tape : TapeWriter
    steps : mapping
        Where each layer is, by name.
    """

    def __init__(self, writer: BackgroundWriter, tape: TapeWriter, steps: Mapping[str, LayerSteps]) -> None:
        self._writer = writer
        self._tape = tape
        tape.pressure.backlog = writer.backlog
        self._steps = steps
        # Layers of which counts are kept, and where each is.
        self._counted: dict[LayerRecorder, LayerSteps] = {}
        self._rows: list[tuple[str, WholeRows] | SignalPiece] = []
        self._size_bytes = 0
        resumed = tape.resumed_layers()
        self._added: set[str | tuple[str, str]] = {*resumed}
        self._added |= {
            (name, signal.name) for name, (layer, _) in resumed.items() for signal in layer.signals
        }
        self._counts_operations = tape.metadata.operations is not None

    def take(self, layer: LayerRecorder) -> None:
        """Take the whole rows of a layer that has been called; waits while too much waits for the disk.

        A signal handler may call this in the midst of it. A row is therefore added here and taken away there
        where no call is in between.
        """
        if layer.name not in self._added:
            about = layer.name, plan_of(layer), layer.dtype, layer.layer_class, layer.position
            self._writer.put(partial(self._tape.add_layer, *about, part_of(layer)), 0)
            self._added.add(layer.name)
        if counts_only(layer):
            self._counted[layer] = self._steps[layer.name]
        while ready := layer.ready:
            piece = ready[0]
            entries, size_bytes, packed = [(layer.name, piece)], piece.nbytes, None
            if isinstance(piece, FullStage) and self._writer.is_behind:
                # Rows that have to wait are packed first, to take little room.
                packed = piece.pack()
            if not ready or ready[0] is not piece:
                continue  # a handler has taken it meanwhile
            if packed is not None and isinstance(piece, FullStage):
                ready[0] = packed
                piece.give_back()
                continue
            self._rows += entries
            self._size_bytes += size_bytes
            del ready[:1]
        if self._size_bytes >= PUT_BYTES:
            self.hand_over()

    def take_signals(self, layer: LayerRecorder, signals: LayerSignals) -> None:
        """Take the values that are ready of the signals of a layer; otherwise as `take`."""
        for signal in signals.begun:
            if (layer.name, signal.name) not in self._added and signal.about and signal.ready:
                self.take(layer)
                self._writer.put(partial(self._tape.add_signal, layer.name, signal.about), 0)
                self._added.add((layer.name, signal.name))
            self._take_values(layer.name, signal)
        if self._size_bytes >= PUT_BYTES:
            self.hand_over()

    def drain(self, layers: RecordedLayers) -> dict[LayerRecorder, Pending]:
        """Hand the whole rows of all layers to the writer; return the frames of each that fill none."""
        layers.settle()
        pending = {layer: layer.drain() for layer in layers.called}
        for layer in pending:
            self.take(layer)
            self.take_signals(layer, layers.by_name[layer.name].signals)
        self.take_operations(layers.operations)
        self.hand_over()
        return pending

    @property
    def seconds_waited(self) -> float:
        """Total time for which whoever handed rows over had to wait."""
        return self._writer.seconds_waited

    def put(self, task: Callable[[TapeWriter], object]) -> None:
        """Have the thread that writes call a task with the tape, behind all rows that were handed over."""
        self._writer.put(partial(task, self._tape), 0)

    def take_operations(self, operations: OperationsRecorder | None) -> None:
        """Take the operations that are ready, if any are counted; otherwise as `take`."""
        if operations is None:
            return
        series = operations.kept
        if isinstance(series.about, OperationsCommit) and series.ready and not self._counts_operations:
            self._writer.put(partial(self._tape.add_operations, series.about), 0)
            self._counts_operations = True
        self._take_values(None, series)
        if self._size_bytes >= PUT_BYTES:
            self.hand_over()

    def _take_values(self, layer: str | None, series: SignalRecorder) -> None:
        while series.has_ready():
            values = series.ready[0]
            arrived = values if isinstance(values, np.ndarray) else values.values()
            entries, size_bytes = [SignalPiece(layer, series.name, arrived)], arrived.nbytes
            self._rows += entries
            self._size_bytes += size_bytes
            del series.ready[:1]

    def hand_over(self) -> None:
        """Put all rows into the writer's queue."""
        if self._rows:
            # Ctrl-C may end this wait; the rows are still here then.
            self._writer.wait_for_room(self._size_bytes)
            self._writer.put(partial(_append_all, self._tape, self._rows), self._size_bytes)
            # Cut short before this, the same list is handed over twice. Whoever comes first empties it.
            self._rows, self._size_bytes = [], 0
            for layer, steps in self._counted.items():
                # Frames of a forward that may still be given up are counted with the next rows.
                segments = np.concatenate(layer.segments.look())
                about = layer.name, segments, layer.segments.frame_at(steps.start)
                self._writer.put(partial(self._tape.count, *about), 0)


def _append_all(tape: TapeWriter, rows: list[tuple[str, WholeRows] | SignalPiece]) -> None:
    while rows:
        first = rows[0]
        if isinstance(first, SignalPiece):
            if first.layer is None:
                tape.append_operations(first.values)
            else:
                tape.append_signal(first.layer, first.signal, first.values)
        else:
            name, piece = first
            tape.append(name, pack_whole(piece))
        del rows[0]
