"""The search where no Gram matrix over rows is formed: averages of a grid of decays, followed in the pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .predictors import Predictor, parse_predictors
from .search_result import PredictorSearch

if TYPE_CHECKING:
    from .pass_result import PassResult
    from .result import TensorSteps

GRID_DECAYS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 0.98, 0.995, 0.999)
"""Decays that are followed, beside those that are measured anyway."""


def with_grid(predictors: Sequence[Predictor]) -> tuple[Predictor, ...]:
    """The predictors, and averages of the grid's decays behind them."""
    specs = [predictor.spec for predictor in predictors]
    grid = [f"ema:{decay}" for decay in GRID_DECAYS]
    return parse_predictors([*specs, *grid])


def search_in_grid(result: PassResult, names: Sequence[str]) -> PredictorSearch:
    """The best average of each scope, from the per-step sums of a pass over `with_grid`."""
    from ..kernels.fused_pass import ENERGY
    from .held_out import BLOCKS
    from .predictor_search import CONFIDENCE, search_grid

    assert result.tensor_series is not None
    tensors: TensorSteps = result.tensor_series.steps()
    total = result.series.steps(np.arange(result.series.sums.shape[0]))
    specs = [spec for spec in tensors.path_length if spec.startswith("ema:")]
    decays = {float(spec.removeprefix("ema:")): spec for spec in specs}
    return PredictorSearch(
        "grid",
        CONFIDENCE,
        BLOCKS,
        search_grid(
            None,
            result.series.sums[:, ENERGY],
            {decay: total.path_length[spec] for decay, spec in decays.items()},
            {decay: total.product[spec] for decay, spec in decays.items()},
            keep_steps=True,
        ),
        tuple(
            search_grid(
                name,
                tensors.energy[at],
                {decay: tensors.path_length[spec][at] for decay, spec in decays.items()},
                {decay: tensors.product[spec][at] for decay, spec in decays.items()},
            )
            for at, name in enumerate(names)
        ),
    )
