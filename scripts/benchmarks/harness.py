"""Times competitors side by side, and keeps what came of it as tables and as figures with targets.

Machines are never quiet for long. So competitors take turns (A B C B A C …), a round at a time, and what is
reported is the ratio of their medians, with the range that the ratio had within single rounds: whatever slows
down a whole round leaves its ratios alone.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

Competitor = Callable[[], Any]
Times = dict[str, list[float]]

CHILD_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line.

    Attributes
    ----------
    device : {"cpu", "cuda"}
        Where networks run.
    threads : sequence of int
        Numbers of torch's threads to measure run times with.
    quick : bool
        Sizes so small that all sections take seconds: to see that they run, not to learn how fast.
    scratch : Path
        Empty folder for recordings; removed at the end.
    cache : Path
        Folder for what may be kept between runs: the trained network.
    """

    device: str
    threads: Sequence[int]
    quick: bool
    scratch: Path
    cache: Path

    def folder(self, name: str) -> Path:
        """Path of a new, not yet existing folder below ``scratch``."""
        taken = sum(1 for path in self.scratch.iterdir() if path.name.startswith(name))
        return self.scratch / f"{name}-{taken}"


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians, and the least and largest ratio within one round."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.value)} ({_short(self.low)}–{_short(self.high)})"


@dataclass(frozen=True)
class Figure:
    """A number that has a target.

    Attributes
    ----------
    name : str
    value, low, high : float
        ``low`` and ``high`` are its spread; all three are equal where nothing was timed.
    limit : float
        The target: at least this if ``at_least``, otherwise at most.
    at_least : bool
    reached : bool
    """

    name: str
    value: float
    low: float
    high: float
    limit: float
    at_least: bool
    reached: bool


@dataclass
class Report:
    """Everything measured; tables are printed as they come."""

    tables: list[dict[str, Any]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def table(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = ""
    ) -> None:
        """Print a table in Markdown, its columns aligned."""
        rows = [list(row) for row in rows]
        self.tables.append({"title": title, "columns": list(columns), "rows": rows, "note": note})
        print(f"\n### {title}\n")
        if note:
            print(f"{note}\n")
        print(_markdown([list(columns), *rows]), flush=True)

    def figure(self, name: str, ratio: Ratio | float, limit: float, *, at_least: bool = False) -> None:
        """Note a number that has a target."""
        if not isinstance(ratio, Ratio):
            ratio = Ratio(ratio, ratio, ratio)
        reached = ratio.value >= limit if at_least else ratio.value <= limit
        self.figures.append(Figure(name, ratio.value, ratio.low, ratio.high, limit, at_least, reached))

    def skip(self, what: str) -> None:
        """Say visibly that something was not measured, and why."""
        self.skipped.append(what)
        print(f"\nNot measured: {what}", flush=True)

    def print_figures(self) -> None:
        """Print every figure beside its target."""
        if self.figures:
            rows = [
                [
                    figure.name,
                    str(Ratio(figure.value, figure.low, figure.high))
                    if figure.low < figure.high
                    else _short(figure.value),
                    f"{'≥' if figure.at_least else '≤'} {figure.limit:g}",
                    "reached" if figure.reached else "**not reached**",
                ]
                for figure in self.figures
            ]
            print(f"\n## Targets\n\n{_markdown([['figure', 'measured', 'target', ''], *rows])}", flush=True)

    def write(self, path: Path, **about: Any) -> None:
        """Write everything as JSON."""
        content = {
            **about,
            "figures": [asdict(figure) for figure in self.figures],
            "tables": self.tables,
            "skipped": self.skipped,
        }
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Lap:
    """What a competitor returns that knows which part of its time counts."""

    seconds: float
    answer: Any = None


@dataclass(frozen=True)
class Race:
    """What came of competitors taking turns.

    Attributes
    ----------
    times : dict of str to list of float
        Seconds in each round.
    cpu : dict of str to list of float
        Seconds of processor time in each round, all threads of this process together.
    first : dict of str to float
        Seconds in the round that is not counted.
    answers : dict
        What each competitor returned in that round.
    """

    times: Times
    cpu: Times
    first: dict[str, float]
    answers: dict[str, Any]


def interleave(competitors: Mapping[str, Competitor], rounds: int, device: str = "cpu") -> Race:
    """Let competitors take turns, in another order each round, as each leaves its mark on the heap.

    A round that is not counted goes before, in which files, caches and allocators get warm.

    Parameters
    ----------
    competitors : mapping
        Name → what to time. What it returns is let go of after the clock has stopped.
    rounds : int
    device : {"cpu", "cuda"}
        A CUDA device is waited for at both ends.
    """
    first = {name: _stopwatch(competitor, device) for name, competitor in competitors.items()}
    times: Times = {name: [] for name in competitors}
    cpu: Times = {name: [] for name in competitors}
    order = random.Random(0)  # noqa: S311 - any will do, as long as it is the same again
    for _ in range(rounds):
        for name in order.sample(list(competitors), len(competitors)):
            seconds, cpu_seconds, _ = _stopwatch(competitors[name], device)
            times[name].append(seconds)
            cpu[name].append(cpu_seconds)
    answers = {name: answer for name, (_, _, answer) in first.items()}
    return Race(times, cpu, {name: seconds for name, (seconds, _, _) in first.items()}, answers)


def ratio(times: Times, of: str, to: str) -> Ratio:
    """Median time of one competitor ÷ that of another, with the spread over rounds."""
    single = [one / other for one, other in zip(times[of], times[to], strict=True)]
    return Ratio(median(times[of]) / median(times[to]), min(single), max(single))


def show_seconds(seconds: Sequence[float]) -> str:
    """Median of some times, in a fitting unit."""
    value = median(seconds)
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if value * scale >= 1:
            return f"{_short(value * scale)} {unit}"
    return f"{value * 1e9:.0f} ns"


def run_child(section: str, *arguments: str) -> dict[str, Any]:
    """Run the module of a section in a fresh interpreter; the JSON that it prints last.

    Peak memory is only comparable between processes that did nothing before.
    """
    command = [sys.executable, "-m", f"benchmarks.{section}", *arguments]
    child = subprocess.run(  # noqa: S603 - our own module
        command, stdout=subprocess.PIPE, check=True, text=True, timeout=CHILD_TIMEOUT_SECONDS
    )
    answer: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return answer


def memory_bytes(kind: str) -> int:
    """Resident memory of this process: ``"VmHWM"`` its peak so far, ``"VmRSS"`` now (proc(5)).

    Not ``getrusage``, whose peak a child process inherits from the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


def load() -> float:
    """Processes that wanted to run, on average over the last minute."""
    return os.getloadavg()[0]


def _stopwatch(competitor: Competitor, device: str) -> tuple[float, float, Any]:
    """Seconds, seconds of processor time, and what came of it."""
    gc.collect()
    _synchronize(device)
    started, cpu_started = time.perf_counter(), time.process_time()
    answer = competitor()
    _synchronize(device)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return (
        (answer.seconds, cpu_seconds, answer.answer)
        if isinstance(answer, Lap)
        else (seconds, cpu_seconds, answer)
    )


def _synchronize(device: str) -> None:
    if device == "cuda":
        import torch  # noqa: PLC0415 - analysis is measured without it

        torch.cuda.synchronize()


def _short(value: float) -> str:
    """Three digits, as far as they say something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def _markdown(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
