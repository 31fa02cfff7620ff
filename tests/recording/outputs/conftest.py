"""Libraries whose packages ask for more than their neurons need."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from frameworks import framework


@pytest.fixture
def bare() -> Iterator[Callable[..., Any]]:
    """Import a module of a package without running the ``__init__`` of the packages it lies in."""
    made: list[str] = []

    def load(module: str, *packages: str) -> Any:
        found = importlib.util.find_spec(packages[0])
        if found is None or not found.submodule_search_locations:
            pytest.skip(f"{packages[0]} is not installed")
        top = Path(next(iter(found.submodule_search_locations)))
        for package in packages:
            stand_in = types.ModuleType(package)
            stand_in.__path__ = [str(top.joinpath(*package.split(".")[1:]))]
            sys.modules[package] = stand_in
            made.append(package)
        return framework(module)

    yield load
    for package in made:
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]
