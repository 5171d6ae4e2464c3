"""No predictor foretells more than noise would let it seem, in a run that is long enough to tell.

1 - scaled kappa is the squared correlation of rows with what was predicted, with the best factor before it.
Independent rows have a correlation of 0 up to a few deviations (`Examined.noise_deviation`); where no
predictor has more, and one that explains 5 percent of the energy would have been seen, none does.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..quick_dataclass import dataclass
from ..results.result import PredictorResult
from .finding import Examined, Finding

CODE = "nothing-foretold"


@dataclass(frozen=True)
class Explained:
    """What the best predictor explains of the energy, with the best factor before it, of either sign.

    share : 1 - scaled kappa; noise_to : what noise reaches; predictors : how many were measured
    """

    best: PredictorResult
    share: float
    noise_to: float
    predictors: int

    @property
    def beyond_noise(self) -> bool:
        """Whether noise explains less."""
        return self.share > self.noise_to

    def would_show(self, share: float) -> bool:
        """Whether a predictor that explains this share would nearly always be told from noise."""
        # As far again beside what noise reaches.
        return 4 * self.noise_to <= share


def explained(examined: Examined) -> Explained | None:
    """Of the whole model, by all predictors that were measured; None where it cannot be told from noise."""
    total = examined.analysis.total
    measured = [p for p in total.predictors if p.predictor != "zero" and p.scaled_kappa is not None]
    noise = examined.noise_deviation(total)
    if not measured or noise is None or total.estimated:
        return None
    most = noise * examined.deviations(2 * len(measured))
    best = min(measured, key=lambda p: p.scaled_kappa or 0.0)
    return Explained(best, 1 - (best.scaled_kappa or 0.0), most**2, len(measured))


def find(examined: Examined) -> Iterator[Finding]:
    """Of the whole model: all predictors that were measured, and neither sign of the factor."""
    found = explained(examined)
    if found is None or found.beyond_noise or not found.would_show(examined.thresholds.explained):
        return
    figures = {
        "explained": found.share, "noise_to": found.noise_to, "predictors": float(found.predictors)
    }  # fmt: skip
    text = (
        f"no predictor is better than noise: {found.best.predictor} explains {100 * found.share:.2g}% of the "
        f"energy, and noise up to {100 * found.noise_to:.2g}%"
    )
    yield Finding(CODE, None, None, figures, text)
