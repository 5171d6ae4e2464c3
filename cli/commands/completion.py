"""`gradmf completion`: the script that teaches a shell to complete gradmf's commands, options and paths."""

from __future__ import annotations

import click

from ..terminal.shells import SHELLS, VARIABLE


@click.command(
    help="""Print a script for a shell that completes commands, options, predictors and paths of runs.

    \b
    bash  eval "$(gradmf completion bash)"      in ~/.bashrc
    zsh   eval "$(gradmf completion zsh)"       in ~/.zshrc, after compinit
    fish  gradmf completion fish | source       in ~/.config/fish/config.fish
    """,
    short_help="The script that lets a shell complete gradmf.",
    epilog="""\b
Examples:
  eval "$(gradmf completion bash)"
  gradmf completion fish > gradmf.fish""",
)
@click.argument("shell", type=click.Choice(sorted(SHELLS)), metavar="bash|zsh|fish")
def command(shell: str) -> int:
    commands = click.get_current_context().find_root().command
    click.echo(SHELLS[shell](commands, {}, "gradmf", VARIABLE).source(), nl=False)
    return 0
