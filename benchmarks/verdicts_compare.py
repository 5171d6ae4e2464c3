"""Error rates and power of `compare`: the tables of docs/compare.md.

Pairs of runs that do not differ are drawn in memory, seeded, and go through `gradlog.analyze` and
`gradlog.compare` as logs do. A verdict other than `~` is false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from verdict_series import KINDS, NOISE, TRAINED, Kind, ar
from verdicts_bounds import ArrayTensor

from gradmf import gradlog
from gradmf.gradlog import Analysis, Comparison, Settings

Doubles = NDArray[np.float64]

ROWS = (60, 200, 1000)
PARAMETERS = {**dict.fromkeys(KINDS, 50), **dict.fromkeys(TRAINED, 150)}
SPECS = ("one-step", "ema:0.9", "ema:0.99", "mean:5", "linear")
QUANTITIES = (
    "kappa[best]",
    *(f"{word}[{spec}]" for word in ("kappa", "scaled_kappa") for spec in ("one-step", "ema:0.9", "mean:5")),
    "path_length[one-step]",
    "path_length[ema:0.9]",
    "grad_norm",
)
TENSORS = 150
PLANTED = (0.1, 0.2, 0.5)


def analysis_of(gradients: Mapping[str, Doubles]) -> Analysis:
    """Of tensors (rows, parameters), without ranks."""
    rows = next(iter(gradients.values())).shape[0]
    tensors = tuple(ArrayTensor(name, gradients[name]) for name in sorted(gradients))
    log = gradlog.GradientLog(path="simulated", tensors=tensors, rows=rows, step=np.arange(rows))
    return gradlog.analyze(log, Settings(predictors=SPECS, rank="none"), threads=1, tensor_steps=True)


def verdicts(comparison: Comparison) -> list[tuple[str, str | None]]:
    """Of `QUANTITIES`: None where there is none."""
    changes = {change.quantity: change for change in comparison.total.changes}
    return [(quantity, changes[quantity].verdict) for quantity in QUANTITIES]


def false_calls(kind: str, rows: int, pairs: int) -> dict[str | None, Doubles]:
    """By alignment (pairs, quantities): 1 where a verdict is false, 0 where it is `~`, NaN without one."""
    found: dict[str | None, list[list[float]]] = {None: [], "step": []}
    for pair in range(pairs):
        a, b = (
            analysis_of({"w": KINDS[kind](np.random.default_rng([pair, side, rows]), rows, PARAMETERS[kind])})
            for side in (0, 1)
        )
        for align, calls in found.items():
            told = verdicts(gradlog.compare(a, b, align=align))
            calls.append([np.nan if verdict is None else float(verdict != "~") for _, verdict in told])
    return {align: np.array(calls) for align, calls in found.items()}


def null_table(pairs: int) -> Iterator[str]:
    """Percent of false verdicts, on their own and aligned; "-" where fewer than one pair in ten has one."""
    yield "| kind | N | given | " + " | ".join(f"`{quantity}`" for quantity in QUANTITIES) + " |"
    yield "|---|---:|---:|" + "---:|" * len(QUANTITIES)
    for kind in KINDS:
        for rows in ROWS:
            apart, aligned = false_calls(kind, rows, pairs).values()
            given = ~np.isnan(apart)
            cells = [
                "-" if share < 0.1 else f"{100 * np.nanmean(a):.1f} / {100 * np.nanmean(b):.1f}"
                for share, a, b in zip(given.mean(axis=0), apart.T, aligned.T, strict=True)
            ]
            yield f"| {kind} | {rows} | {100 * given[:, 0].mean():.0f} | {' | '.join(cells)} |"


def many_tensors_table(pairs: int) -> Iterator[str]:
    """Percent of null pairs of runs of `TENSORS` tensors in which something is called."""
    yield "| kind | N | tensors called, each by itself | any in the table | `kappa[best] worse in *` fails |"
    yield "|---|---:|---:|---:|---:|"
    rule = gradlog.Rule("kappa", "best", "worse", "*")
    rows = 200
    for kind in ("white", "decaying", "t3", "AR(0.5)"):
        alone, table, gate = [], [], []
        for pair in range(pairs):
            a, b = (
                analysis_of(
                    {
                        f"layer{k:03d}": KINDS[kind](np.random.default_rng([pair, side, k]), rows, 50)
                        for k in range(TENSORS)
                    }
                )
                for side in (0, 1)
            )
            compared = gradlog.compare(a, b)
            found = [tensor.change("kappa[best]") for tensor in compared.tensors]
            alone.append(sum(change is not None and change.beyond_noise for change in found))
            table.append(any(change is not None and change.significant for change in found))
            violated = gradlog.judge_comparison(compared, [rule])
            gate.append(any(breach.certain for each in violated for breach in each.breaches))
        shares = " | ".join(f"{100 * np.mean(each):.1f}" for each in (table, gate))
        yield f"| {kind} | {rows} | {np.mean(alone):.1f} | {shares} |"


def power_table(pairs: int) -> Iterator[str]:
    """Percent of pairs in which a planted difference is called, on their own and aligned.

    Rows have the norms of a kind, and follow an AR(1) with so much less one-step kappa, or are larger.
    """
    planted = [f"kappa -{share:.0%}" for share in PLANTED] + [f"norms +{share:.0%}" for share in PLANTED]
    yield "| kind of norms | N | " + " | ".join(planted) + " |"
    yield "|---|---:|" + "---:|" * len(planted)
    cases: list[tuple[str, Callable[[float], tuple[float, float]]]] = [
        ("kappa[one-step]", lambda share: (share, 1.0)),
        ("grad_norm", lambda share: (0.0, 1 + share)),
    ]
    for kind in ("white", "decaying", "growing", "volatile", "t3", "warm-up, cosine", "wsd"):
        for rows in ROWS:
            cells = []
            for quantity, plant in cases:
                for share in PLANTED:
                    calls = [
                        _called(NOISE[kind], rows, quantity, *plant(share), pair) for pair in range(pairs)
                    ]
                    given = np.array([call for call in calls if not np.isnan(call).any()])
                    few = len(given) < pairs / 10
                    cells.append("-" if few else " / ".join(f"{100 * x:.0f}" for x in given.mean(axis=0)))
            yield f"| {kind} | {rows} | {' | '.join(cells)} |"


def _called(kind: Kind, rows: int, quantity: str, phi: float, scale: float, pair: int) -> list[float]:
    runs = []
    for side, (memory, size) in enumerate(((0.0, 1.0), (phi, scale))):
        rng = np.random.default_rng([pair, side, rows, 7])
        norms = np.sqrt(np.square(kind(rng, rows, 500)).mean(axis=1))
        runs.append(analysis_of({"w": size * norms[:, None] * ar(rng, rows, 50, memory)}))
    found = []
    for align in (None, "step"):
        change = gradlog.compare(runs[0], runs[1], align=align).total.change(quantity)
        assert change is not None
        found.append(np.nan if change.verdict is None else float(change.significant))
    return found


def tables(pairs: int = 400) -> Iterator[str]:
    """The lines of all tables, as Markdown, as they come."""
    for table in (null_table(pairs), many_tensors_table(pairs // 4), power_table(pairs // 4)):
        yield from table
        yield ""
