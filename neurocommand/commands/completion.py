"""``neurocommand completion``: the completion script of a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> int:
    """Print the completion script of a shell.

    \b
    Examples:
      neurocommand completion bash > ~/.local/share/bash-completion/completions/neurocommand
      eval "$(neurocommand completion zsh)"
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  (both shells are click's own)
    click.echo(kind(ctx.find_root().command, {}, "neurocommand", "_NEUROCOMMAND_COMPLETE").source())
    return 0
