"""Which columns of CSV to write, and in which order: what --columns asks for, against those there are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import click

HELP = "help"


def chosen_columns(asked: Sequence[str], known: Sequence[str], format: str) -> tuple[str, ...]:
    """The names to write, in order; all that are known where none is asked for.

    A * stands for any text: `kappa[*]` is every kappa. Raises click.UsageError for a name that is not
    known and for another format than csv. `help` alone prints the names and ends the command.
    """
    if tuple(asked) == (HELP,):
        click.echo("\n".join(known))
        raise click.exceptions.Exit(0)
    if asked and format != "csv":
        raise click.UsageError(
            f"--columns goes with --format csv, not with {format}.", click.get_current_context()
        )
    chosen = [name for word in asked for name in _matching(word, known)]
    return tuple(dict.fromkeys(chosen)) or tuple(known)


def _matching(word: str, known: Sequence[str]) -> list[str]:
    pattern = re.compile(".*".join(map(re.escape, word.split("*"))), re.DOTALL)
    names = [name for name in known if pattern.fullmatch(name)]
    if not names:
        near = difflib.get_close_matches(word, known, 4, cutoff=0.5)
        meant = f"; near are {', '.join(near)}" if near else ""
        raise click.UsageError(
            f"--columns: no column {word!r}{meant}. --columns {HELP} lists them all.",
            click.get_current_context(),
        )
    return names
