"""The base class of the stores of packed recordings, which are never changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NoReturn

from recorder.format import StoreError


class ReadOnlyStore:
    """The writing methods of `recorder.stores.byte_store.ByteStore`, each of which raises StoreError."""

    @property
    def location(self) -> str:
        """Path or URL to show to people."""
        raise NotImplementedError

    def write(self, key: str, data: bytes) -> None:
        self._refuse()

    def write_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        self._refuse()

    def write_new(self, key: str, data: bytes) -> bool:
        self._refuse()

    def exclusively(self) -> AbstractContextManager[None]:
        self._refuse()

    def persist(self) -> None:
        self._refuse()

    def delete(self, key: str) -> None:
        self._refuse()

    def clear(self, groups: Sequence[str]) -> None:
        self._refuse()

    def remove_leftovers(self) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise StoreError(
            f"{self.location} is packed for keeping, and only read; choose a folder or a bucket to write to"
        )
