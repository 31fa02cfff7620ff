"""What a small recording of `exemplars` holds: how it is written, and the answers about it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.format import plan_chunks
from recorder.format.connections import Connections
from recorder.format.planes.values import scale_levels
from recorder.format.record.parts import LayerPart, kept_indices
from recorder.format.segments import SegmentLog
from tapes import Counts, Made, Run, Trial, kept_frames, write_recording

# What is written so small that there are many chunks, parts and blocks.
SIZES: dict[str, Any] = {"chunk_bytes": 100, "limit_bytes": 100, "counts_share": 0.25}
MADE_BY = {"made by": "tests/support/exemplars.py"}
TRIALS = [Trial(0, 3, {"label": ["a", "b", "a"]}), Trial(1, 2, {"label": ["b", "c"]})]


@dataclass
class Written:
    """What was written to a recording, and what of it was lost since."""

    layers: Mapping[str, NDArray[Any]]
    runs: Sequence[Run]
    trials: Sequence[Trial] = ()
    scales: Mapping[str, float] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    signals: Mapping[tuple[str, str], Made] = field(default_factory=dict)
    connections: Connections | None = None
    operations: Counts | None = None
    # Ranges of frames, by layer and signal; of the layer itself "".
    lost: Mapping[tuple[str, str], list[list[int]]] = field(default_factory=dict)
    parts: Mapping[str, LayerPart] = field(default_factory=dict)

    def write(self, path: Path, **options: Any) -> Any:
        """Write all of it."""
        return write_recording(
            *(path, self.layers, self.runs, self.trials),
            **{"scales": self.scales, "dtypes": self.dtypes, "signals": self.signals},
            **{"connections": self.connections, "operations": self.operations, "parts": self.parts},
            **{"provenance": MADE_BY},
            **{**SIZES, **options},
        )

    @property
    def columns(self) -> dict[str, list[Any]]:
        """Columns of the trials."""
        keys = [(trial.number, sample) for trial in self.trials for sample in range(trial.batch)]
        labels = [label for trial in self.trials for label in trial.columns["label"]]
        trials, samples = ([key[place] for key in keys] for place in range(2))
        return {"trial": trials, "sample": samples, **({"label": labels} if labels else {})}

    def events(self) -> dict[str, tuple[NDArray[np.bool_], list[list[int]]]]:
        """Events that were kept of each layer, and its segments."""
        found = {}
        for name, levels in self.layers.items():
            kept, log = kept_frames(levels, self.runs, self.parts.get(name))
            found[name] = kept != 0, _rows(log)
        return found

    def answers(self, name: str) -> dict[str, Any]:
        """What the answers have about values and signals of a layer, if it has any."""
        levels, found = self.layers[name], {}
        if name in self.parts:
            found |= self._part(name)
        if levels.dtype != np.bool_:
            found["values"] = self._values(name)
        signals = {signal: self._signal(*key) for key in self.signals for signal in key[1:] if key[0] == name}
        return {**found, **({"signals": signals} if signals else {})}

    def counted(self) -> dict[str, Any]:
        """What the answers have about operations."""
        counts = self.operations
        if counts is None:
            return {}
        found = {
            "weight_layers": [*counts.weight_layers],
            "uncounted": dict(counts.uncounted),
            "shape": [*counts.values.shape],
            "segments": _rows(log_of(self.runs)),
            "lost": self.lost.get(("", "operations"), []),
            **_described(self._kept(counts.values, "", "operations")),
        }
        return {"operations": found}

    def _part(self, name: str) -> dict[str, Any]:
        """What is kept of a layer, and of counts these, with 0 where they are lost."""
        part, (events, rows) = self.parts[name], self.events()[name]
        found: dict[str, Any] = {
            "part": {
                "shape": [*part.shape],
                # In C order.
                "neurons": kept_indices(part.shape, part.neurons).tolist(),
                "samples": part.samples,
                "trials_every": part.trials_every,
            }
        }
        if not part.counts_only:
            return found
        counts = [np.zeros((0, *part.kept_shape), np.uint32)]
        lost = self.lost.get((name, ""), [])
        for first, _, steps, batch, _ in rows:
            is_lost = any(begin <= first < end for begin, end in lost)
            frames = events[first : first + steps * batch] & (not is_lost)
            counts.append(frames.reshape(steps, batch, *part.kept_shape).sum(0, dtype=np.uint32))
        joined = np.concatenate(counts)
        # Of its bits nothing is there.
        return {**found, "sha256": None, "counts": {"rows": len(joined), **_described(joined)}}

    def _values(self, name: str) -> dict[str, Any]:
        kept_levels, _ = kept_frames(self.layers[name], self.runs, self.parts.get(name))
        levels, scale = kept_levels.astype(np.int64), self.scales.get(name, 1.0)
        dtype = self.dtypes.get(name, "float32")
        above, is_negative = np.abs(levels) - 1, levels < 0
        planes = {str(bit): (above > 0) & (above >> bit & 1 == 1) for bit in range(15)}
        chunk_frames = plan_chunks(levels.shape[1:], target_bytes=SIZES["chunk_bytes"]).chunk_frames
        first = {
            plane: int(np.flatnonzero(frames)[0]) // frames[0].size // chunk_frames
            for plane, frames in {**planes, "sign": is_negative}.items()
            if frames.any()
        }
        kept = self._kept(scale_levels(levels, scale, dtype), name, "")
        return {
            "scale": scale,
            "range": [min(int(levels.min()), 0), max(int(levels.max()), 0)],
            "dtype": dtype,
            # The chunk that each begins with.
            "planes": first,
            **_described(kept),
        }

    def _signal(self, layer: str, signal: str) -> dict[str, Any]:
        made = self.signals[layer, signal]
        values, log = made.kept(self.runs)
        flat = np.arange(made.values[0].size).reshape(made.values.shape[1:])
        if made.neurons is not None:
            is_flat = isinstance(made.neurons[0], int)
            flat = flat.ravel()[[*made.neurons]] if is_flat else flat[np.ix_(*made.neurons)]
        return {
            "dtype": values.dtype.name,
            "shape": [*values.shape],
            # In C order, of all that there are at a frame.
            "neurons": flat.ravel().tolist(),
            "segments": _rows(log),
            "lost": self.lost.get((layer, signal), []),
            **_described(self._kept(values, layer, signal)),
        }

    def _kept(self, values: NDArray[Any], layer: str, signal: str) -> NDArray[Any]:
        kept = values.copy()
        for first, last in self.lost.get((layer, signal), []):
            kept[first:last] = 0
        return kept


def _described(values: NDArray[Any]) -> dict[str, Any]:
    """The SHA-256 of values, little-endian, in C order."""
    encoded = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return {"sha256": hashlib.sha256(encoded).hexdigest()}


def log_of(runs: Sequence[Run]) -> SegmentLog:
    log = SegmentLog()
    for run in runs:
        log.extend(run.first_step, run.steps, run.batch, run.trial)
    return log


def _rows(log: SegmentLog) -> list[list[int]]:
    rows: list[list[int]] = np.concatenate(log.look()).tolist()
    return rows


def levels(frames: int, shape: tuple[int, ...], ends: Sequence[tuple[int, int, int]]) -> NDArray[np.int16]:
    """Levels that any language can make: from each of some frames on between two ends.

    With (first, least, most), neuron n has at frame f the level
    least + (7f + 3n² + f·n) % (most - least + 1) if f + n is no multiple of 3, and else 0.
    """
    frame, neuron = np.ogrid[:frames, : int(np.prod(shape))]
    mixed = frame * 7 + neuron * neuron * 3 + frame * neuron
    found = np.zeros(mixed.shape, np.int16)
    for first, least, most in ends:
        drawn = least + mixed % (most - least + 1)
        found[first:] = np.where((frame + neuron) % 3 == 0, 0, drawn)[first:]
    return found.reshape(frames, *shape)


def numbers(frames: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Levels from 0 to 10 as values: of signed types less 5, of floats less 5 and halved."""
    found = levels(frames, shape, [(0, 0, 10)]).astype(np.int64)
    kind = np.dtype(dtype).kind
    return (found / 2 - 2.5 if kind == "f" else found - 5 * (kind == "i")).astype(dtype)
