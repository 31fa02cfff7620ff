"""The examples in the README run as they are written, in order, each in a fresh interpreter or shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
# What the README calls a web server is one on loopback here, which serves the folder of the examples.
WEB = "https://example.org"


def blocks_of(markdown: str) -> list[tuple[int, str, str]]:
    """Return line number, language and text of each block of Python, and of commands of ours."""
    fenced = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        (markdown.count("\n", 0, block.start(2)) + 1, block[1], block[2])
        for block in fenced.finditer(markdown)
        if block[1] == "python" or block[2].startswith("spiketape ")
    ]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Address of a static file server of the test's folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_blocks_run_in_order(tmp_path: Path, web: str) -> None:
    blocks = blocks_of(README.read_text(encoding="utf-8"))
    assert {language for _, language, _ in blocks} == {"python", "sh"}
    commands = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    for line, language, block in blocks:
        # The folder is shared: the block on analysis opens what the block on recording wrote.
        shell = [sys.executable, "-c"] if language == "python" else ["bash", "-euo", "pipefail", "-c"]
        run = subprocess.run(
            [*shell, block.replace(WEB, web)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if run.returncode:
            pytest.fail(f"the block at README.md:{line} fails:\n{run.stderr}")


def test_blocks_are_found_with_their_lines() -> None:
    markdown = (
        "text\n\n```python\na = 1\nb = 2\n```\n```sh\nno\n```\n```python\nc = 3\n```\n"
        "```sh\nspiketape x\n```\n"
    )
    assert blocks_of(markdown) == [
        (4, "python", "a = 1\nb = 2\n"), (11, "python", "c = 3\n"), (14, "sh", "spiketape x\n"),
    ]  # fmt: skip
