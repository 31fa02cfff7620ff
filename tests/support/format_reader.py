"""A reader of recordings that was written from FORMAT.md alone, with nothing of ours.

With `format_arrays` and `format_layers` it needs the standard library, numpy, and bindings of zstd and
crc32c. It reads whole recordings, and checks whatever the commit record promises; what does not fit raises
AssertionError.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from format_arrays import Array, Stored, as_json, crc32c, folder_of, sha256
from format_layers import LayerFrames, Operations, fan_out

MISSING = -(2**63)


class FormatReader(Stored):
    """A whole recording: ``record`` is its commit record, ``layers`` and ``columns`` what it holds.

    ``operations`` are None where none were counted.
    ``fan_outs`` has those that the connections list, by layer and reader: all, and without weights of 0.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.layers = {layer["name"]: LayerFrames(self, layer) for layer in self.record["layers"]}
        self.columns = {column["name"]: self._column(column) for column in self.record["trials"]["columns"]}
        self.fan_outs = {
            layer: {reader["name"]: self._fan_outs(layer, reader) for reader in readers}
            for layer, readers in self.record.get("connections", {"layers": {}})["layers"].items()
            if layer in self.layers
        }
        counted = self.record.get("operations")
        self.operations = None if counted is None else Operations(self, counted)
        if self.shard_bytes:
            assert self.record["digest"] == self.digest()

    def _fan_outs(self, layer: str, reader: Any) -> tuple[Array, Array | None]:
        shape, kept = tuple(self.layers[layer].about["neuron_shape"]), reader["nonzero_fan_out"]
        return fan_out(reader["fan_out"], shape), None if kept is None else fan_out(kept, shape)

    # -- trials -------------------------------------------------------------------------------------------

    def _column(self, column: Any) -> list[Any]:
        """Values of a column of the trials; None where they are missing."""
        rows, name = self.record["trials"]["rows"], column["name"]
        dtype = "<f8" if column["kind"] == "float64" else "<i8"
        array = f"trials/{folder_of(name)}"
        stored = self.committed(array, dtype, {"rows": rows, "crc32c": column["crc32c"]})
        if column["kind"] == "float64":
            return [None if math.isnan(value) else value for value in stored.tolist()]
        if column["kind"] == "int64":
            assert column["categories"] == []
            return [None if value == MISSING else value for value in stored.tolist()]
        categories = column["categories"]
        if isinstance(categories, dict):
            data = self.table(f"categories/{folder_of(name)}", "u1", categories["rows"], most=2**18).tobytes()
            assert crc32c(data) == categories["crc32c"]
            lines = data.decode().split("\n")
            assert lines.pop() == ""
            assert len(lines) == categories["count"]
            categories = [json.loads(line) for line in lines]
        return [None if place == -1 else categories[place] for place in stored.tolist()]

    # -- digest -------------------------------------------------------------------------------------------

    def digest(self) -> str:
        trials = self.record["trials"]
        kinds = {column["name"]: column["kind"] for column in trials["columns"]}
        columns = {name: self._hashed(kinds[name], values) for name, values in self.columns.items()}
        layers = [layer.hashed() for layer in self.layers.values()]
        found = {
            "spiketape_digest": 1,
            "layers": layers,
            "trials": {"trials": trials["trials"], "rows": trials["rows"], "columns": columns},
            **({"operations": self.operations.hashed()} if self.operations is not None else {}),
        }
        return sha256(as_json(found))

    @staticmethod
    def _hashed(kind: str, values: list[Any]) -> dict[str, str]:
        if kind == "category":
            data = as_json([value + 0.0 if isinstance(value, float) else value for value in values])
        elif kind == "int64":
            data = np.array([MISSING if value is None else value for value in values], "<i8").tobytes()
        else:
            present = np.array([0.0 if value is None else value + 0.0 for value in values], "<f8")
            bits = present.view("<u8").copy()
            bits[[value is None for value in values]] = 0x7FF8000000000000
            data = bits.tobytes()
        return {"kind": kind, "values": sha256(data)}
