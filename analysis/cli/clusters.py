"""Choose where the command line computes: in threads here, or on a cluster of `dask.distributed`.

A scheduler runs whatever it is sent. One that is started here therefore listens on the loopback interface
or, where jobs of SLURM have to reach it from other nodes, on the one that dask-jobqueue is configured for.
Either way it speaks only to those who show a certificate that was made for this one cluster.
"""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from dask import config

LOOPBACK: Final = "127.0.0.1"
# Schedulers and workers serve some pages in any case, and by default to everybody.
_PAGES: Final = f"{LOOPBACK}:0"
_HTTP: Final[dict[str, Any]] = {"dashboard": False, "dashboard_address": _PAGES}
_STARTED_HERE = re.compile(r"(?P<kind>local|slurm)(:(?P<number>[1-9]\d*))?")
_ADDRESS = re.compile(r"[a-z]+://\S+|[^\s/:]+:[1-9]\d*")
# Has Python leave the working folder out of where it looks for modules.
_SAFE_PATH: Final = "PYTHONSAFEPATH"


class ClusterError(RuntimeError):
    """A cluster cannot be reached or started."""


@contextmanager
def cluster(where: str | None) -> Iterator[None]:
    """Compute there inside the ``with`` block, whatever asks.

    Parameters
    ----------
    where : str or None
        None for threads of this process. ``"local"`` starts a worker process for each core of this machine,
        ``"local:N"`` N of them. ``"slurm"`` and ``"slurm:N"`` have SLURM run one or N jobs of workers, as
        dask-jobqueue is configured (``jobqueue.slurm`` in files and variables of Dask). Anything else is the
        address of a scheduler, or the file that it wrote (``--scheduler-file``); for TLS, as Dask is
        configured (``distributed.comm.tls``).

    Raises
    ------
    ClusterError
        If a package is missing, or the cluster cannot be reached or started.
    """
    if where is None:
        yield
        return
    started = _STARTED_HERE.fullmatch(where)
    with ExitStack() as stack:
        try:
            from distributed import Client  # noqa: PLC0415 - an extra

            if started is None:
                running: AbstractContextManager[Any] = nullcontext(_contact(where))
            else:
                number = int(started["number"]) if started["number"] else None
                running = _local(number) if started["kind"] == "local" else _slurm(number or 1)
            scheduler = stack.enter_context(running)
        except ModuleNotFoundError as missing:
            raise ClusterError(
                f"--cluster needs {missing.name}, which is not installed: pip install 'spiketape[cluster]'"
            ) from missing
        try:
            client = Client(**scheduler) if isinstance(scheduler, dict) else Client(scheduler)
        except (OSError, ValueError) as error:
            raise ClusterError(f"no scheduler answers at {where}: {error}") from error
        with _closed_unless_interrupted(client), client.as_current():
            yield


def _contact(where: str) -> dict[str, str]:
    if _ADDRESS.fullmatch(where):
        return {"address": where}
    if Path(where).is_file():
        return {"scheduler_file": where}
    raise ClusterError(
        f"{where!r} is no cluster; expected local, local:N, slurm, slurm:N, the address of a scheduler such "
        "as tls://node7:8786, or the file that it wrote"
    )


@contextmanager
def _local(workers: int | None) -> Iterator[Any]:
    from distributed import LocalCluster  # noqa: PLC0415 - an extra
    from distributed.utils import LoopRunner  # noqa: PLC0415

    runner = LoopRunner(asynchronous=False)
    with _without_interrupts():
        runner.start()  # the thread that starts all workers
    with _without_working_folder():
        started = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host=LOOPBACK,
            security=True,
            dashboard_address=_PAGES,
            scheduler_kwargs=_HTTP,
            silence_logs=logging.CRITICAL,  # errors of tasks come back to who asked; a lost scheduler is none
            loop=runner.loop,
        )
        with _closed_unless_interrupted(started):
            yield started
    runner.stop()


@contextmanager
def _closed_unless_interrupted(opened: Any) -> Iterator[None]:
    """Close a client or cluster at the end; Ctrl-C ends this process at once, and with it its workers."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:
        opened.close()
        raise
    opened.close()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Have threads that are started inside, and all processes that these start, never see Ctrl-C.

    A terminal interrupts all processes of a command. Workers would show tracebacks, and this one ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_working_folder() -> Iterator[None]:
    """Have the Pythons that are started inside import nothing from the working folder.

    They are started with ``-c``, which looks there first. That folder may be somebody else's recording.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


@contextmanager
def _slurm(jobs: int) -> Iterator[Any]:
    from dask_jobqueue.slurm import SLURMCluster  # noqa: PLC0415 - an extra

    def configured(name: str, default: Any) -> Any:
        return config.get(f"jobqueue.slurm.{name}", None) or default

    if not (configured("cores", None) and configured("memory", None)):
        raise ClusterError(
            "SLURM is not told what a job needs: set DASK_JOBQUEUE__SLURM__CORES=4 and "
            "DASK_JOBQUEUE__SLURM__MEMORY=16GB, for instance, or write it to ~/.config/dask/jobqueue.yaml"
        )
    started = SLURMCluster(
        security=True,
        # Workers read their certificates there; nobody else can, and they go when the cluster goes.
        shared_temp_directory=configured("shared-temp-directory", str(Path.cwd())),
        scheduler_options={**_HTTP, **configured("scheduler-options", {})},
        job_script_prologue=[
            *configured("job-script-prologue", configured("env-extra", [])),
            f"export {_SAFE_PATH}=1",
        ],
        worker_extra_args=["--dashboard-address", _PAGES, *configured("worker-extra-args", [])],
    )
    with started:
        started.scale(jobs=jobs)
        yield started
