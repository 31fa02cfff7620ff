"""The command `spiketape` says what it can do, and shells complete what is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from analysis.cli.commands import SECTIONS, main


def test_the_help_lists_every_command_once_by_what_it_is_for() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line[2:3].isalpha()]
    titles = [line[:-1] for line in text.splitlines() if line.endswith(":")]
    assert titles == ["Options", *SECTIONS]
    names = main.list_commands(click.Context(main))
    assert {name: listed.count(name) for name in names} == dict.fromkeys(names, 1)


def test_commands_are_listed_by_the_first_sentence_of_their_help() -> None:
    for commands in SECTIONS.values():
        for name, listed in commands.items():
            command = main.get_command(click.Context(main), name)
            assert command is not None
            assert (command.name, command.get_short_help_str(limit=1000)) == (name, listed.sentence)


@pytest.mark.parametrize("typed", ["--help", "--version", "completion bash"])
def test_what_computes_nothing_imports_nothing_that_computes(typed: str) -> None:
    code = (
        "import sys; from analysis.cli.commands import main; main(standalone_mode=False)\n"
        "print({'numpy', 'dask', 'pandas', 'zarr'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code, *typed.split()]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.endswith("set()\n")


def completed(folder: Path, *words: str) -> list[str]:
    """What a real bash makes of words, the last of which is being typed."""
    script = (
        'eval "$(spiketape completion bash)"; COMP_CWORD=$(($# - 1)); COMP_WORDS=("$@"); '
        '_spiketape_completion spiketape "${!#}" ""; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],  # noqa: S607
        env={**os.environ, "PATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["ver"], ["verify"]),
        (["stats", "run.zarr", "--what", "firing_rate,latency_"], ["firing_rate,latency_censored"]),
    ],
    ids=["a command", "a statistic behind a comma"],
)
def test_bash_completes(typed: list[str], expected: list[str], tmp_path: Path) -> None:
    assert completed(tmp_path, "spiketape", *typed) == expected
