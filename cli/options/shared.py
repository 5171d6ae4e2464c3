"""Options, declared once: each decorator adds some to a command and hands it their values as one object."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .settings_of_options import settings_of
from .sketch_options import projections

if TYPE_CHECKING:
    from gradmf.gradlog import Settings

FORMATS = ("table", "json", "jsonl", "csv", "markdown")
RANK_METHODS = ("auto", "exact", "incremental", "sketch", "none")
REPEATED = ("keep", "first", "last", "fail")
PREDICTORS = (
    "one-step",
    "ema:0.5",
    "ema:0.9",
    "ema:0.99",
    "ema-debiased:0.9",
    "mean:5",
    "linear",
    "mixture:0.5,0.99,0.5",
    "lags:0.5,0.25",
    "zero",
)
"""What a shell offers."""
DEFAULT_MEMORY = "1G"

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Presentation:
    """How results are shown. out : file to write, None for stdout; columns : of csv, all where empty."""

    format: str
    out: Path | None
    quiet: bool
    no_color: bool
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resources:
    """What an analysis may use. memory : bytes; threads : None for as many as there are cores."""

    memory: int
    threads: int | None


def memory_size(text: str) -> int:
    """Bytes, from a number with an optional unit, all powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else 0
    if size < 1:
        raise click.BadParameter(f"{text!r} is no size; write it like 512M, 1G or 1.5GiB (powers of 1024).")
    return size


def row_range(text: str) -> tuple[int | None, int | None]:
    """First row and the one after the last, None for an open end."""
    match = re.fullmatch(r"\s*([+-]?\d+)?\s*:\s*([+-]?\d+)?\s*", text)
    if match is None:
        raise click.BadParameter(
            f"{text!r} is no range of rows; write A:B for rows A to B - 1, like 100:200, 100: or -50:."
        )
    first, last = (None if end is None else int(end) for end in match.groups())
    return first, last


def part_number(text: str) -> tuple[int, int]:
    """I and K of part I/K, 1 <= I <= K."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= index <= count:
        raise click.BadParameter(f"{text!r} is no part; write I/K for part I of K, from 1/K to K/K.")
    return index, count


def share_left_out(text: str) -> float:
    """An epsilon, 0 <= E < 1."""
    try:
        epsilon = float(text)
    except ValueError:
        epsilon = math.nan
    if not 0.0 <= epsilon < 1.0:
        raise click.BadParameter(f"{text!r} is not allowed; give a number of at least 0 and below 1.")
    return epsilon


def out_file(text: str) -> Path | None:
    """A file that can be there; None for stdout."""
    if text == "-":
        return None
    path = Path(text)
    if not text or path.is_dir():
        raise click.BadParameter(f"{text!r} is a folder; give the name of a file.")
    try:
        folder = Path(os.path.realpath(path)).parent
    except FileNotFoundError as error:  # there is no working directory
        raise FileNotFoundError(error.errno, error.strerror, text) from error
    if not folder.is_dir():
        raise click.BadParameter(f"there is no folder {str(folder)!r}.")
    return path


def name_list(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _bundle(
    name: str, gather: Callable[..., Any], *declared: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[[_Command], Callable[..., Any]]:
    """A decorator that adds the `declared` options and passes their values on as `name=gather(...)`.

    The parameters of `gather` bear the names of the options.
    """

    mine = tuple(inspect.signature(gather).parameters)

    def decorate(command: _Command) -> Callable[..., Any]:
        @functools.wraps(command)
        def gathered(**values: Any) -> Any:
            chosen = {key: values.pop(key) for key in mine}
            return command(**values, **{name: gather(**chosen)})

        for option in reversed(declared):
            gathered = option(gathered)
        return gathered

    return decorate


def offered(*words: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What a shell completes, where any of `words` can stand."""
    return lambda _context, _parameter, incomplete: [word for word in words if word.startswith(incomplete)]


def paths(kind: str) -> Callable[[click.Context, click.Parameter, str], Any]:
    """What a shell completes, where a path can stand. kind : "runs", "results" or "file" """

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> Any:
        from . import completing

        return getattr(completing, kind)(context, parameter, incomplete)

    return complete


runs = click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=paths("runs"))

truncate = click.option(
    "--truncate", is_flag=True, help="Take the rows that all tensors have, where their numbers differ."
)

repeated = click.option(
    "--repeated",
    type=click.Choice(REPEATED),
    default=REPEATED[0],
    show_default=True,
    help="What to do with training steps that were logged again: take all rows, the first or the last of "
    "each step, or fail.",
)

gradients = click.option(
    "--gradients",
    multiple=True,
    metavar="GLOB",
    help="Only arrays at such a path are gradients, in a store that does not say so itself (repeatable).",
)

strict = click.option("--strict", is_flag=True, help="Take absent chunks for an error in every store.")

no_color = click.option("--no-color", is_flag=True, help="No colour on a terminal.")

part = click.option(
    "--part",
    type=part_number,
    metavar="I/K",
    help="Take part I of K of the parameters, and write what `gradmf merge` adds up to the -o FILE.",
)

_tensors = (
    click.option("--tensor", multiple=True, metavar="GLOB", help="Only tensors of such a name (repeatable)."),
    click.option("--exclude", multiple=True, metavar="GLOB", help="No tensors of such a name (repeatable)."),
)
_rows = click.option(
    "--rows", type=row_range, metavar="A:B", help="Only rows A to B - 1, by Python's slice rules."
)


