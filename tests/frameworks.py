"""The frameworks whose networks are recorded, imported where they are installed."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import pytest


def framework(name: str) -> Any:
    """Import a module of a framework, or skip the test, visibly."""
    with warnings.catch_warnings():
        # SpikingJelly 0.0.0.0.14 and norse script functions at import; torch 2.13 warns of it.
        warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as missing:
            pytest.skip(f"{name} cannot be imported: {missing}")
