"""Measures spiketape beside what people use without it; see BENCHMARKS.md for what came of it."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.asked.answer_memory import measure_answer_memory
from benchmarks.asked.answers import measure_analysis
from benchmarks.asked.handing_over import measure_handing_over
from benchmarks.asked.many import measure_many
from benchmarks.asked.opening import measure_opening
from benchmarks.asked.questions import measure_questions
from benchmarks.asked.scaling import measure_scaling
from benchmarks.harness import Options, Report, load
from benchmarks.recorded.elsewhere import measure_elsewhere
from benchmarks.recorded.encoding import measure_encoding
from benchmarks.recorded.memory import measure_memory
from benchmarks.recorded.parts import measure_parts
from benchmarks.recorded.profiling import measure_profile
from benchmarks.recorded.recording import measure_calls, measure_run_time
from benchmarks.recorded.short import measure_short
from benchmarks.recorded.signals import measure_signals
from benchmarks.recorded.storage import measure_storage
from benchmarks.recorded.values import measure_values

SECTIONS: Mapping[str, Callable[[Options, Report], None]] = {
    "recording": measure_run_time,
    "values": measure_values,
    "signals": measure_signals,
    "parts": measure_parts,
    "calls": measure_calls,
    "short": measure_short,
    "profile": measure_profile,
    "encoding": measure_encoding,
    "memory": measure_memory,
    "memory of answers": measure_answer_memory,
    "storage": measure_storage,
    "analysis": measure_analysis,
    "questions": measure_questions,
    "scaling": measure_scaling,
    "opening": measure_opening,
    "many recordings": measure_many,
    "elsewhere": measure_elsewhere,
    "handing over": measure_handing_over,
}
CACHE = Path(".environments/benchmark-cache")
ON_DEVICE = ("recording", "signals", "calls", "profile")
PACKAGES = (
    *("numpy", "torch", "spikingjelly", "h5py"),
    *("zarr", "numcodecs", "dask", "distributed", "xarray", "numba", "elephant"),
)


def describe_machine() -> dict[str, str]:
    """Machine and versions, without names of hosts or people."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    about = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "Python": platform.python_version(),
    }
    if torch.cuda.is_available():
        about["CUDA device"] = torch.cuda.get_device_name()
    for package in PACKAGES:
        try:
            about[package] = version(package)
        except PackageNotFoundError:
            about[package] = "not installed"
    return about


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def main() -> None:
    """Measure the sections asked for."""
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument(
        "--section",
        action="append",
        choices=SECTIONS,
        help="only this one; may be repeated",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where networks run")
    parser.add_argument("--threads", type=int, action="append", help="of torch; may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: see that everything runs")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the trained network is kept")
    arguments = parser.parse_args()

    report = Report()
    about = describe_machine()
    report.table("Machine and versions", ["", ""], about.items())
    load_before = load()
    sections = arguments.section or list(SECTIONS)
    cores = os.cpu_count() or 1
    # With all cores, the recorder's thread competes with the network; with one less, it has one to itself.
    both = sorted({max(cores - 1, 1), cores})
    threads = arguments.threads or (both if arguments.device == "cpu" and not arguments.quick else both[:1])
    with tempfile.TemporaryDirectory(prefix="spiketape-benchmark-") as scratch:
        options = Options(
            arguments.device, threads, arguments.quick, Path(scratch), arguments.cache.absolute()
        )
        for name, measure in SECTIONS.items():
            if name not in sections:
                continue
            if arguments.device == "cuda" and not torch.cuda.is_available():
                report.skip(f"{name}: there is no CUDA device")
            elif arguments.device == "cuda" and name not in ON_DEVICE:
                report.skip(f"{name}: has nothing to do with the device; run it without --device cuda")
            else:
                print(f"\n## {name}", flush=True)
                measure(options, report)
    if not arguments.quick:  # what took milliseconds neither reaches a target nor misses it
        report.print_figures()
    print(f"\nLoad (processes that want to run): {load_before:.1f} before, {load():.1f} after", flush=True)
    if arguments.output:
        report.write(arguments.output, machine=about, command=sys.argv[1:], load=[load_before, load()])


if __name__ == "__main__":
    main()
