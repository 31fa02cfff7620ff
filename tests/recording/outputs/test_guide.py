"""The guide's example for each library runs as it is written; one that cannot be imported is passed by."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import analysis

GUIDE = Path(__file__).parents[3] / "recorder" / "GUIDE.md"
EXAMPLES = re.findall(r"(?ms)^```python library\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"))


def store_of(example: str) -> str:
    return re.findall(r'store="(.*?)"', example)[0]


@pytest.mark.parametrize("example", EXAMPLES, ids=store_of)
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_the_example_of_each_library_records_spikes(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    library = next(iter(re.findall(r"(?m)^(?:from|import) (braincog|bindsnet)", example)), None)
    if library == "braincog":
        bare("braincog.base.node.node", "braincog", "braincog.base", "braincog.base.strategy")
    elif library == "bindsnet":
        bare("bindsnet.network", "bindsnet")
    try:
        exec(compile(example, str(GUIDE), "exec"), {})  # noqa: S102 - our own
    except ModuleNotFoundError as missing:
        pytest.skip(f"{missing}")
    recording = analysis.open_recording(tmp_path / store_of(example))
    assert recording.steps == 16
    rates = recording.firing_rate("layer").values
    assert 0 < rates.max() < 1
