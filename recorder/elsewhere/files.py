"""Files of spikes, of one layer or several: arrays (.npy, .npz, .pt) and tables of events (.npz, .parquet).

Arrays in .npy files and tables in Parquet are read some at a time, so that they may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from recorder.elsewhere.events import EventTable, Several

KINDS: Final = (".npy", ".npz", ".parquet", ".pt", ".pth")
# Columns that a table has, and a file of arrays for layers has not.
_TIMES: Final = ("step", "time")
_ROWS_READ: Final = 2**18


@dataclass(frozen=True)
class TableSizes:
    """What does not stand in tables of events.

    Attributes
    ----------
    neurons : mapping
        Shape of each layer; of the name ``""`` that of all others.
    steps, trials : int, optional
    samples : int
    several : {"error", "count", "once"}
        As of `EventTable`.
    """

    neurons: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    steps: int | None = None
    samples: int = 1
    trials: int | None = None
    several: Several = "error"


def read_layers(files: Sequence[str], sizes: TableSizes, opened: ExitStack) -> dict[str, Any]:
    """The layers in some files, as `write_recording` takes them.

    Parameters
    ----------
    files : sequence of str
        Paths, or ``NAME=PATH``. The name of a layer that a file holds alone is by default that of the file,
        without its suffix; in ``.npz`` and ``.pt`` files of several arrays layers have names of their own, as
        in tables with a column ``layer``.
    sizes : TableSizes
    opened : ExitStack
        Closes the files at its end.

    Raises
    ------
    ValueError
        If a file is of an unknown kind, cannot be understood, or has a layer that another one has.
    OSError
        If it cannot be read.
    ModuleNotFoundError
        If it needs pyarrow or torch, and that is not installed.
    """
    layers: dict[str, Any] = {}
    for text in files:
        name, path = _named(text)
        found = _read_file(name, path, sizes, opened)
        twice = sorted(found.keys() & layers.keys())
        if twice:
            raise ValueError(f"{path}: layer {twice[0]!r} is in another file, too; name it: NAME={path}")
        layers |= found
    return layers


def read_labels(path: Path) -> Any:
    """Labels in a ``.npy`` file, or in a text file with one on each line."""
    if path.suffix != ".npy":
        return path.read_text(encoding="utf-8").splitlines()
    return _loaded(path)


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    # A path may hold the sign, too.
    if equals and not Path(text).exists():
        return name, Path(path)
    return "", Path(text)


def _read_file(name: str, path: Path, sizes: TableSizes, opened: ExitStack) -> dict[str, Any]:
    name = name or path.stem
    if path.suffix == ".npy":
        return {name: _loaded(path, mmap_mode="r")}
    if path.suffix == ".npz":
        return _of_mapping(name, path, opened.enter_context(_loaded(path)), sizes)
    if path.suffix == ".parquet":
        return _of_parquet(name, path, sizes, opened)
    if path.suffix in (".pt", ".pth"):
        torch = import_module("torch")
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return _of_mapping(name, path, found, sizes) if isinstance(found, Mapping) else {name: found}
    raise ValueError(f"{path} is no file of a known kind; expected one of {', '.join(KINDS)}")


def _loaded(path: Path, **options: Any) -> Any:
    try:
        return np.load(path, allow_pickle=False, **options)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as a file of numpy: {error}") from error


def _of_mapping(name: str, path: Path, found: Any, sizes: TableSizes) -> dict[str, Any]:
    """Arrays for layers by name, or the columns of one table."""
    if not any(column in found for column in _TIMES):
        return {str(key): found[key] for key in found}
    columns = {str(key): np.asarray(found[key]) for key in found}
    if "layer" not in columns:
        return {name: _table(name, path, columns, sizes)}
    own = columns["layer"]
    _refuse_unknown(path, np.unique(own), sizes)
    return {
        layer: _table(layer, path, {key: values[own == layer] for key, values in columns.items()}, sizes)
        for layer in sizes.neurons
        if layer
    }


def _of_parquet(name: str, path: Path, sizes: TableSizes, opened: ExitStack) -> dict[str, Any]:
    parquet, compute = import_module("pyarrow.parquet"), import_module("pyarrow.compute")
    invalid = import_module("pyarrow").ArrowInvalid

    def batches(layer: str | None) -> Iterator[Any]:
        # Each layer reads the file by itself, as all of them are read side by side.
        for batch in opened.enter_context(parquet.ParquetFile(path)).iter_batches(_ROWS_READ):
            if layer is None:
                yield batch
                continue
            _refuse_unknown(path, np.asarray(compute.unique(batch.column("layer"))), sizes)
            own = batch.filter(compute.equal(batch.column("layer"), layer))
            if len(own):
                yield own

    try:
        names = parquet.read_schema(path).names
    except invalid as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
    if "layer" not in names:
        return {name: _table(name, path, batches(None), sizes)}
    named = [layer for layer in sizes.neurons if layer]
    if not named:
        _refuse_unknown(path, np.empty(0), sizes)
    return {layer: _table(layer, path, batches(layer), sizes) for layer in named}


def _refuse_unknown(path: Path, layers: Any, sizes: TableSizes) -> None:
    known = {name for name in sizes.neurons if name}
    unknown = [layer for layer in layers.tolist() if layer not in known]
    if unknown or not known:
        what = f"has events of layer {unknown[0]!r}" if unknown else "has a column layer"
        raise ValueError(f"{path} {what}, of which the neurons are not said: --neurons NAME=SHAPE, for each")


def _table(layer: str, path: Path, events: Any, sizes: TableSizes) -> EventTable:
    neurons = sizes.neurons.get(layer, sizes.neurons.get(""))
    if neurons is None or sizes.steps is None:
        raise ValueError(
            f"{path} is a table of events; how many neurons and steps there are does not stand in it: "
            "--neurons SHAPE --steps N"
        )
    return EventTable(
        events,
        neurons=neurons,
        steps=sizes.steps,
        samples=sizes.samples,
        trials=sizes.trials,
        several=sizes.several,
    )
