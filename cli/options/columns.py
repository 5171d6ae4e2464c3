"""Which columns of CSV to write, and in which order: what --columns asks for, against those there are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from ..formats.rendering import FORMATS
from .values import name_list

HELP = "help"


def chosen_columns(asked: Sequence[str], known: Sequence[str], format: str) -> tuple[str, ...]:
    """The names to write, in order; all that are known where none is asked for.

    A * stands for any text: `kappa[*]` is every kappa. Raises click.UsageError for a name that is not
    known and for another format than csv. `help` alone prints the names and ends the command.
    """
    if tuple(asked) == (HELP,):
        click.echo("\n".join(known))
        raise click.exceptions.Exit(0)
    if asked and FORMATS[format].takes != "rows":
        able = " or ".join(name for name, other in FORMATS.items() if other.takes == "rows")
        raise click.UsageError(
            f"--columns goes with --format {able}, not with {format}.", click.get_current_context()
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


def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """What a shell completes: names of columns, each once, behind those that stand there."""
    before, comma, word = incomplete.rpartition(",")
    chosen = name_list(before)
    names = [name for name in _columns_of(context) if name.startswith(word.lstrip()) and name not in chosen]
    return [CompletionItem(f"{before}{comma}{name}", type="open") for name in names]


def _columns_of(context: click.Context) -> Sequence[str]:
    """All that the command of the line has, with the options so far."""
    from ..formats import as_csv
    from .gates import known_of

    known = known_of(context)
    subspace = context.params.get("subspace") is not None
    of_analyses = as_csv.analysis_columns(known.predictors, known.epsilons, subspace=subspace)
    return {
        "analyze": of_analyses,
        "merge": of_analyses,
        "compare": as_csv.COMPARISON_COLUMNS,
        "info": as_csv.DESCRIPTION_COLUMNS,
        "advise": as_csv.ADVICE_COLUMNS,
        "bounds": as_csv.CURVE_COLUMNS if context.params.get("curves") else as_csv.BOUNDS_COLUMNS,
    }.get(context.info_name or "", ())
