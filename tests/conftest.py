"""Fixtures that several test modules use."""

from __future__ import annotations

import hypothesis
import pytest

from recorder.format import layout

# How long an example takes is no property of the code; machines differ, and share.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 frames and blocks of 25 chunks whatever the layer, so that little data makes many."""
    monkeypatch.setattr(layout, "CHUNK_TARGET_BYTES", 1)
