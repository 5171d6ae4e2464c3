"""What the values of options amount to: parameters bear the options' names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradmf.gradlog import Settings


def settings_of(
    predictor: tuple[str, ...],
    epsilon: tuple[float, ...],
    rank: str,
    tensor: tuple[str, ...],
    exclude: tuple[str, ...],
    nonfinite: str,
    repeated: str,
    truncate: bool,
    gradients: tuple[str, ...],
    strict: bool,
    sketch_dim: int | None,
    seed: int,
    project: int | None,
) -> Settings:
    """The settings that the options amount to, of all rows. Raises UsageError for a wrong predictor."""
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
