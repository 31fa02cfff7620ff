"""The demo runs: a network is trained, recorded and analysed; the guide asks its recording."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])
GUIDE = ROOT / "analysis" / "GUIDE.md"
# Other processors round otherwise, and so train another network: figures may differ by so much.
RELATIVE, ABSOLUTE = 0.2, 0.02
# Of the largest number of an answer; counts of few among many differ more.
SHARE = 0.02
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"demonstration.{module}", *arguments]
    environment = {**os.environ, "PYTHONPATH": PATH}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the demo has recorded to, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, run("record", str(folder))


def test_demo_records_and_reports(demo: tuple[Path, str]) -> None:
    folder, recorded = demo
    assert (folder / "digits.zarr" / "zarr.json").is_file()
    # Chance is 10 %.
    percent = float(recorded.rpartition("%")[0].rpartition(" ")[2])
    assert percent > 90
    # A log has a line for each epoch, and nothing that changes in place.
    assert re.search(r"\nEpoch 1 of 2: loss 0\.\d+\nEpoch 2 of 2: loss 0\.\d+\nRecorded", recorded)
    assert not re.search("[\r\x1b]", recorded)

    reported = run("report", str(folder))
    for layer in ("conv1.spikes", "conv2.spikes", "output.spikes"):
        assert layer in reported
    assert (folder / "digits.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "digits.html").as_uri() in reported
    assert "conv2.spikes" in (folder / "digits.html").read_text()


class SameToWithinRounding(doctest.OutputChecker):
    """Words are the same, and numbers about the same."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        # Without blanks, of which numbers with fewer digits have more.
        if NUMBER.sub("#", "".join(want.split())) != NUMBER.sub("#", "".join(got.split())):
            return False
        wanted, found = (np.array(NUMBER.findall(text), float) for text in (want, got))
        among_many = SHARE * np.abs(wanted).max(initial=0)
        return bool(np.allclose(found, wanted, rtol=RELATIVE, atol=max(ABSOLUTE, among_many)))


@pytest.mark.filterwarnings("ignore::analysis.questions.UncoveredOperationsWarning")
def test_the_guide_answers_as_it_says(demo: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo[0].parent)
    demo[0].rename(demo[0].parent / "demo-output")
    text = GUIDE.read_text(encoding="utf-8").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, GUIDE.name, str(GUIDE), 0)
    assert len(test.examples) > 20
    runner = doctest.DocTestRunner(SameToWithinRounding(), verbose=False)
    said: list[str] = []
    runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)


def test_the_guide_would_notice_another_answer() -> None:
    checker = SameToWithinRounding()
    assert checker.check_output("[0.50 0.6]\n", "[0.52  0.61]\n", 0)
    assert not checker.check_output("[0.50 0.6]\n", "[0.72  0.61]\n", 0)
    assert checker.check_output("[3745 63 0]\n", "[3715 85 2]\n", 0)
    assert not checker.check_output("[3745 63 0]\n", "[3745 163 0]\n", 0)
    assert not checker.check_output("label 7\n", "layer 7\n", 0)
