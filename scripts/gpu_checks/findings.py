"""What checks have found, and the file that says so."""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("torch", "triton", "numpy", "zarr", "numcodecs", "numba")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what : str
    is_right : bool or None
        None where a figure is given that has no target here, or nothing could be shown.
    found : str
        Figures, or what is wrong.
    """

    what: str
    is_right: bool | None
    found: str = ""


@dataclass(frozen=True)
class Effort:
    """How long to look.

    Attributes
    ----------
    is_quick : bool
        Sizes so small that everything takes seconds: to see that it runs.
    soak_seconds : float
    scratch : Path
        Empty folder for recordings; removed at the end.
    """

    is_quick: bool
    soak_seconds: float
    scratch: Path

    def store(self) -> Path:
        """Path of a recording that is not there yet."""
        return self.scratch / f"{sum(1 for _ in self.scratch.iterdir())}.zarr"


@dataclass
class Report:
    """All findings; each is printed as it comes."""

    title: str
    sections: dict[str, list[Finding]] = field(default_factory=dict)

    def run(self, name: str, check: Callable[[], Iterator[Finding]]) -> None:
        """Do a check. One that breaks off is a finding, too, and the others go on."""
        print(f"\n## {name}", flush=True)
        findings = self.sections.setdefault(name, [])
        try:
            for finding in check():
                findings.append(finding)
                print(_line(finding), flush=True)
        except Exception as error:  # noqa: BLE001 - whatever breaks, the report has to say it
            traceback.print_exc()
            findings.append(Finding("the check itself", False, f"{type(error).__name__}: {error}"))
            print(_line(findings[-1]), flush=True)

    @property
    def wrong(self) -> list[Finding]:
        """Findings that are not right."""
        return [one for findings in self.sections.values() for one in findings if one.is_right is False]

    def text(self) -> str:
        """The report in Markdown, for BENCHMARKS.md."""
        lines = [f"## {self.title}", "", *describe_machine(), ""]
        for name, findings in self.sections.items():
            lines += [f"### {name}", "", "| what | | found |", "|-|-|-|"]
            lines += [f"| {one.what} | {_MARKS[one.is_right]} | {one.found} |" for one in findings]
            lines.append("")
        wrong = self.wrong
        lines.append(f"**{len(wrong)} not right.**" if wrong else "Everything that was checked is right.")
        return "\n".join(lines) + "\n"


_MARKS = {True: "right", False: "**wrong**", None: "–"}


def describe_machine() -> Sequence[str]:
    """Device, versions, load; no names of hosts or people."""
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        device = f"{about.name}, {about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    else:
        device = (
            "**No CUDA device.** The logic was run on a device that works late, the kernel by Triton's "
            "interpreter: this says nothing of speed, nor of a real device"
        )
    packages = ", ".join(f"{package} {_version(package)}" for package in PACKAGES)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return [
        f"{device}.",
        "",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {packages}; load {load:.1f}; {datetime.now(UTC):%Y-%m-%d}.",
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _line(finding: Finding) -> str:
    return f"{_MARKS[finding.is_right].strip('*'):>6}  {finding.what}: {finding.found}"