def selection(command: _Command) -> _Command:
    """Adds --tensor, --exclude and --rows."""
    for option in (_rows, *reversed(_tensors)):
        command = option(command)
    return command


_choices = (
    *_tensors,
    click.option(
        "--predictor",
        multiple=True,
        metavar="SPEC",
        shell_complete=offered(*PREDICTORS),
        help="Predictor to measure (repeatable): one-step, ema:B, ema-debiased:B, mean:K, linear, "
        "mixture:B1,B2,SHARE or lags:A1,A2,...  "
        "[default: one-step, ema:0.5, ema:0.9, ema:0.99, mean:5, linear]",
    ),
    click.option(
        "--epsilon",
        multiple=True,
        type=share_left_out,
        metavar="E",
        shell_complete=offered("0.1", "0.05", "0.01"),
        help="Share of the increments' energy that the predictable rank r* may leave out (repeatable).  "
        "[default: 0.1, 0.05, 0.01]",
    ),
    click.option(
        "--rank",
        type=click.Choice(RANK_METHODS),
        default=RANK_METHODS[0],
        show_default=True,
        help="How to compute the spectrum.",
    ),
    *projections,
    click.option(
        "--nonfinite",
        type=click.Choice(("fail", "drop")),
        default="fail",
        show_default=True,
        help="What to do with steps that hold NaN or infinity.",
    ),
    repeated,
    truncate,
    gradients,
    strict,
)

settings_of_runs = _bundle("settings", settings_of, *_choices)
"""Adds the options behind `Settings`, but for rows."""

rows_of_runs = click.option(
    "--rows",
    type=row_range,
    multiple=True,
    metavar="A:B",
    help="Only rows A to B - 1 of all runs; given once for each run, of each in order.",
)


def settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options behind `Settings`."""

    @functools.wraps(command)
    def with_rows(settings: Settings, rows: tuple[int | None, int | None] | None, **values: Any) -> Any:
        chosen = settings if rows is None else dataclasses.replace(settings, rows=rows)
        return command(settings=chosen, **values)

    return _rows(settings_of_runs(with_rows))


resources = _bundle(
    "resources",
    Resources,
    click.option(
        "--memory",
        type=memory_size,
        default=DEFAULT_MEMORY,
        show_default=True,
        metavar="SIZE",
        shell_complete=offered("512M", "1G", "2G", "4G", "8G"),
        help="Memory to stay within, such as 512M or 2G (powers of 1024).",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help="Threads to read and compute with; the numbers never depend on it.  [default: one a core]",
    ),
)

fail_if = click.option(
    "--fail-if",
    multiple=True,
    metavar="RULE",
    help="End with exit code 3 where RULE holds, such as 'rank[0.05] > 40' (repeatable).",
)

presentation = _bundle(
    "shown",
    Presentation,
    click.option(
        "--format", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True, help="Output format."
    ),
    click.option(
        "--columns",
        type=name_list,
        default="",
        metavar="NAMES",
        help="With --format csv: only these columns, in this order, separated by commas; * stands for any "
        "text, and the word help lists them.",
    ),
    click.option(
        "-o",
        "--output",
        "out",
        type=out_file,
        metavar="FILE",
        shell_complete=paths("file"),
        help="Write to FILE, whole or not at all, instead of stdout.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="No explanations and no progress bar."),
    no_color,
)

steps = click.option(
    "--steps", is_flag=True, help="With --format jsonl: the per-step series too, which json always holds."
)


def check_steps(steps: bool, shown: Presentation) -> None:
    """Raise for `--steps` where the format has no place for them."""
    if steps and not shown.format.startswith("json"):
        raise click.UsageError(f"--steps goes with --format jsonl, not with {shown.format}.")


def _leading_directions(help: str) -> Callable[[_Command], _Command]:
    return click.option("--subspace", type=click.IntRange(min=1), metavar="K", help=help)


subspace = _leading_directions(
    "Follow the leading K directions of gradients and of increments from one window of training to the "
    "next: how much of each row lies in those of the window before, and how far they overlap."
)

relation = _leading_directions(
    "Read the stores once more, side by side: the cosine of gradients at equal steps, and how far the "
    "runs' leading K directions of gradients and of increments overlap, window by window."
)

band = click.option(
    "--band",
    type=click.IntRange(2, 256),
    metavar="W",
    help="Lags up to W - 1 whose products predictors are searched from, means up to W among them, in logs "
    "too long to multiply all pairs of rows.  [default: 64]",
)

window = click.option(
    "--window",
    type=click.IntRange(min=2),
    metavar="W",
    help="Rows of a window for --subspace.  [default: 4 K]",
)


def with_subspace(settings: Settings, dimensions: int | None, rows: int | None) -> Settings:
    """The settings with --subspace and --window."""
    if dimensions is None:
        if rows is not None:
            raise click.UsageError("--window goes with --subspace.")
        return settings
    if rows is not None and rows < dimensions:
        raise click.UsageError(f"--window {rows} is shorter than the {dimensions} directions of --subspace.")
    return dataclasses.replace(settings, subspace=dimensions, window=rows)


def with_band(settings: Settings, width: int | None) -> Settings:
    """The settings with --band."""
    return settings if width is None else dataclasses.replace(settings, band=width)
