"""What leaves spiketape: events as Parquet, and the page of a report; each in a process of its own."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import dask

import analysis
from benchmarks.harness import Options, Ratio, Report, memory_bytes, run_child, show_seconds

if TYPE_CHECKING:
    from benchmarks.data import LongRun

CORES: Final = 2
EVENTS_A_SECOND: Final = 10
REPORT_SECONDS: Final = 60
# Of four times the trials.
MEMORY_RATIO: Final = 1.1
EXPORT, EXPORT_BARE, REPORT = "export", "export without digest", "report"


def measure_handing_over(options: Options, report: Report) -> None:
    """Events a second and memory of exports, and the time of a report."""
    _measure_export(options, report)
    _measure_report(options, report)


def _long_run(trials: int, density: float, *, quick: bool) -> LongRun:
    from benchmarks.data import LongRun  # noqa: PLC0415 - needs torch, which the fresh process does without

    return LongRun(trials, (8, 4, 4) if quick else (64, 8, 8), density)


def _measure_export(options: Options, report: Report) -> None:
    trials, rounds = (8, 1) if options.quick else (512, 3)
    rows = []
    for density in (0.005, 0.05):
        stores = {}
        for shown in (trials // 4, trials):
            stores[shown] = options.folder("recorded")
            _long_run(shown, density, quick=options.quick).record(stores[shown])
        for what in (EXPORT, EXPORT_BARE):
            laps = [_run(what, stores[trials], options) for _ in range(rounds)]
            rates = [CORES * lap["events"] / lap["cpu"] / 1e6 for lap in laps]
            few = _run(what, stores[trials // 4], options)
            memory = median(lap["peak_bytes"] for lap in laps) / few["peak_bytes"]
            rate = Ratio(median(rates), min(rates), max(rates))
            title = f"{what}, {density:.1%} fire"
            report.figure(
                f"{title}: M events a second of {CORES} cores", rate, EVENTS_A_SECOND, at_least=True
            )
            report.figure(f"{title}: peak memory, 4× the trials ÷ 1×", memory, MEMORY_RATIO)
            peak = f"{median(lap['peak_bytes'] for lap in laps) / 2**20:,.0f} MiB"
            shown = show_seconds([lap["seconds"] for lap in laps])
            rows.append([title, f"{laps[0]['events']:,}", str(rate), shown, peak, f"{memory:.2f}"])
    report.table(
        "Events as Parquet",
        ["", "events", "M events a second", "time that passed", "peak memory", "÷ of a quarter"],
        rows,
        f"Events ÷ processor time of {CORES} threads × {CORES}: what two cores would write that have nothing "
        "else to do. VmHWM of a fresh process, libraries included.",
    )


def _measure_report(options: Options, report: Report) -> None:
    run = _long_run(4 if options.quick else 1024, 0.05, quick=options.quick)
    store = options.folder("recorded")
    run.record(store)
    laps = [_run(REPORT, store, options) for _ in range(1 if options.quick else 2)]
    seconds = [lap["cpu"] / CORES for lap in laps]
    report.figure(
        f"report of {run.slots / 1e9:.1f} G slots: seconds of {CORES} cores",
        Ratio(median(seconds), min(seconds), max(seconds)),
        REPORT_SECONDS,
    )
    report.table(
        f"Report of {run.slots / 1e9:.1f} G slots",
        ["processor time", "time that passed", "peak memory"],
        [
            [
                show_seconds([lap["cpu"] for lap in laps]),
                show_seconds([lap["seconds"] for lap in laps]),
                f"{median(lap['peak_bytes'] for lap in laps) / 2**20:,.0f} MiB",
            ]
        ],
    )


def _run(what: str, store: Path, options: Options) -> dict[str, Any]:
    return run_child("asked.handing_over", what, str(store), str(options.folder("handed")))


def main() -> None:
    """In the fresh process: hand over, and say what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=(EXPORT, EXPORT_BARE, REPORT))
    parser.add_argument("path", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    recording = analysis.open_recording(arguments.path)
    events = int(recording.spike_count().sum())
    with dask.config.set(scheduler="threads", num_workers=CORES):
        if arguments.what != REPORT:  # what is exported first imports libraries and loads compiled loops
            recording.select(trials=[0]).export(arguments.out)
            shutil.rmtree(arguments.out)
        started, cpu_started = time.perf_counter(), time.process_time()
        if arguments.what == REPORT:
            recording.report(arguments.out)
        else:
            recording.export(arguments.out, digest=arguments.what == EXPORT)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    if arguments.out.is_dir():
        shutil.rmtree(arguments.out)
    found = {"events": events, "seconds": seconds, "cpu": cpu, "peak_bytes": memory_bytes("VmHWM")}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
