"""Options that say what is computed, of which runs, and with what."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gradmf.gradlog.quick_dataclass import dataclass

from .declaring import Declaration, bundle, change, declare, offered, paths
from .values import memory_size, part_number, row_range, share_left_out, window_length

if TYPE_CHECKING:
    from gradmf.gradlog import Settings

RANK_METHODS = ("auto", "exact", "incremental", "sketch", "none")
REPEATED = ("fail", "last", "first", "keep")
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

Rows = tuple[int | None, int | None]


@dataclass(frozen=True)
class Resources:
    """What an analysis may use.

    memory : bytes; threads : None for as many as there are cores; scratch : a folder, None for none
    dask : where workers are, None for this process; parts : that logs are cut into for them, None for what
    their size makes of it
    """

    memory: int
    threads: int | None
    scratch: str | None = None
    dask: str | None = None
    parts: int | None = None


runs = click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=paths("runs"))

runs_or_like = click.argument("runs", nargs=-1, metavar="[RUN]...", shell_complete=paths("runs"))
"""Where --like may stand in their place."""

like = click.option(
    "--like",
    metavar="FILE",
    shell_complete=paths("file"),
    help="With --plan, in place of RUN: a log that nobody has recorded, as a JSON file declares its tensors.",
)

workers = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="K",
    help="With --plan: what K workers of one thread would take, from metadata alone.",
)

memory = click.option(
    "--memory",
    type=memory_size,
    default=DEFAULT_MEMORY,
    show_default=True,
    metavar="SIZE",
    shell_complete=offered("512M", "1G", "2G", "4G", "8G"),
    help="Memory to stay within, such as 512M or 2G (powers of 1024).",
)

_threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads to read and compute with; the numbers never depend on it.  [default: one a core]",
)


def _resources(
    memory: int, threads: int | None, scratch: str | None, dask: str | None, parts: int | None
) -> Resources:
    if parts is not None and dask is None:
        raise click.UsageError("--parts goes with --dask; --part I/K writes one of K parts to a file.")
    if scratch is not None and dask is not None:
        raise click.UsageError("--scratch doesn't go with --dask: workers have folders of their own.")
    return Resources(memory, threads, scratch, dask, parts)


resources = bundle(
    "resources",
    _resources,
    memory,
    _threads,
    click.option(
        "--scratch",
        metavar="DIR",
        shell_complete=paths("file"),
        help="Folder for scratch files: chunks too tall for memory are decoded into one, once, where that is "
        "faster than to decode them again. Nothing is left there.",
    ),
    click.option(
        "--dask",
        metavar="WHERE",
        shell_complete=offered("local", "local:2", "tcp://"),
        help="Have workers of Dask do the work: a scheduler's address (tcp://HOST:8786), its scheduler file, "
        "or local[:N] for N processes here. --memory is each worker's.",
    ),
    click.option(
        "--parts",
        type=click.IntRange(1, 65536),
        metavar="K",
        help="With --dask: cut each log into K parts; results have the same bits for any workers.  "
        "[default: by its size]",
    ),
)


def _without_scratch(memory: int, threads: int | None) -> Resources:
    return Resources(memory, threads)


resources_of_copy = bundle("resources", _without_scratch, memory, _threads)
"""Adds --memory and --threads."""

part = click.option(
    "--part",
    type=part_number,
    metavar="I/K",
    help="Take part I of K of the parameters, and write what `gradmf merge` adds up to the -o FILE.",
)

truncate = click.option(
    "--truncate", is_flag=True, help="Take the rows that all tensors have, where their numbers differ."
)

gradients = click.option(
    "--gradients",
    multiple=True,
    metavar="GLOB",
    help="Only arrays at such a path are gradients, in a store that does not say so itself (repeatable).",
)

_repeated = click.option(
    "--repeated",
    type=click.Choice(REPEATED),
    default=REPEATED[0],
    show_default=True,
    help="What to do with training steps that repeat or go back, as a resumed run logs them: end with an "
    "error, take the last or the first row of each step, or keep all rows in their order.",
)

_strict = click.option("--strict", is_flag=True, help="Take absent chunks for an error in every store.")

_tensors = (
    click.option("--tensor", multiple=True, metavar="GLOB", help="Only tensors of such a name (repeatable)."),
    click.option("--exclude", multiple=True, metavar="GLOB", help="No tensors of such a name (repeatable)."),
)

_rows = click.option(
    "--rows", type=row_range, metavar="A:B", help="Only rows A to B - 1, by Python's slice rules."
)

rows_of_runs = click.option(
    "--rows",
    type=row_range,
    multiple=True,
    metavar="A:B",
    help="Only rows A to B - 1 of all runs; given once for each run, of each in order.",
)

_seed = click.option(
    "--seed",
    type=click.IntRange(0, (1 << 64) - 1),
    default=0,
    show_default=True,
    metavar="S",
    help="Seed of the random projection.",
)


def _settings_of_runs(
    tensor: tuple[str, ...],
    exclude: tuple[str, ...],
    predictor: tuple[str, ...],
    epsilon: tuple[float, ...],
    rank: str,
    sketch_dim: int | None,
    seed: int,
    project: int | None,
    nonfinite: str,
    repeated: str,
    truncate: bool,
    gradients: tuple[str, ...],
    strict: bool,
) -> Settings:
    """Raises UsageError for a wrong predictor."""
    from gradmf.gradlog import Settings, parse_predictor

    for spec in predictor:
        parse_predictor(spec)  # what is wrong for every run is told once
    default = Settings()
    return Settings(
        predictors=predictor or default.predictors,
        epsilons=tuple(dict.fromkeys(epsilon)) or default.epsilons,
        rank=rank,
        tensors=tensor,
        exclude=exclude,
        nonfinite=nonfinite,
        repeated=repeated,
        truncate=truncate,
        gradients=gradients,
        strict=strict,
        sketch_dim=sketch_dim,
        seed=seed,
        project=project,
    )


settings_of_runs = bundle(
    "settings",
    _settings_of_runs,
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
    click.option(
        "--sketch-dim",
        type=int,
        metavar="M",
        help="With --rank sketch: dimension of the random projection, a power of two.  "
        "[default: 1024, or less where memory is short]",
    ),
    _seed,
    click.option(
        "--project",
        type=int,
        metavar="M",
        help="Estimate path lengths too, with errors, from a random projection of tensors to M dimensions.",
    ),
    click.option(
        "--nonfinite",
        type=click.Choice(("fail", "drop")),
        default="fail",
        show_default=True,
        help="What to do with steps that hold NaN or infinity.",
    ),
    _repeated,
    truncate,
    gradients,
    _strict,
)
"""Adds the options behind `Settings`, but for rows."""


def settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options behind `Settings`."""
    return declare(settings_of_runs(change(_with_rows)(command)), _rows)


