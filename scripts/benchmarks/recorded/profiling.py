"""Where the time of a recorded run goes: by looking at its threads many times a second.

The thread that looks needs the interpreter lock, and so sees a moment at which another hands it over.
Libraries compute without the lock, and most of a run is that: the shares are fair enough.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from spikingjelly.activation_based.neuron import LIFNode

import recorder
from benchmarks.data import show_often, test_images, trained_network
from benchmarks.harness import Options, Report
from benchmarks.peers import record_spiketape

INTERVAL_SECONDS = 0.002
LEAST_SHARE = 0.005
WRITER = "spiketape-writer"

_RECORDER = str(Path(recorder.__file__).parent)


def measure_profile(options: Options, report: Report) -> None:
    """Shares of time of the thread that runs the network, and of the one that writes."""
    network = trained_network(options.cache, quick=options.quick)
    images = test_images(options.device)
    network.to(options.device)
    with _samples() as seen, record_spiketape(network, LIFNode, options.folder("profile")):
        show_often(network, images, 1 if options.quick else 60)
    rows = []
    for thread, places in seen.items():
        total = sum(places.values())
        rows += [
            [thread, place, f"{count / total:.1%}"]
            for place, count in places.most_common()
            if count / total >= LEAST_SHARE
        ]
    samples = sum(map(sum, (places.values() for places in seen.values())))
    report.table(
        "Where the time of a recorded run goes",
        ["thread", "innermost function of the recorder", "share"],
        rows,
        f"Digits network, batch 64; {samples:,} samples. What the recorder calls counts as its own.",
    )


@contextmanager
def _samples() -> Iterator[dict[str, Counter[str]]]:
    """Look at this thread and the recorder's until left; what they were at."""
    seen: dict[str, Counter[str]] = {"network": Counter(), "writer": Counter()}
    network, done = threading.get_ident(), threading.Event()

    def look() -> None:
        while not done.wait(INTERVAL_SECONDS):
            writers = {thread.ident for thread in threading.enumerate() if thread.name == WRITER}
            for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way to look
                if ident == network:
                    seen["network"][_place(frame) or "none: the network itself"] += 1
                elif ident in writers:
                    seen["writer"][_place(frame) or "none"] += 1

    thread = threading.Thread(target=look, name="benchmark-profile", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _place(frame: FrameType | None) -> str | None:
    """The innermost function of the recorder on a stack."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_RECORDER):
            module = Path(frame.f_code.co_filename).relative_to(_RECORDER).with_suffix("").as_posix()
            return f"{module.replace('/', '.')}: {frame.f_code.co_qualname}"
        frame = frame.f_back
    return None
