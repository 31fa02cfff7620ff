"""The mutants still break the code that is there; scripts/mutants tries whether their tests notice."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
specification = importlib.util.spec_from_file_location("mutants", ROOT / "scripts/attacks/mutants.py")
assert specification is not None
assert specification.loader is not None
mutants = importlib.util.module_from_spec(specification)
sys.modules["mutants"] = mutants  # where dataclasses look for their annotations
specification.loader.exec_module(mutants)


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_breaks_code_that_is_there_and_names_a_test_that_is_there(mutant: mutants.Mutant) -> None:  # type: ignore[name-defined]
    file, test = mutant.test.split("::")
    assert f"def {test.partition('[')[0]}(" in (ROOT / "tests" / file).read_text()
    changed: dict[str, str] = {}
    for name, old, new in mutant.changes:
        text = changed.get(name) or (ROOT / name).read_text()
        assert text.count(old) == 1
        changed[name] = text.replace(old, new)
