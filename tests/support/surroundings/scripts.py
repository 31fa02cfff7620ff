"""Scripts of the project as modules, for tests that run them for a moment."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

SCRIPTS = Path(__file__).parents[3] / "scripts"


def script(name: str) -> ModuleType:
    """The script ``scripts/<name>.py``, imported once."""
    key = name.rpartition("/")[2]
    if key not in sys.modules:
        specification = importlib.util.spec_from_file_location(key, SCRIPTS / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[key] = module  # where dataclasses look for their annotations
        specification.loader.exec_module(module)
    return sys.modules[key]
