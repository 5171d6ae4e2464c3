"""How often a hint is said to pay, and stationarity bounds of runs that move along m_t: for `verdicts.py`.

Gradients are simulated in memory, seeded, and go through `gradlog.analyze` and `gradlog.bounds` as logs do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from verdict_series import AUTOCORRELATED, NOISE, TRAINED, Kind, ar, white

from gradmf import gradlog
from gradmf.gradlog import Bounds, Settings

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ArrayTensor(gradlog.Tensor):
    """Gradients in memory, (rows, parameters) float64."""

    array: Doubles

    @property
    def rows(self) -> int:
        return self.array.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape[1:]

    @property
    def dtype(self) -> str:
        return self.array.dtype.name

    @property
    def chunks(self) -> tuple[int, ...]:
        return self.array.shape

    def read(self, rows: tuple[int, int], box: tuple[slice, ...], out: NDArray[Any], room: int = 0) -> None:  # noqa: ARG002
        out[...] = self.array[slice(*rows), *box].reshape(out.shape)


def log_of(gradients: Doubles) -> gradlog.GradientLog:
    """A log of one tensor, (rows, parameters)."""
    step = np.arange(gradients.shape[0], dtype=np.int64)
    return gradlog.GradientLog(
        path="simulated", tensors=(ArrayTensor("w", gradients),), rows=step.size, step=step
    )


def drifting(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """Noise about a mean that holds a tenth of the energy."""
    return 3 * white(rng, rows, parameters) + rng.standard_normal(parameters)


CASES: dict[str, Kind] = {
    **NOISE,
    **AUTOCORRELATED,
    "AR(0.2)": partial(ar, phi=0.2),
    "mean of a tenth": drifting,
    **TRAINED,
}
ROWS = (60, 200, 1000)
PARAMETERS = (10, 100)


def fresh_kappa(kind: Kind, seed: int, rows: int, parameters: int, spec: str) -> float:
    """Kappa of a predictor on another log of the same law."""
    gradients = kind(np.random.default_rng([seed, 1]), rows, parameters)
    found = gradlog.analyze(log_of(gradients), Settings(predictors=(spec,), rank="none"), threads=1)
    (kappa,) = (p.kappa for p in found.total.predictors if p.predictor == spec)
    return float("nan") if kappa is None else kappa


def pays(kind: Kind, seed: int, rows: int, parameters: int, *, search: bool) -> tuple[bool, bool, bool]:
    """Whether a hint is said to pay, wrongly so, and whether least in hindsight alone would say it.

    Wrongly: on another log of the same law it leaves no less than no hint.
    """
    gradients = kind(np.random.default_rng([seed, 0]), rows, parameters)
    settings = Settings() if search else Settings(rank="none")
    found = gradlog.bounds(gradlog.analyze(log_of(gradients), settings, threads=1, search=search))
    said = found.anytime.pays_from is not None and found.anytime.pays_from < rows
    wrong = said and fresh_kappa(kind, seed, rows, parameters, str(found.anytime.hint)) >= 1
    in_hindsight = any(
        curve[-1] < found.anytime.bounds["zero"][-1] for curve in found.anytime.bounds.values()
    )
    return said, wrong, in_hindsight


def quadratic_run(
    seed: int, rows: int, noise: float, decay: float, *, columns: int = 20
) -> tuple[Bounds, float]:
    """Bounds of a run along an average of its gradients, f = x' A x / 2, and its mean squared full gradient.

    noise : deviation of each entry of the minibatch noise
    """
    rng = np.random.default_rng([seed, 2])
    curvature = np.linspace(0.05, 1.0, columns)
    rate = 0.2
    x, average = rng.standard_normal(columns), np.zeros(columns)
    gradients, losses, full = np.zeros((rows, columns)), np.zeros(rows), np.zeros(rows)
    for t in range(rows):
        exact = curvature * x
        gradients[t] = exact + noise * rng.standard_normal(columns)
        losses[t], full[t] = (curvature * x * x).sum() / 2, exact @ exact
        x = x - rate * average
        average = decay * average + (1 - decay) * gradients[t]
    settings = Settings(predictors=(f"ema:{decay}",), rank="none")
    analysis = gradlog.analyze(log_of(gradients), settings, threads=1)
    series = {"loss": losses, "lr": np.full(rows, rate)}
    held = dataclasses.replace(analysis, series=series)
    return gradlog.bounds(held, smoothness=1.0), float(full.mean())


def pays_table(seeds: int) -> Iterator[str]:
    """A row for each kind and number of parameters, in percent of so many logs; cells by N of `ROWS`."""
    cells = [f"{how}, N = {rows:,}" for how in ("searched", "listed") for rows in ROWS]
    columns = ("gradients", "D", *cells, "most wrong", "in hindsight")
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for name, kind in CASES.items():
        for parameters in PARAMETERS[1:] if name in TRAINED else PARAMETERS:
            said, wrong, hindsight = np.moveaxis(
                [
                    np.mean([pays(kind, seed, rows, parameters, search=s) for seed in range(seeds)], axis=0)
                    for s in (True, False)
                    for rows in ROWS
                ],
                1,
                0,
            )
            told = (*said, wrong.max(), hindsight[: len(ROWS)].min())
            yield f"| {name} | {parameters} | {' | '.join(f'{100 * cell:.1f}' for cell in told)} |"


def stationarity_table(seeds: int) -> Iterator[str]:
    columns = (
        "noise",
        "decay",
        "N",
        "bound",
        "mean as logged",
        "of full gradient",
        "above it",
        "kappa",
        "vacuous",
    )
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for noise in (0.0, 0.1, 0.5):
        for decay in (0.0, 0.9):
            for rows in (100, 1000):
                yield _stationarity_row(seeds if noise else 20, noise, decay, rows)


def _stationarity_row(seeds: int, noise: float, decay: float, rows: int) -> str:
    found = []
    for seed in range(seeds):
        bounds, full = quadratic_run(seed, rows, noise, decay)
        whole, added = bounds.row("stationarity"), bounds.row("stationarity[added]")
        assert whole.value is not None
        assert added.worst is not None
        assert added.ratio is not None
        found.append((whole.value, added.worst, full, added.worst > whole.value, added.ratio, whole.vacuous))
    value, logged, of_full, above, kappa, vacuous = np.mean(found, axis=0)
    return (
        f"| {noise:g} | {decay:g} | {rows} | {value:.4g} | {logged:.4g} | {of_full:.4g} | "
        f"{100 * above:.0f} | {kappa:.3g} | {100 * vacuous:.0f} |"
    )


def tables(logs: int) -> Iterator[str]:
    """Lines of Markdown: both tables, over so many logs in each cell."""
    yield "A hint is said to pay, in percent of logs:"
    yield ""
    yield from pays_table(logs)
    yield ""
    yield "Runs along an average of their gradients on a quadratic, means over runs:"
    yield ""
    yield from stationarity_table(logs)
