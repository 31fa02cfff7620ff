"""What numba has compiled is kept on disk where that can be done, and nothing fails where it cannot."""

from __future__ import annotations

import errno
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from processes import finished, python

pytest.importorskip("numba")


@pytest.mark.parametrize("what", ["save", "load"])
def test_a_cache_of_compiled_loops_that_fails_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    from numba.core.caching import IndexDataCacheFile

    from recorder.native.compiling import compiled

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if what == "save" else EOFError("cut short")

    tried = []
    monkeypatch.setattr(IndexDataCacheFile, what, lambda *args: (tried.append(what), fail(*args)))
    assert compiled(_twice(tmp_path))(21) == 42
    assert tried


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_cache_of_compiled_loops_that_was_cut_short_is_written_anew(tmp_path: Path, suffix: str) -> None:
    from recorder.native.compiling import compiled

    twice = _twice(tmp_path)
    assert compiled(twice)(21) == 42
    (kept,) = tmp_path.rglob(f"*.{suffix}")
    whole = kept.stat().st_size
    os.truncate(kept, whole // 2)
    assert compiled(twice)(21) == 42
    again = compiled(twice)
    assert again(21) == 42
    assert sum(again.stats.cache_hits.values()) == 1


def test_a_disk_without_room_for_compiled_loops_is_no_error(tmp_path: Path) -> None:
    # numba finds that it can write to the folder, but no file of the process may grow beyond a few bytes.
    code = f"""
import resource, sys
from recorder.native.compiling import compiled
sys.path.insert(0, {str(tmp_path)!r})
import twice
resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))
print(compiled(twice.twice)(21))
"""
    _twice(tmp_path)
    with python(code, environment={"PYTHONDONTWRITEBYTECODE": "1"}) as process:
        assert finished(process) == "42\n"
    assert not list(tmp_path.rglob("*.nb*"))


def _twice(folder: Path) -> Any:
    """A function in a file of its own, beside which numba keeps what it has compiled."""
    file = folder / "twice.py"
    file.write_text("def twice(number):\n    return 2 * number\n")
    spec = importlib.util.spec_from_file_location("twice", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.twice
