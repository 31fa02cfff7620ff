"""Work in a second thread."""

from __future__ import annotations

import threading
from collections.abc import Callable


def in_thread(work: Callable[[], object]) -> list[BaseException]:
    """What a thread named "second" raises while it does some work."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            raised.append(error)

    thread = threading.Thread(target=run, name="second")
    thread.start()
    thread.join()
    return raised
