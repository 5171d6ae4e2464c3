"""The reference of all commands, made from what click knows of them.

python tests/commands.py docs/commands.md          # writes it anew
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from gradmf.cli.commands.group import gradmf

_HEAD = """\
# Commands

What `gradmf COMMAND --help` says, for all of them. `python tests/commands.py docs/commands.md` makes it;
a test holds the two against each other, and runs the examples.

"""


def commands() -> dict[str, click.Command]:
    """Every command, by name."""
    with click.Context(gradmf) as context:
        found = {name: gradmf.get_command(context, name) for name in gradmf.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def examples(command: click.Command) -> list[str]:
    """The command lines that its help ends with."""
    text = (command.epilog or "").partition("Examples:\n")[2].partition("\n\n")[0]
    return [re.sub(r"^  ", "", line) for line in text.splitlines() if line.strip()]


def reference() -> str:
    """docs/commands.md."""
    known = commands()
    links = "".join(
        f"| [`gradmf {name}`](#gradmf-{name}) | {command.short_help} |\n" for name, command in known.items()
    )
    return (
        _HEAD
        + f"| | |\n|---|---|\n{links}\n"
        + "\n".join("\n".join(_section(name, command)) for name, command in known.items())
    )


def _section(name: str, command: click.Command) -> Iterator[str]:
    group = click.Context(gradmf, info_name="gradmf", **gradmf.context_settings)
    with click.Context(command, info_name=name, parent=group) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
        records = [record for option in options if (record := option.get_help_record(context))]
    yield f"## gradmf {name}\n"
    yield f"    gradmf {name} {usage}\n"
    yield from (f"{paragraph}\n" for paragraph in _paragraphs(command.help or ""))
    yield "| option | |\n|---|---|"
    yield from (f"| `{_cell(option)}` | {_cell(text)} |" for option, text in records)
    yield "\n```bash"
    yield from examples(command)
    yield "```\n"


def _paragraphs(text: str) -> Iterator[str]:
    """A docstring's paragraphs, each on one line, except for those that click is told to leave alone."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield "\n".join(f"    {line}" for line in paragraph[2:].splitlines())
        else:
            yield " ".join(paragraph.split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(reference())
