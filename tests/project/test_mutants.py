"""The mutants still break the code that is there; scripts/mutants tries whether their tests notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import script

ROOT = Path(__file__).parents[2]
mutants = script("attacks/mutants")


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_breaks_code_that_is_there_and_names_a_test_that_is_there(mutant: mutants.Mutant) -> None:  # type: ignore[name-defined]
    file, test = mutant.test.split("::")
    assert f"def {test.partition('[')[0]}(" in (ROOT / "tests" / file).read_text()
    changed: dict[str, str] = {}
    for name, old, new in mutant.changes:
        text = changed.get(name) or (ROOT / name).read_text()
        assert text.count(old) == 1
        changed[name] = text.replace(old, new)
