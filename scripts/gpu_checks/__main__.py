"""Checks on a GPU all that runs there, and writes a file for BENCHMARKS.md; without one, on a late device."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gpu_checks.costs import check_rate, check_run_time, check_stream
from gpu_checks.devices import Device, device_to_check
from gpu_checks.exactness import check_exactness
from gpu_checks.findings import Effort, Finding, Report
from gpu_checks.soak import check_soak
from gpu_checks.tests import check_tests

CHECKS: Mapping[str, Callable[[Device, Effort], Iterator[Finding]]] = {
    "tests": check_tests,
    "exactness": check_exactness,
    "stream": check_stream,
    "run time": check_run_time,
    "rate": check_rate,
    "soak": check_soak,
}


def main() -> int:
    """Do the checks asked for; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="scripts/gpu_check", description=__doc__)
    parser.add_argument("--check", action="append", choices=CHECKS, help="only this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: see that everything runs")
    parser.add_argument("--soak-minutes", type=float, default=10.0, help="how long memory is looked at")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", default=Path("gpu-check.md"), help="report"
    )
    arguments = parser.parse_args()
    seconds = 3.0 if arguments.quick else 60 * arguments.soak_minutes
    report = Report("On a GPU")
    with device_to_check() as device, tempfile.TemporaryDirectory(prefix="spiketape-gpu-check-") as scratch:
        effort = Effort(is_quick=arguments.quick, soak_seconds=seconds, scratch=Path(scratch))
        for name, check in CHECKS.items():
            if name in (arguments.check or CHECKS):
                report.run(name, lambda check=check: check(device, effort))  # type: ignore[misc]
    arguments.output.write_text(report.text())
    print(f"\n{len(report.wrong)} wrong. Written to {arguments.output}", flush=True)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
