"""What the ways print, brought to one form, and how far it is from the reference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

EPSILONS = ("0.1", "0.05", "0.01")
LEADING = 1e-4


@dataclass(frozen=True)
class Answer:
    """Numbers of the whole model. `rank` holds (lower, rank, upper) by eps."""

    kappa: Mapping[str, float] = field(default_factory=dict)
    rank: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    squares: tuple[float, ...] = ()
    energy: float | None = None
    method: str = ""

    def rank_within(self, energy: float | None) -> dict[str, tuple[int, int, int] | str]:
        """r* by eps as printed, or from the singular values; ``>64`` where those don't reach far enough."""
        if self.rank or not self.squares or not energy:
            return dict(self.rank)
        sums = list(accumulate(self.squares))
        ranks: dict[str, tuple[int, int, int] | str] = {}
        for eps in EPSILONS:
            enough = (1 - float(eps)) * energy
            reached = next((r for r, total in enumerate(sums, 1) if total >= enough), None)
            ranks[eps] = f">{len(sums)}" if reached is None else (reached,) * 3
        return ranks


def parse(output: str) -> Answer:
    """The numbers in a way's output; an empty answer for a way that prints none."""
    try:
        document = json.loads(output)
    except ValueError:
        return Answer()
    if not str(document.get("schema", "")).startswith("gradmf.analyze/"):
        return Answer(
            kappa=document.get("kappa", {}),
            rank={eps: (rank,) * 3 for eps, rank in document.get("rank", {}).items()},
            squares=tuple(value**2 for value in document.get("singular_values", [])),
            energy=document.get("energy"),
        )
    total = document["total"]
    kappa = {one["predictor"]: one["kappa"] for one in total["predictors"] if one["predictor"] != "zero"}
    spectrum = total["spectrum"]
    if spectrum is None:
        return Answer(kappa=kappa)
    return Answer(
        kappa=kappa,
        rank={f"{r['epsilon']:g}": (r["lower"], r["rank"], r["upper"]) for r in spectrum["rank"]},
        squares=tuple(value**2 for value in spectrum["singular_values"]),
        energy=spectrum["energy"],
        method=spectrum["method"],
    )


def kappa_error(answer: Answer, reference: Answer) -> float | None:
    """The largest relative error of a kappa."""
    pairs = [(answer.kappa[name], value) for name, value in reference.kappa.items() if name in answer.kappa]
    return max((abs(found / value - 1) for found, value in pairs if value), default=None)


def square_errors(answer: Answer, reference: Answer) -> tuple[float, float] | None:
    """The largest errors of a sigma_i^2 among those printed: as a share of ||H||_F^2, and of itself.

    The second looks at those that hold at least LEADING of the energy.
    """
    if not answer.squares or not reference.squares or not reference.energy:
        return None
    pairs = [(abs(a - b), b) for a, b in zip(answer.squares, reference.squares, strict=False)]
    of_itself = [off / square for off, square in pairs if square >= LEADING * reference.energy]
    return max(off for off, _ in pairs) / reference.energy, max(of_itself, default=0.0)
