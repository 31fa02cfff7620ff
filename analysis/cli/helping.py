# ruff: noqa: ARG002 - click hands contexts to methods that need none.
"""How the command ``spiketape`` shows its commands: by what they are for, and to the shell that completes."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from analysis.cli.running import Commands

SECTIONS = {
    "Look": ("info", "rates", "stats", "compare", "report", "watch"),
    "Keep": ("verify", "recover", "pack", "digest"),
    "Hand over": ("import", "export"),
    "In many jobs": ("merge",),
    "In a shell": ("completion",),
}
"""Names of commands by what they are for."""


class GroupedByTask(Commands):
    """Commands that are listed by what they are for, see `SECTIONS`."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list of commands for each section, with the whole first sentence of each."""
        for title, names in SECTIONS.items():
            with formatter.section(title):
                commands = [(name, self.commands[name]) for name in names if name in self.commands]
                formatter.write_dl([(name, each.get_short_help_str(limit=1000)) for name, each in commands])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of the sections."""
        return [name for names in SECTIONS.values() for name in names if name in self.commands]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print what makes SHELL complete commands, options and statistics.

    \b
    bash:  eval "$(spiketape completion bash)"                       in ~/.bashrc
    zsh:   eval "$(spiketape completion zsh)"                        in ~/.zshrc
    fish:  spiketape completion fish > ~/.config/fish/completions/spiketape.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"this version of click does not know how {shell} completes")
    root = click.get_current_context().find_root().command
    click.echo(found(root, {}, "spiketape", "_SPIKETAPE_COMPLETE").source())
