"""The examples in the README and the guides run as they are written, in order, each in a process of its own.

Later documents go on with what earlier ones have recorded. Those in Python and in bash are run; those in sh,
which need machines that tests do not have, are not. One that begins with the name of a file is saved under
it. Questions with their answers are left to test_demo.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forking import Forked
from web import serving

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "recorder/GUIDE.md", "analysis/GUIDE.md")
# What the README calls a web server is one on loopback here, which serves the folder of the examples.
WEB = "https://example.org"


def examples(markdown: str) -> list[tuple[int, str, str]]:
    """Return the line number, the language and the text of each fenced block that is to be run."""
    fenced = re.compile(r"^```(python|bash)\n((?!>>>).*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        (markdown.count("\n", 0, block.start(2)) + 1, block[1], block[2])
        for block in fenced.finditer(markdown)
    ]


def run_example(language: str, text: str, folder: Path) -> tuple[int | None, str]:
    """Exit status of an example, and what it prints as errors."""
    # The commands that are installed with us; threads of several processes would wait for each other.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    if language == "python":
        # It imports what lies in the folder, as any does that is given on the command line.
        example = Forked(text, environment={**environment, "PYTHONPATH": str(folder)}, folder=folder)
        _, errors = example.communicate()
        return example.returncode, errors
    command = ["bash", "-euo", "pipefail", "-c", text]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return run.returncode, run.stderr


class Reader:
    """Somebody who reads the documents in their order, and does what they say in one folder."""

    def __init__(self, folder: Path, web: str) -> None:
        self.folder = folder
        self.web = web
        self.read: list[str] = []

    def go_on_to(self, document: str) -> None:
        for earlier in DOCUMENTS[len(self.read) : DOCUMENTS.index(document) + 1]:
            self.run(earlier)
            self.read.append(earlier)

    def run(self, document: str) -> None:
        for line, language, text in examples((ROOT / document).read_text(encoding="utf-8")):
            name = re.match(r"# (\w+\.py)\n", text)
            if name:
                (self.folder / name[1]).write_text(text, encoding="utf-8")
                continue
            # The folder is shared: the block on analysis opens what the block on recording wrote.
            status, errors = run_example(language, text.replace(WEB, self.web), self.folder)
            if status:
                pytest.fail(f"the example at {document}:{line} fails:\n{errors}")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("examples")
    with serving(folder) as address:
        yield Reader(folder, address)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_examples_run_in_order(document: str, reader: Reader) -> None:
    reader.go_on_to(document)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_of_documents_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, heading = target.partition("#")
        if file.startswith("https://"):
            continue
        found = (ROOT / document).parent / file if file else ROOT / document
        assert found.exists(), target
        headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
        known = {re.sub(r"[^\w\- ]", "", each).lower().replace(" ", "-") for each in headings}
        assert not heading or heading in known, target


def test_the_errors_in_the_guide_are_those_that_the_code_has() -> None:
    files = [path for room in ("recorder", "analysis") for path in (ROOT / room).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # text that goes on in the next line
    guide = (ROOT / "recorder/GUIDE.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| (`.*?`) \| ", guide, re.MULTILINE)
    assert len(told) > 10
    for message in told:
        for part in re.findall(r"[^`…,]{4,}", message):
            assert part.strip() in code, message


def test_examples_are_found_with_their_lines() -> None:
    markdown = "text\n\n```python\na = 1\nb = 2\n```\n```sh\nno\n```\n```bash\nls\n```\n"
    assert examples(markdown) == [(4, "python", "a = 1\nb = 2\n"), (11, "bash", "ls\n")]
