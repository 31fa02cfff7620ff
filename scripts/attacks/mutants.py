"""Break the code on purpose, one promise at a time, in a copy of the repository: a named test must notice.

With arguments, only the mutants whose names contain one of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300
sys.path.append(str(ROOT / "scripts" / "attacks"))

from broken import MUTANTS, Mutant  # noqa: E402 - found by the line before


def notices(mutant: Mutant) -> bool:
    """Whether the mutant's test fails."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".environments", ".git", "*_cache"))
        for file, old, new in mutant.changes:
            text = (copy / file).read_text()
            if text.count(old) != 1:
                raise SystemExit(f"{mutant.name}: {file} has {old!r} {text.count(old)} times, expected once")
            (copy / file).write_text(text.replace(old, new))
        result = subprocess.run(  # noqa: S603 - our own tests
            [sys.executable, "-m", "pytest", "-q", "-x", f"tests/{mutant.test}"],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    if result.returncode not in {0, 1}:
        raise SystemExit(f"{mutant.name}: the test could not be run\n{result.stdout}{result.stderr}")
    return result.returncode == 1


def main(wanted: list[str]) -> None:
    """Try the mutants."""
    survivors = []
    for mutant in MUTANTS:
        if wanted and not any(word in mutant.name for word in wanted):
            continue
        noticed = notices(mutant)
        print(f"{'noticed ' if noticed else 'SURVIVED'}  {mutant.name}: {mutant.test}", flush=True)
        if not noticed:
            survivors.append(mutant.name)
    if survivors:
        raise SystemExit(f"{len(survivors)} mutant(s) survived: {', '.join(survivors)}")


if __name__ == "__main__":
    main(sys.argv[1:])
