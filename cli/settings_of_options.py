"""What the values of options amount to: parameters bear the options' names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradmf.gradlog import Settings


def settings_of_run(
    predictor: tuple[str, ...],
    epsilon: tuple[float, ...],
    rank: str,
    tensor: tuple[str, ...],
    exclude: tuple[str, ...],
    rows: tuple[int | None, int | None] | None,
    nonfinite: str,
    truncate: bool,
    strict: bool,
    sketch_dim: int | None,
    seed: int,
    project: int | None,
) -> Settings:
    """The settings that the values of a run's options amount to."""
    from gradmf.gradlog import Settings

    default = Settings()
    return Settings(
        predictors=predictor or default.predictors,
        epsilons=tuple(dict.fromkeys(epsilon)) or default.epsilons,
        rank=rank,
        tensors=tensor,
        exclude=exclude,
        rows=rows or default.rows,
        nonfinite=nonfinite,
        truncate=truncate,
        strict=strict,
        sketch_dim=sketch_dim,
        seed=seed,
        project=project,
    )


def settings_of_runs(
    predictor: tuple[str, ...],
    epsilon: tuple[float, ...],
    rank: str,
    tensor: tuple[str, ...],
    exclude: tuple[str, ...],
    rows: tuple[tuple[int | None, int | None], ...],
    nonfinite: str,
    truncate: bool,
    strict: bool,
    sketch_dim: int | None,
    seed: int,
    project: int | None,
) -> tuple[Settings, tuple[tuple[int | None, int | None], ...]]:
    """The settings of all runs, but for rows, and the rows that were asked for."""
    settings = settings_of_run(
        predictor,
        epsilon,
        rank,
        tensor,
        exclude,
        None,
        nonfinite,
        truncate,
        strict,
        sketch_dim,
        seed,
        project,
    )
    return settings, rows
