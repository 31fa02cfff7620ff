"""Which git commit the running program is of, read from the repository's files; git itself is not run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_COMMIT: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_LIMIT_BYTES: Final = 2**24


def find_git_commit(place: Path) -> str | None:
    """The commit checked out in the repository that holds ``place``; None if that cannot be told.

    What has been changed since the commit is not looked at.
    """
    try:
        for folder in (place, *place.parents):
            if (folder / ".git").exists():
                return _head(folder / ".git")
    except (OSError, UnicodeDecodeError):
        pass
    return None


def _head(git: Path) -> str | None:
    if git.is_file():  # of a work tree, or a submodule
        git = git.parent / _read(git).removeprefix("gitdir:").strip()
    shared = git / "commondir"
    common = git / _read(shared).strip() if shared.is_file() else git
    head = _read(git / "HEAD").strip()
    if not head.startswith("ref:"):
        return _commit(head)
    reference = head.removeprefix("ref:").strip()
    for folder in (git, common):
        if (folder / reference).is_file():
            return _commit(_read(folder / reference).strip())
    if not (common / "packed-refs").is_file():
        return None  # nothing has been committed yet
    lines = (line.split(" ") for line in _read(common / "packed-refs").splitlines())
    return next((_commit(line[0]) for line in lines if line[1:] == [reference]), None)


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(_LIMIT_BYTES)


def _commit(text: str) -> str | None:
    return text if _COMMIT.fullmatch(text) else None