def _with_rows(settings: Settings, rows: Rows | None) -> Settings:
    return settings if rows is None else dataclasses.replace(settings, rows=rows)


def _settings_of_sketch(
    dim: int | None,
    seed: int,
    tensor: tuple[str, ...],
    exclude: tuple[str, ...],
    rows: Rows | None,
    truncate: bool,
    gradients: tuple[str, ...],
    repeated: str,
    strict: bool,
) -> Settings:
    from gradmf.gradlog import Settings

    return Settings(
        sketch_dim=dim, seed=seed, tensors=tensor, exclude=exclude, rows=rows or (None, None),
        repeated=repeated, truncate=truncate, gradients=gradients, strict=strict,
    )  # fmt: skip


settings_of_sketch = bundle(
    "settings",
    _settings_of_sketch,
    click.option(
        "--dim",
        type=int,
        metavar="M",
        help="Dimension of the projection of each tensor, a power of two.  "
        "[default: 1024, or less where memory is short]",
    ),
    _seed,
    *_tensors,
    _rows,
    truncate,
    gradients,
    _repeated,
    _strict,
)
"""Adds what the sketch of a log follows from."""


def _settings_of_copy(
    tensor: tuple[str, ...],
    exclude: tuple[str, ...],
    rows: Rows | None,
    truncate: bool,
    gradients: tuple[str, ...],
    strict: bool,
) -> Settings:
    from gradmf.gradlog import Settings

    return Settings(
        tensors=tensor, exclude=exclude, rows=rows or (None, None), truncate=truncate, gradients=gradients,
        strict=strict,
    )  # fmt: skip


