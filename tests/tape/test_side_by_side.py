"""Keys of a commit are written side by side where each write waits, and never out of order."""

from __future__ import annotations

import threading

import pytest

from faults import DiskError, FaultyStore, VolatileStore
from recorder.tape.threads import side_by_side
from recorder.tape.threads.side_by_side import SideBySide


class Meeting(VolatileStore):
    """A store each of whose writes waits until another one is under way, too."""

    def __init__(self) -> None:
        super().__init__(writes_under_way=2)
        self.barrier = threading.Barrier(2, timeout=30)

    def write(self, key: str, data: bytes) -> None:
        self.barrier.wait()
        super().write(key, data)


def test_two_keys_are_written_at_the_same_time() -> None:
    store = Meeting()
    writes = SideBySide(store)
    writes.write("a", b"1")
    writes.write("b", b"2")
    writes.finish()
    assert (store.read("a", 9), store.read("b", 9)) == (b"1", b"2")
    writes.close()


@pytest.mark.parametrize("together", [1, 4])
def test_a_key_that_is_written_again_has_the_later_bytes(together: int) -> None:
    store = VolatileStore(together)
    writes = SideBySide(store)
    for number in range(200):
        writes.write(f"{number % 3}", b"%d" % number)
    writes.finish()
    assert [store.read(key, 9) for key in "012"] == [b"198", b"199", b"197"]
    writes.close()


@pytest.mark.parametrize("together", [1, 4])
def test_what_is_ready_is_not_seen_before_it_is_put_in_its_place(together: int) -> None:
    store = VolatileStore(together)
    writes = SideBySide(store)
    place = writes.ready("a", b"1")
    writes.finish()
    assert store.read("a", 9) is None
    place()
    assert store.read("a", 9) == b"1"
    writes.close()


def test_a_write_that_fails_is_told_at_the_end_after_all_others_were_done() -> None:
    inner = VolatileStore(4)
    writes = SideBySide(FaultyStore(inner, lambda _, __, key: key == "1"))
    for key in "0123":
        writes.write(key, b"")
    with pytest.raises(DiskError, match="write 1"):
        writes.finish()
    assert sorted(inner.keys()) == ["0", "2", "3"]
    writes.finish()
    writes.close()


def test_bytes_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "HELD_BYTES", 100)
    gate, written = threading.Event(), []

    class Slow(VolatileStore):
        def write(self, key: str, data: bytes) -> None:
            gate.wait(30)
            written.append(key)

    writes = SideBySide(Slow(4))
    writes.write("a", bytes(60))
    writes.write("b", bytes(40))
    assert written == []
    gate.set()
    writes.write("c", b"1")
    assert {*written} >= {"a", "b"}
    writes.finish()
    writes.close()
