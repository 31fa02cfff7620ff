"""The Python examples in the README run as they are written, in their order, each in a fresh interpreter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def python_blocks(markdown: str) -> list[tuple[int, str]]:
    """Return the line number and the text of each fenced block of Python."""
    fenced = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [(markdown.count("\n", 0, block.start(1)) + 1, block[1]) for block in fenced.finditer(markdown)]


def test_python_blocks_run_in_order(tmp_path: Path) -> None:
    blocks = python_blocks(README.read_text(encoding="utf-8"))
    assert blocks, "README.md has no Python block"
    for line, block in blocks:
        # The folder is shared: the block on analysis opens what the block on recording wrote.
        run = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        if run.returncode:
            pytest.fail(f"the block at README.md:{line} fails:\n{run.stderr}")


def test_blocks_are_found_with_their_lines() -> None:
    markdown = "text\n\n```python\na = 1\nb = 2\n```\n```sh\nno\n```\n```python\nc = 3\n```\n"
    assert python_blocks(markdown) == [(4, "a = 1\nb = 2\n"), (11, "c = 3\n")]