settings_of_copy = bundle("settings", _settings_of_copy, *_tensors, _rows, truncate, gradients, _strict)
"""Adds what of a log is copied."""


def _with_band(settings: Settings, band: int | None) -> Settings:
    return settings if band is None else dataclasses.replace(settings, band=band)


band = change(
    _with_band,
    click.option(
        "--band",
        type=click.IntRange(2, 256),
        metavar="W",
        help="Lags up to W - 1 whose products predictors are searched from, means up to W among them, in "
        "logs too long to multiply all pairs of rows.  [default: 64]",
    ),
)
"""Adds how far a search for predictors looks back."""


def _with_subspace(settings: Settings, subspace: int | None, window: int | None) -> Settings:
    if subspace is None:
        if window is not None:
            raise click.UsageError("--window goes with --subspace.")
        return settings
    if window is not None and window < subspace:
        raise click.UsageError(f"--window {window} is shorter than the {subspace} directions of --subspace.")
    return dataclasses.replace(settings, subspace=subspace, window=window)


def _with_windows(
    settings: Settings, subspace: int | None, windows: int | None, window: tuple[int, int | None] | None
) -> Settings:
    rows, stride = window or (None, None)
    if windows is not None and window is not None and subspace is None:
        raise click.UsageError("--windows says how many there are, and --window how long: give one of them.")
    if subspace is not None and stride is not None:
        raise click.UsageError(
            "--window ROWS:STRIDE doesn't go with --subspace, whose windows don't overlap."
        )
    if subspace is not None:
        settings = _with_subspace(settings, subspace, rows)
    elif rows is not None:
        return dataclasses.replace(settings, windows=(rows, stride or rows))
    return settings if windows is None else dataclasses.replace(settings, windows=windows)


def _subspace_option(help: str) -> Declaration:
    return click.option("--subspace", type=click.IntRange(min=1), metavar="K", help=help)


def _leading_directions(help: str) -> Declaration:
    """Adds --subspace and --window."""
    return change(
        _with_subspace,
        _subspace_option(help),
        click.option(
            "--window",
            type=click.IntRange(min=2),
            metavar="W",
            help="Rows of a window for --subspace.  [default: 4 K]",
        ),
    )


windows = change(
    _with_windows,
    _subspace_option(
        "Follow the leading K directions of gradients and of increments from one window of training to the "
        "next: how much of each row lies in those of the window before, and how far they overlap."
    ),
    click.option(
        "--windows",
        type=click.IntRange(min=1),
        metavar="K",
        help="Show kappa and r* of K windows of training too, each about as long.",
    ),
    click.option(
        "--window",
        type=window_length,
        metavar="ROWS[:STRIDE]",
        help="The same of windows of so many rows, each STRIDE rows behind the one before; with --subspace, "
        "rows of its windows.  [default: as long as they are; with --subspace 4 K]",
    ),
)
"""Adds --subspace, --windows and --window."""


def _with_groups(settings: Settings, group: tuple[str, ...]) -> Settings:
    return dataclasses.replace(settings, groups=group) if group else settings


groups = change(
    _with_groups,
    click.option(
        "--group",
        multiple=True,
        metavar="GLOB|DEPTH",
        help="Show tensors together too (repeatable): those that a glob matches, as '*attn*', or those whose "
        "names have the first DEPTH parts in common, as h.0 of h.0.attn.weight with 2.",
    ),
)
"""Adds --group."""

relation = _leading_directions(
    "Read the stores once more, side by side: the cosine of gradients at equal steps, and how far the "
    "runs' leading K directions of gradients and of increments overlap, window by window."
)
