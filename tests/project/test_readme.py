"""The examples in the README run as they are written, in their order, each in a fresh interpreter.

Those in Python and in bash are run; those in sh, which need machines that tests do not have, are not. One
that begins with the name of a file is saved under it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
# What the README calls a web server is one on loopback here, which serves the folder of the examples.
WEB = "https://example.org"


def examples(markdown: str) -> list[tuple[int, str, str]]:
    """Return the line number, the language and the text of each fenced block that is to be run."""
    fenced = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        (markdown.count("\n", 0, block.start(2)) + 1, block[1], block[2])
        for block in fenced.finditer(markdown)
    ]


def command(language: str, text: str) -> list[str]:
    return [sys.executable, "-c", text] if language == "python" else ["bash", "-euo", "pipefail", "-c", text]


def test_examples_run_in_order(tmp_path: Path, web: str) -> None:
    found = examples(README.read_text(encoding="utf-8"))
    assert {language for _, language, _ in found} == {"python", "bash"}
    # The commands that are installed with us; threads of several processes would wait for each other.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    for line, language, text in found:
        name = re.match(r"# (\w+\.py)\n", text)
        if name:
            (tmp_path / name[1]).write_text(text, encoding="utf-8")
            continue
        # The folder is shared: the block on analysis opens what the block on recording wrote.
        run = subprocess.run(
            command(language, text.replace(WEB, web)),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            pytest.fail(f"the example at README.md:{line} fails:\n{run.stderr}")


def test_examples_are_found_with_their_lines() -> None:
    markdown = "text\n\n```python\na = 1\nb = 2\n```\n```sh\nno\n```\n```bash\nls\n```\n"
    assert examples(markdown) == [(4, "python", "a = 1\nb = 2\n"), (11, "bash", "ls\n")]
