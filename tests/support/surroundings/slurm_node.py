"""A real SLURM of one node for tests: munge, controller and node, in a folder of their own, on loopback."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
DEADLINE_SECONDS = 60

CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdParameters=config_overrides
MinJobAge=300
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


def missing() -> str | None:
    """Why there can be no SLURM here, if so."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "only root can start a SLURM"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return f"{', '.join(absent)} not installed: apt-get install slurm-wlm munge" if absent else None


@contextmanager
def one_node(folder: Path) -> Iterator[Mapping[str, str]]:
    """Start a SLURM below a folder, and end it; the environment in which its commands find it."""
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    controller_port, node_port = _free_ports(2)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(folder=folder, host=host, controller_port=controller_port, node_port=node_port)
    )
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    environment = {**os.environ, "SLURM_CONF": str(configuration), "PATH": path}
    munge = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "pid", "log", "seed")]
    with ExitStack() as running:
        # --force: a folder of the tests is not as well guarded as munge would like.
        _start(
            running,
            environment,
            ["munged", "--foreground", "--force", f"--socket={folder}/munge/socket", *munge],
        )
        _wait_for((folder / "munge" / "socket").exists, "munged")
        _start(running, environment, ["slurmctld", "-D"])
        _start(running, environment, ["slurmd", "-D", "-N", host])
        _wait_for(lambda: "idle" in _said(environment, "sinfo", "-h", "-o", "%T"), "the node")
        try:
            yield environment
        finally:
            _said(environment, "scancel", "--full", "-u", "root")
            _wait_for(lambda: not _said(environment, "squeue", "-h").strip(), "the end of all jobs")


def _start(running: ExitStack, environment: Mapping[str, str], command: list[str]) -> None:
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    running.callback(process.wait)
    running.callback(process.terminate)


def _said(environment: Mapping[str, str], *command: str) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout


def _wait_for(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"SLURM: {what} has not come within {DEADLINE_SECONDS} s")
        time.sleep(0.05)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
