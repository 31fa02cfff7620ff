"""What was recorded, where and with what is kept with the recording, and no secret is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import analysis
from analysis.cli.commands import main
from recorder import Monitor, provenance
from recorder.circumstances import find_git_commit
from recorder.provenance import describe_run


class Threshold(nn.Module):
    """Spikes wherever its input exceeds 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).to(x.dtype)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(9, 4), nn.Sequential(Threshold(), nn.Linear(4, 2, bias=False)))


def git(folder: Path, *arguments: str) -> str:
    identity = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", "-c", "init.defaultBranch=main", *arguments]
    run = subprocess.run(
        command, cwd=folder, env=os.environ | identity, check=True, capture_output=True, text=True
    )
    return run.stdout.strip()


def test_the_network_is_described_module_by_module() -> None:
    described = describe_run(network())
    assert described["parameters"] == 9 * 4 + 4 + 4 * 2
    assert described["modules"] == [
        {"name": "", "class": "torch.nn.modules.container.Sequential"},
        {"name": "0", "class": "torch.nn.modules.linear.Linear", "parameters": 40,
         "shapes": {"weight": [4, 9], "bias": [4]}},
        {"name": "1", "class": "torch.nn.modules.container.Sequential"},
        {"name": "1.0", "class": f"{__name__}.Threshold"},
        {"name": "1.1", "class": "torch.nn.modules.linear.Linear", "parameters": 8,
         "shapes": {"weight": [2, 4]}},
    ]  # fmt: skip


def test_a_large_network_is_described_as_far_as_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "MAX_MODULES", 2)
    described = describe_run(network())
    assert (len(described["modules"]), described["modules_left_out"]) == (2, 3)


def test_modules_that_have_no_shape_yet_are_described() -> None:
    described = describe_run(nn.Sequential(nn.LazyLinear(3)))
    assert described["parameters"] == 0
    assert "shapes" not in described["modules"][1]


def test_time_step_licence_and_citation_are_kept_and_shown(tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        "dt": 0.5,
        "dt_unit": "ms",
        "licence": "CC-BY-4.0",
        "citation": "Doe (2026)\nSpikes \x1b[31mrecorded",
        "metadata": {"seed": 3},
    }
    path = tmp_path / "run.zarr"
    net = network()
    with Monitor(net, layers=[Threshold], store=path, **facts):
        net(torch.rand(2, 9))
    kept = analysis.open_recording(path).provenance
    assert {name: kept[name] for name in facts} == facts
    shown = CliRunner().invoke(main, ["info", str(path)]).stdout
    for text in ("dt           0.5\n", "dt_unit      ms\n", "licence      CC-BY-4.0\n", "seed"):
        assert text in shown
    assert "citation     Doe (2026)\n               Spikes \\x1b[31mrecorded\n" in shown
    assert "modules      (itself): torch.nn.modules.container.Sequential\n" in shown
    assert 'torch.nn.modules.linear.Linear {"weight": [4, 9], "bias": [4]}\n' in shown


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dt": 0.5}, ValueError, "dt is 0.5 and dt_unit is None; a duration needs both"),
        ({"dt_unit": "ms"}, ValueError, "a duration needs both"),
        ({"dt": -1, "dt_unit": "ms"}, ValueError, "dt is -1; expected the duration of a step"),
        ({"dt": 1, "dt_unit": 3}, TypeError, r"dt_unit is 3 \(int\); expected text"),
        ({"licence": b"MIT"}, TypeError, "licence is b'MIT'"),
        ({"citation": "x" * 2**23}, ValueError, "bytes; at most 4194304 can be kept"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        describe_run(network(), **arguments)


IMPORTED = os.pathsep.join(map(str, [Path(__file__).parents[3], Path(__file__).parent]))
PROGRAM = """
import sys, torch
from recorder import Monitor
from test_provenance import Threshold, network
net = network()
with Monitor(net, layers=[Threshold], store="memory://run.zarr", storage_options={}) as monitor:
    net(torch.rand(2, 9))
import json
print(json.dumps(dict(monitor._provenance)), monitor.store)
"""


def test_no_secret_is_kept(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {
        **os.environ,
        "AWS_SECRET_ACCESS_KEY": "hunter2-environment",
        "PYTHONPATH": IMPORTED,
    }
    run = subprocess.run(
        [sys.executable, str(program), "--token=hunter2-argument"],
        env=environment, cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "hunter2" not in run.stdout
    assert str(tmp_path) not in run.stdout
    assert command_of(run.stdout) == "program.py"


def command_of(printed: str) -> Any:
    return json.loads(printed.rpartition("} ")[0] + "}")["command"]


@pytest.mark.parametrize(
    "form",
    ["module", "folder", *(pytest.param(form, marks=pytest.mark.long) for form in ("package", "code"))],
)
def test_the_command_is_named_without_its_folder(tmp_path: Path, form: str) -> None:
    package = tmp_path / "secret project" / "nets"
    package.mkdir(parents=True)
    for name in ("train.py", "__main__.py"):
        (package / name).write_text(PROGRAM)
    options, expected = {
        "module": (["-m", "nets.train"], "-m nets.train"),
        "package": (["-m", "nets"], "-m nets"),
        "code": (["-c", PROGRAM], "-c"),
        "folder": ([str(package)], "nets"),
    }[form]
    environment = {**os.environ, "PYTHONPATH": IMPORTED}
    run = subprocess.run(
        [sys.executable, *options],
        env=environment,
        cwd=package.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    assert command_of(run.stdout) == expected


def test_the_git_commit_is_found_wherever_git_keeps_it(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    inside = repository / "a/b"
    inside.mkdir(parents=True)
    git(repository, "init")
    assert find_git_commit(inside) is None
    git(repository, "commit", "--allow-empty", "-m", "x")
    commit = git(repository, "rev-parse", "HEAD")
    assert find_git_commit(inside) == commit
    git(repository, "pack-refs", "--all")
    assert find_git_commit(inside) == commit
    git(repository, "worktree", "add", str(tmp_path / "other"))
    assert find_git_commit(tmp_path / "other") == commit
    git(repository, "checkout", "--detach")
    assert find_git_commit(inside) == commit
    (repository / ".git/HEAD").write_bytes(b"\xff\xfe")
    assert find_git_commit(inside) is None


def test_outside_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert find_git_commit(tmp_path) is None
