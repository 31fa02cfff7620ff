"""A packed recording in one zip archive, whose entries are not compressed and are read in place.

An `Archive` reads the archive's directory and the requested entries only, so that an archive behind a URL is
not downloaded as a whole. The module `zipfile` parses the directory; its contents are checked here.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from recorder.format import RecordingFormatError, RecordingNotFoundError
from recorder.format.layout import ROOT_DOCUMENT
from recorder.stores.byte_store import ReadOnlyStore

if TYPE_CHECKING:  # which opens archives
    from recorder.stores.byte_store import ByteStore

MAX_DIRECTORY_BYTES: Final = 256 * 2**20

_ENTRY_START: Final = b"PK\x03\x04"
_LOCAL_HEADER: Final = 30
_ENCRYPTED: Final = 1
# Read and written at once.
_BLOCK_BYTES: Final = 2**20
# Every entry has the oldest time that zip can state, so that the same recording makes the same archive.
_TIME: Final = (1980, 1, 1, 0, 0, 0)


class Archive(ReadOnlyStore):
    """A read-only store whose keys are the entries of a zip archive.

    Parameters
    ----------
    outer : ByteStore
        Store that holds the archive.
    name : str
        Key of the archive in that store.
    """

    def __init__(self, outer: ByteStore, name: str) -> None:
        self._outer = outer
        self._name = name
        self._entries: dict[str, tuple[int, int]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Archive, (self._outer, self._name)

    @property
    def location(self) -> str:
        return f"{self._outer.location}/{self._name}"

    @property
    def identity(self) -> str:
        # An archive that is made anew has its entries elsewhere; who has read its directory must not be kept.
        return f"{self._outer.identity}/{self._name} {sorted(self._directory().items())}"

    @property
    def reads_under_way(self) -> int:
        return self._outer.reads_under_way

    def is_there(self) -> bool:
        """True if the stored bytes begin like a zip archive."""
        return self._outer.read_range(self._name, 0, len(_ENTRY_START)) == _ENTRY_START

    def is_empty(self) -> bool:
        return not self._directory()

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        if key == ROOT_DOCUMENT:
            self._entries = None  # whoever opens a recording sees the archive that is there now
        entry = self._directory().get(key)
        if entry is None:
            return None
        if entry[1] > limit_bytes:
            raise RecordingFormatError(
                f"{self.location}/{key} has {entry[1]} bytes, at most {limit_bytes} were expected"
            )
        return self.read_range(key, 0, entry[1])

    def read_range(self, key: str, start: int, size: int) -> bytes | None:
        entry = self._directory().get(key)
        if entry is None:
            return None
        header, available = entry
        start = max(available - size, 0) if start < 0 else start
        begin = self._data_offset(key, header) + start
        return self._outer.read_range(self._name, begin, min(size, max(available - start, 0)))

    def keys(self) -> Iterator[str]:
        return iter(list(self._directory()))

    def size(self, folder: str) -> int:
        inside = f"{folder}/" if folder else ""
        return sum(size for key, (_, size) in self._directory().items() if key.startswith(inside))

    def size_of(self, key: str) -> int | None:
        entry = self._directory().get(key)
        return None if entry is None else entry[1]

    def find_damage(self) -> str | None:
        """Description of the first damage that a zip program would find, or None; reads the whole archive."""
        size = self._outer.size_of(self._name) or 0
        try:
            with zipfile.ZipFile(_Bytes(self._outer, self._name, size)) as archive:
                damaged = archive.testzip()
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            return str(error)
        return None if damaged is None else f"entry {damaged} does not match its own checksum"

    def _data_offset(self, key: str, header: int) -> int:
        """Offset of an entry's bytes in the archive: after the entry's header, whose length varies."""
        found = self._outer.read_range(self._name, header, _LOCAL_HEADER) or b""
        if len(found) < _LOCAL_HEADER or found[:4] != _ENTRY_START:
            raise RecordingFormatError(f"{self.location} has no entry where its directory says {key} is")
        lengths = int.from_bytes(found[26:28], "little") + int.from_bytes(found[28:30], "little")
        return header + _LOCAL_HEADER + lengths

    def _directory(self) -> dict[str, tuple[int, int]]:
        """Offset of the header and size of the content of each entry, by key; read once for each opening."""
        entries = self._entries
        if entries is None:
            size = self._outer.size_of(self._name)
            if size is None:
                raise RecordingNotFoundError(f"no recording at {self.location}: there is no such archive")
            try:
                with zipfile.ZipFile(_Bytes(self._outer, self._name, size)) as archive:
                    infos = archive.infolist()
            # zipfile raises struct.error and other errors for malformed directories.
            except Exception as error:
                if isinstance(error, OSError | RecordingFormatError):
                    raise
                raise RecordingFormatError(f"{self.location} is no zip archive: {error}") from error
            entries = dict(self._checked(info) for info in infos)
            if len(entries) < len(infos):
                raise RecordingFormatError(f"{self.location} has two entries of the same name")
            self._entries = entries
        return entries

    def _checked(self, info: zipfile.ZipInfo) -> tuple[str, tuple[int, int]]:
        is_plain = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
        if not is_plain or info.flag_bits & _ENCRYPTED:
            raise RecordingFormatError(
                f"{self.location}: entry {info.filename!r} is compressed or encrypted. A packed recording's "
                "entries are stored as they are: make it with `spiketape pack`, or with `zip -0`"
            )
        if info.header_offset < 0:
            raise RecordingFormatError(
                f"{self.location} has no entry where its directory says {info.filename} is"
            )
        return info.filename, (info.header_offset, info.file_size)


class _Bytes(io.RawIOBase):
    """The bytes of one key as a file, for `zipfile` to read."""

    def __init__(self, store: ByteStore, key: str, size: int) -> None:
        self._store, self._key, self._size = store, key, size
        self._position = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(f"{self._key} has no byte {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._size if size is None or size < 0 else size
        wanted = max(min(wanted, self._size - self._position), 0)
        if wanted > MAX_DIRECTORY_BYTES:
            raise RecordingFormatError(
                f"{self._store.location}/{self._key} has a directory of {wanted} bytes, at most "
                f"{MAX_DIRECTORY_BYTES} are read"
            )
        found = self._store.read_range(self._key, self._position, wanted) or b""
        self._position += len(found)
        return found


def write_archive(
    folder: Path, path: Path, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> None:
    """Make a zip archive at ``path`` of all files in a folder, without compression.

    ``progress(done, total)`` is called with numbers of bytes, first with none done.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    done, total = 0, sum(file.stat().st_size for file in files)
    progress(done, total)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            info = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _TIME)
            info.external_attr = 0o644 << 16
            with file.open("rb") as source, archive.open(info, "w", force_zip64=True) as entry:
                while block := source.read(_BLOCK_BYTES):
                    entry.write(block)
                    done += len(block)
                    progress(done, total)
