"""Real ranks of torch.distributed, each in a process of its own, record one run."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analysis
from processes import finished, forked

pytest.importorskip("torch")

RANKS = 2
NAMES = ("1", "3")

PRELUDE = """
import json, os, sys
from pathlib import Path
import numpy as np, torch, torch.distributed as dist
from torch import nn
from recorder import Monitor, RankError
import recorder.ranks

folder, rank, port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
store = dist.TCPStore("127.0.0.1", port, is_master=False)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
run = folder / "run.zarr"


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return (x > 0).float()

    @staticmethod
    def backward(context, gradient):
        return gradient


class Neuron(nn.Module):
    def forward(self, x):
        return Spike.apply(x - 0.2)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), Neuron(), nn.Linear(9, 4), Neuron())


def monitor(net, **options):
    return Monitor(net, store=run, layers=Neuron, **options)
"""

TRAIN = """
net = nn.parallel.DistributedDataParallel(network())
seen = {"1": [], "3": []}
for name, frames in seen.items():
    net.module.get_submodule(name).register_forward_hook(
        lambda module, inputs, output, frames=frames: frames.append(output.detach().numpy() > 0)
    )
optimizer = torch.optim.SGD(net.parameters(), 0.5)
torch.manual_seed(10 + rank)
labels = []
watched = net if rank == 0 else net.module  # both give the same names
with monitor(watched, overwrite=True) as recording:
    for trial in range(3):
        labels.append([(trial + rank) % 3] * (2 + rank))
        with recording.trial(label=labels[-1]):
            for step in range(5):
                net(torch.randn(2 + rank, 6)).sum().backward()
                optimizer.step()
    assert recording.layers == ("1", "3")
    assert recording.store == str(folder / f"run.rank-0000{rank}-of-00002.zarr")
np.savez(folder / f"seen-{rank}.npz", **{name: np.concatenate(frames) for name, frames in seen.items()})
(folder / f"labels-{rank}.json").write_text(json.dumps(labels))
"""

CRASH = """
net = network()
recording = monitor(net)
recording.enable()
for step in range(6 if rank == 0 else 4):
    with recording.trial(label=step):
        net(torch.randn(3, 6))
recording.flush()
dist.barrier()
os._exit(0)
"""

RESUME = """
net = network()
try:
    Monitor(net, layers=Neuron)
except RankError as error:
    print(error)
if rank == 0:  # no other rank takes part
    Monitor(net, store=folder / "alone.zarr", layers=Neuron).close()
    recorder.ranks.RESUME_TIMEOUT = recorder.ranks.timedelta(seconds=0.2)
    try:
        Monitor(net, store=run, layers=Neuron, resume=True)
    except RankError as error:
        print(error)
    recorder.ranks.RESUME_TIMEOUT = recorder.ranks.timedelta(seconds=60)
dist.barrier()
with monitor(net, resume=True) as recording:
    assert recording.stats.steps == 6
    with recording.trial(label=9):
        net(torch.randn(3, 6))
        net(torch.randn(3, 6))
