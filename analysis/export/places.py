"""Where an export is written: names of folders, and that it is there as a whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from analysis.arguments import QuestionError

# Bytes of a name in a folder's: file systems take 255, and some readers put more behind it.
_LONGEST: Final = 180
# What readers of such folders take for no value.
_NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"


@contextmanager
def written_whole(out: str | os.PathLike[str], suffix: str = "") -> Iterator[Path]:
    """A place beside ``out`` to write to, which gets its name at the end; what failed is removed.

    A process that is killed leaves ``<out>.<16 hexadecimal digits>.partial``, which is no export; ``suffix``
    is put behind that.

    Raises
    ------
    QuestionError
        If something is there already, or ``out`` is no place in a file system.
    """
    if "://" in os.fspath(out):
        raise QuestionError(
            f"{os.fspath(out)!r} is a URL; expected a path: export there, and copy it from there"
        )
    target = Path(out).expanduser().absolute()
    _refuse_taken(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{secrets.token_hex(8)}.partial{suffix}")
    try:
        yield partial
        _refuse_taken(target)
        partial.rename(target)
    finally:
        _remove(partial)


def _remove(partial: Path) -> None:
    """Remove a file or a folder, in which tasks that nobody waits for may still be writing."""
    for _ in range(100):
        if not os.path.lexists(partial):
            return
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def _refuse_taken(target: Path) -> None:
    if os.path.lexists(target):
        raise QuestionError(
            f"{target} exists, and an export never replaces anything; give another name, or remove it first"
        )


def layer_folders(names: Iterable[str]) -> dict[str, str]:
    """Name of the folder of each layer, as Hive writes them: ``layer=`` and the name, percent-encoded.

    So no name leads elsewhere, and readers decode it. Where two differ by case only, which some file systems
    do not tell apart, all characters of the second are encoded. Names that are too long are cut, and end in a
    hash: ``~`` and 32 hexadecimal digits.
    """
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        encoded = _encoded(name, everything=_encoded(name).lower() in taken)
        taken.add(_encoded(name).lower())
        folders[name] = f"layer={encoded}"
    return folders


def _encoded(name: str, *, everything: bool = False) -> str:
    raw = name.encode("utf-8", "surrogatepass")
    if everything:
        encoded = "".join(f"%{byte:02X}" for byte in raw)
    else:
        encoded = quote(raw, safe="").replace("~", "%7E")
        if name == _NO_VALUE:
            encoded = f"%5F{encoded[1:]}"
    if len(encoded) <= _LONGEST:
        return encoded
    cut = re.sub("%.?$", "", encoded[: _LONGEST - 33])
    return f"{cut}~{hashlib.sha256(raw).hexdigest()[:32]}"
