"""The subcommands of `gradmf`, each imported when it is asked for."""

from __future__ import annotations

import importlib
import os

import click

from ..terminal.messages import tell_error

_COMMANDS = (
    "analyze",
    "advise",
    "compare",
    "bounds",
    "plot",
    "report",
    "export",
    "merge",
    "sketch",
    "rechunk",
    "import",
    "info",
    "completion",
)


class _LazyGroup(click.Group):
    """Subcommand `x` is the object `command` of the module `x` beside this one."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if not ctx.resilient_parsing and word not in _COMMANDS and not word.startswith("-"):
            import difflib

            near = difflib.get_close_matches(word, _COMMANDS, 1)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(_COMMANDS)}."
            ctx.fail(f"no command {word!r}: {meant}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = "import_command" if cmd_name == "import" else cmd_name  # a word of Python
        command: click.Command = importlib.import_module(f"{__package__}.{module}").command
        return command


@click.group(
    # Not as docstrings, here and in all commands: python -OO leaves those out.
    help="How predictable were a training run's gradients, and in how many dimensions did they move?",
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  gradmf analyze run.zarr
  gradmf compare reference.zarr run.zarr
  gradmf bounds run.zarr
  gradmf info run.zarr

\b
Exit codes: 0 done, 1 the data is at fault, 2 wrong usage,
3 a --fail-if rule is violated, 130 interrupted.""",
)
@click.version_option(package_name="gradmf", message="gradmf %(version)s")
def gradmf() -> None:
    """All commands."""


def run(arguments: list[str]) -> int:
    """Do what `arguments` say and return the exit code. Wrong usage is told here."""
    instruction = os.environ.get("_GRADMF_COMPLETE")
    if instruction:
        from click.shell_completion import shell_complete

        from ..terminal.shells import VARIABLE

        return shell_complete(gradmf, {}, "gradmf", VARIABLE, instruction)
    # Not click's own main(): that ends a closed pipe with exit code 1.
    try:
        with gradmf.make_context("gradmf", arguments) as context:
            code = gradmf.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.UsageError as error:
        _tell_usage(error)
        return error.exit_code
    return code if isinstance(code, int) else 0


def _tell_usage(error: click.UsageError) -> None:
    if error.ctx is not None and error.message == error.ctx.get_help():
        click.echo(error.message, err=True)  # the group was called without a word
    else:
        hint = f"\ntry '{error.ctx.command_path} --help'" if error.ctx else ""
        tell_error(error.format_message() + hint)