dist.barrier()
"""


def in_ranks(code: str, folder: Path) -> list[str]:
    """Run code in two ranks that find each other; what each prints."""
    from torch.distributed import TCPStore

    meeting = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with ExitStack() as stack:
        started = [
            stack.enter_context(forked(PRELUDE + code, folder, rank, meeting.port)) for rank in range(RANKS)
        ]
        return [finished(process) for process in started]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[dict[str, np.ndarray]], list[Any]]:
    """The recording of a run of two ranks, and what each rank has seen: spikes and labels."""
    folder = tmp_path_factory.mktemp("trained")
    in_ranks(TRAIN, folder)
    seen = [dict(np.load(folder / f"seen-{rank}.npz")) for rank in range(RANKS)]
    labels = [json.loads((folder / f"labels-{rank}.json").read_text()) for rank in range(RANKS)]
    return analysis.open_recording(folder / "run.zarr"), seen, labels


def test_each_rank_records_what_it_computes(trained: Any) -> None:
    recording, seen, _ = trained
    assert tuple(recording) == NAMES
    assert list(recording.recordings) == [f"run.rank-0000{rank}-of-00002.zarr" for rank in range(RANKS)]
    for one, wanted in zip(recording.recordings.values(), seen, strict=True):
        for name in NAMES:
            np.testing.assert_array_equal(one[name].spikes.values, wanted[name])


def test_the_ranks_together_are_one_run(trained: Any) -> None:
    recording, seen, labels = trained
    for name in NAMES:
        layer, frames = recording[name], [one[name] for one in seen]
        together = np.concatenate(frames)
        assert layer.firing_rate().values == together.sum() / together.size
        assert layer.silent_ratio().values == (~together.any(axis=0)).mean()
        assert layer.steps == 15
        # A step is a global batch: two samples of one rank, three of the other.
        batches = [
            np.concatenate([frames[0][2 * step : 2 * step + 2], frames[1][3 * step : 3 * step + 3]])
            for step in range(15)
        ]
        np.testing.assert_array_equal(
            layer.firing_rate(per="step"), [batch.sum() / batch.size for batch in batches]
        )
        np.testing.assert_array_equal(
            layer.silent_ratio(per="step"), [(~batch.any(axis=0)).mean() for batch in batches]
        )
        np.testing.assert_array_equal(
            layer.spike_count(per=("recording", "neuron")), [one.sum(axis=0) for one in frames]
        )
        label = np.concatenate([np.repeat(np.ravel(labels[r]), 5) for r in range(RANKS)])
        counts = layer.spike_count(per="label")
        for value in counts.label.values:
            assert counts.sel(label=value).values == together[label == value].sum()
    assert recording.trials.label.values.tolist() == [v for rank in labels for trial in rank for v in trial]


def test_ranks_that_crashed_at_different_steps_go_on_at_the_same_one(tmp_path: Path) -> None:
    in_ranks(CRASH, tmp_path)
    steps = analysis.open_recording(tmp_path / "run.zarr")["1"].firing_rate(per=("recording", "step"))
    assert np.isnan(steps.values).sum(axis=1).tolist() == [0, 2]
    told = in_ranks(RESUME, tmp_path)
    assert all(f"this is rank {rank} of 2" in told[rank] for rank in range(RANKS))
    assert "not all 2 ranks have resumed" in told[0]
    recording = analysis.open_recording(tmp_path / "run.zarr")
    found = recording["1"].firing_rate(per=("recording", "step"))
    assert np.isnan(found.values).tolist() == [[False] * 8, [False] * 4 + [True] * 2 + [False] * 2]
    trials = recording["1"].spike_count(per=("recording", "trial")).trial.values
    assert trials.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert recording["1"].select(trials=6).frames == 2 * 2 * 3
    with pytest.raises(
        analysis.RecordingNotFoundError, match=r"1 of the 2 ranks of .*alone\.zarr are missing"
    ):
        analysis.open_recording(tmp_path / "alone.zarr")


BEGIN = """
if rank == 0:  # the other one dies before its first commit
    recording = monitor(network())
    with recording:
        recording.enable()
        [recording._hooks._network(torch.randn(3, 6)) for step in range(4)]
dist.barrier()
os._exit(0)
"""

GO_ON = """
net = network()
with monitor(net, resume=True) as recording:
    net(torch.randn(3, 6))
dist.barrier()
"""

REFUSED = """
try:
    monitor(network(), resume=True)
except RankError as error:
    print(error)
dist.barrier()
"""


def test_a_rank_that_had_not_begun_goes_on_in_the_run_of_the_others(tmp_path: Path) -> None:
    in_ranks(BEGIN, tmp_path)
    in_ranks(GO_ON, tmp_path)
    recording = analysis.open_recording(tmp_path / "run.zarr")
    found = recording["1"].firing_rate(per=("recording", "step"))
    assert np.isnan(found.values).tolist() == [[False] * 5, [True] * 4 + [False]]


RESET = """
with monitor(network()) as recording:
    recording._hooks._network(torch.randn(3, 6))
    for _ in range(1 if rank == 0 else again):
        recording.reset()
    recording._hooks._network(torch.randn(3, 6))
"""


@pytest.mark.parametrize("again", [0, 1, 2])
def test_ranks_that_discard_what_they_have_recorded_are_one_run_if_all_do(tmp_path: Path, again: int) -> None:
    in_ranks(f"again = {again}\n{RESET}", tmp_path)
    if again == 1:
        assert len(analysis.open_recording(tmp_path / "run.zarr").recordings) == RANKS
        return
    with pytest.raises(analysis.JointRecordingError, match="some are of run"):
        analysis.open_recording(tmp_path / "run.zarr")


def test_ranks_of_two_runs_do_not_go_on_together(tmp_path: Path) -> None:
    for _ in range(2):
        in_ranks(CRASH.replace("monitor(net)", "monitor(net, overwrite=True)"), tmp_path)
        if not (tmp_path / "old").exists():
            (tmp_path / "run.rank-00001-of-00002.zarr").rename(tmp_path / "old")
    (tmp_path / "run.rank-00001-of-00002.zarr").rename(tmp_path / "new")
    (tmp_path / "old").rename(tmp_path / "run.rank-00001-of-00002.zarr")
    with pytest.raises(analysis.JointRecordingError, match="not"):
        analysis.open_recording(tmp_path / "run.zarr")
    for told in in_ranks(REFUSED, tmp_path):
        assert "not those of the ranks of one run of 2: rank 0 finds rank 0 of 2 of run" in told
        assert "rank 1 finds rank 1 of 2 of run" in told


def test_no_secret_is_in_the_name_under_which_ranks_meet() -> None:
    from recorder.ranks import _key

    assert "hunter2" not in _key("s3://me:hunter2@bucket/run.zarr", 0)
    assert _key("a", 0) != _key("b", 0) != _key("b", 1)
