"""Error rates of what `advise` says: calls on noise, planted cases that are found, intervals that hold.

`python benchmarks/verdicts.py advise --markdown docs/decisions.md` writes the tables there; takes minutes.
Gradients are simulated in memory, seeded, and go through `gradlog.advise` as logs do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from verdict_series import Kind, ar, lognormal, t3, volatile, white
from verdicts_bounds import ArrayTensor

from gradmf import gradlog
from gradmf.gradlog import Advice, Decision, Settings

Doubles = NDArray[np.float64]
Tensors = Mapping[str, Doubles]

NOISE: dict[str, Kind] = {"white": white, "lognormal": lognormal, "t3": t3, "volatile": volatile}
ROWS = (60, 200, 600)
SHAPES = {"0.bias": (40,), "0.weight": (24, 26)}
PARAMETERS = 664
"""More than rows: the Gram matrix over rows is formed, which windows of increments take."""


def constant(rows: int) -> Doubles:
    """(N,) learning rates."""
    return np.ones(rows)


def warmup_cosine(rows: int) -> Doubles:
    """(N,) learning rates: a tenth of warm-up, then a cosine to 0."""
    t, start = np.arange(rows), max(1, rows // 10)
    falling = (1 + np.cos(np.pi * np.clip((t - start) / (rows - 1 - start), 0, 1))) / 2
    return np.where(t < start, (t + 1) / start, falling)


def wsd(rows: int) -> Doubles:
    """(N,) learning rates: a twentieth of warm-up, then stable, then a fifth of decay to 0."""
    return np.interp(np.arange(rows) / (rows - 1), [0, 0.05, 0.8, 1], [0.1, 1, 1, 0])


RATES: dict[str, Callable[[int], Doubles]] = {
    "constant": constant,
    "warm-up, cosine": warmup_cosine,
    "wsd": wsd,
}


def log_of(tensors: Tensors, rates: Doubles | None = None) -> gradlog.GradientLog:
    """A log of these tensors, (rows, *shape) each, and learning rates."""
    rows = next(iter(tensors.values())).shape[0]
    return gradlog.GradientLog(
        path="simulated",
        tensors=tuple(ArrayTensor(name, tensors[name]) for name in sorted(tensors)),
        rows=rows,
        step=np.arange(rows, dtype=np.int64),
        series={} if rates is None else {"lr": rates},
    )


def in_tensors(gradients: Doubles) -> Tensors:
    """A bias and a weight, of the columns of (N, PARAMETERS)."""
    found, first = {}, 0
    for name, shape in SHAPES.items():
        last = first + int(np.prod(shape))
        found[name] = gradients[:, first:last].reshape(-1, *shape)
        first = last
    return found


def advise(tensors: Tensors, rates: Doubles | None = None, only: tuple[str, ...] = ()) -> Advice:
    """Advice on the log, by one thread."""
    return gradlog.advise(log_of(tensors, rates), Settings(), only=only, threads=1)


def called(advice: Advice) -> set[str]:
    """Quantities that call a change, or a thing to note, anywhere."""
    return {decision.quantity for decision in advice.decisions if decision.verdict in ("change", "note")}


def of(advice: Advice, quantity: str, scope: str | None = None) -> Decision:
    """The decision on a quantity in a scope."""
    return next(d for d in advice.decisions if d.quantity == quantity and d.scope == scope)


def calls_on_noise(kind: Kind, seed: int, rows: int) -> set[str]:
    """What is called on one log of noise: quantities, the schedule by its rates."""
    tensors = in_tensors(kind(np.random.default_rng([seed, rows]), rows, PARAMETERS))
    found: set[str] = set()
    for name, rates in RATES.items():
        only = () if name == "constant" else ("schedule",)
        calls = called(advise(tensors, rates(rows), only))
        found |= {f"schedule, {name}" if quantity == "schedule" else quantity for quantity in calls}
    return found


def noise_table(seeds: int) -> Iterator[str]:
    """Percent of logs in which a quantity calls anything in any of three scopes."""
    columns = [name for name in gradlog.QUANTITIES if name != "schedule"]
    columns += [f"schedule, {name}" for name in RATES]
    yield f"| noise | N | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 2) + "|"
    for name, kind in NOISE.items():
        for rows in ROWS:
            found = [calls_on_noise(kind, seed, rows) for seed in range(seeds)]
            cells = [f"{100 * np.mean([column in calls for calls in found]):.1f}" for column in columns]
            yield f"| {name} | {rows} | {' | '.join(cells)} |"


def with_mean(rng: np.random.Generator, rows: int, share: float, kind: Kind = white) -> Doubles:
    """Noise about a constant mean that has this share of the energy, over PARAMETERS columns."""
    mean = rng.standard_normal(PARAMETERS)
    mean *= np.sqrt(PARAMETERS) / np.linalg.norm(mean)
    noise = kind(rng, rows, PARAMETERS)
    noise *= np.sqrt(noise.size) / np.linalg.norm(noise)
    return np.sqrt(share) * mean + np.sqrt(1 - share) * noise


def low_rank(rng: np.random.Generator, rows: int, *, still: bool) -> Doubles:
    """(N, 32, 40) matrices of rank 2 and a twentieth of noise, of one subspace or another one at each row."""
    left = rng.standard_normal((1 if still else rows, 32, 2))
    signal = left @ rng.standard_normal((rows, 2, 40))
    noise = rng.standard_normal(signal.shape)
    return signal + np.sqrt(0.05) * noise * np.linalg.norm(signal) / np.linalg.norm(noise)


def two_tensors(rng: np.random.Generator, rows: int, kind: Kind = white) -> dict[str, Doubles]:
    """(N, 40) noise each."""
    return {name: kind(rng, rows, 40) for name in "ab"}


def _dead(rng: np.random.Generator, rows: int) -> bool:
    tensors = two_tensors(rng, rows)
    tensors["a"][3 * rows // 4 :] = 0
    return of(advise(tensors, only=("dead",)), "dead", "a").verdict == "change"


def _spikes(rng: np.random.Generator, rows: int, kind: Kind, factor: float) -> bool:
    gradients = kind(rng, rows, PARAMETERS)
    gradients[[rows // 2, rows // 2 + 9]] *= factor
    return of(advise(in_tensors(gradients), only=("spikes",)), "spikes").verdict == "change"


def _growth(rng: np.random.Generator, rows: int, kind: Kind) -> bool:
    gradients = kind(rng, rows, PARAMETERS)
    gradients[rows // 2 :] *= 8
    return of(advise(in_tensors(gradients), only=("growth",)), "growth").verdict == "change"


def _frozen(rng: np.random.Generator, rows: int, *, all_of_them: bool) -> bool:
    tensors = two_tensors(rng, rows)
    for name in "ab" if all_of_them else "a":
        tensors[name][rows // 2 :] *= 2e-3
    return of(advise(tensors, only=("frozen",)), "frozen", "a").verdict == "change"


def _rank(rng: np.random.Generator, rows: int, *, still: bool) -> bool:
    return (
        of(advise({"w": low_rank(rng, rows, still=still)}, only=("rank",)), "rank", "w").verdict == "change"
    )


def _hint(rng: np.random.Generator, rows: int) -> bool:
    return of(advise({"w": ar(rng, rows, 40, 0.9)}, only=("hint",)), "hint").verdict == "change"


def _momentum(rng: np.random.Generator, rows: int, share: float) -> bool:
    said = of(advise({"w": with_mean(rng, rows, share)}, only=("momentum",)), "momentum")
    return said.text.startswith("memory 0.99 or more")


def _backwards(rng: np.random.Generator, rows: int, phi: float) -> bool:
    said = of(advise({"w": ar(rng, rows, 40, phi)}, only=("momentum",)), "momentum")
    return "backwards" in said.text and said.verdict == "note"


def _schedule(rng: np.random.Generator, rows: int, rates: Callable[[int], Doubles]) -> bool:
    gradients = white(rng, rows, PARAMETERS) * 10 ** (np.arange(rows) / (rows - 1))[:, None]
    return "schedule" in called(advise(in_tensors(gradients), rates(rows), ("schedule",)))


def _slow(rng: np.random.Generator, rows: int, kind: Kind) -> bool:
    return "slow" in called(advise({"w": with_mean(rng, rows, 0.15, kind)}, only=("slow",)))


def _coherence(rng: np.random.Generator, rows: int, share: float) -> bool:
    return "coherence" in called(advise({"w": with_mean(rng, rows, share)}, only=("coherence",)))


def _edge(rng: np.random.Generator, rows: int, kind: Kind) -> bool:
    gradients = kind(rng, rows, PARAMETERS)
    third = slice(rows // 3, 2 * rows // 3)
    amplitudes = rng.standard_normal((rows, 1))[third] * np.linalg.norm(gradients[third], axis=1)[:, None]
    gradients[third] += 2 * amplitudes / np.sqrt(PARAMETERS)
    return "edge" in called(advise(in_tensors(gradients), only=("edge",)))


PLANTED: dict[str, Callable[[np.random.Generator, int], bool]] = {
    "dead: the last quarter is 0": _dead,
    "spikes: two of 12x in white noise": partial(_spikes, kind=white, factor=12),
    "spikes: two of 30x in volatile norms": partial(_spikes, kind=volatile, factor=30),
    "growth: 8x in white noise": partial(_growth, kind=white),
    "growth: 8x in t3 norms": partial(_growth, kind=t3),
    "growth: 8x in volatile norms": partial(_growth, kind=volatile),
    "frozen: one of two tensors falls to 0.002": partial(_frozen, all_of_them=False),
    "rank: 2, in one subspace": partial(_rank, still=True),
    "hint: AR(0.9)": _hint,
    "momentum: constant mean, 0.99 or more": partial(_momentum, share=0.3),
    "momentum: AR(-0.5) is backwards": partial(_backwards, phi=-0.5),
    "schedule: norms grow tenfold, constant rate": partial(_schedule, rates=constant),
    "schedule: norms grow tenfold, wsd": partial(_schedule, rates=wsd),
    "schedule: norms grow tenfold, cosine": partial(_schedule, rates=warmup_cosine),
    "slow: 15 percent": partial(_slow, kind=white),
    "slow: 15 percent under volatile norms": partial(_slow, kind=volatile),
    "coherence: share 0.9": partial(_coherence, share=0.9),
    "edge: a direction in the middle third": partial(_edge, kind=white),
}
"""What is there to find."""
HIDDEN: dict[str, Callable[[np.random.Generator, int], bool]] = {
    "spikes: two of 100x in lognormal norms": partial(_spikes, kind=lognormal, factor=100),
    "spikes: two of 1,000x in lognormal norms": partial(_spikes, kind=lognormal, factor=1000),
    "spikes: two of 100x in t3 norms": partial(_spikes, kind=t3, factor=100),
    "growth: 8x in lognormal norms": partial(_growth, kind=lognormal),
    "edge: a direction in the middle third, lognormal norms": partial(_edge, kind=lognormal),
}
"""What heavy tails may hide."""
HARMFUL: dict[str, Callable[[np.random.Generator, int], bool]] = {
    "frozen: all tensors fall together": partial(_frozen, all_of_them=True),
    "rank: 2, in another subspace each row": partial(_rank, still=False),
    "coherence: share 0.45": partial(_coherence, share=0.45),
}
"""What would do harm if it were called."""


def planted_table(seeds: int) -> Iterator[str]:
    """Percent of logs in which it is called."""
    yield f"| planted | {' | '.join(f'N = {rows}' for rows in ROWS)} |"
    yield "|---" * (len(ROWS) + 1) + "|"
    for cases, mark in ((PLANTED, ""), (HIDDEN, " (hidden)"), (HARMFUL, " (not to be called)")):
        for number, (name, case) in enumerate(cases.items()):
            cells = [
                100
                * np.mean([case(np.random.default_rng([seed, rows, number]), rows) for seed in range(seeds)])
                for rows in ROWS
            ]
            yield f"| {name}{mark} | {' | '.join(f'{cell:.0f}' for cell in cells)} |"


def interval_table(seeds: int) -> Iterator[str]:
    """Of the shares: mean error, and percent of 95% intervals that hold the planted one."""
    yield "| noise | planted | N | slow: off by | holds | coherence: off by | holds |"
    yield "|---" * 7 + "|"
    for name, kind in NOISE.items():
        for share in (0.0, 0.2, 0.5):
            for rows in ROWS:
                found = np.array([_shares(kind, seed, share, rows) for seed in range(seeds)])
                found = found[~np.isnan(found).any(axis=1)]
                if len(found) < seeds // 2:
                    yield f"| {name} | {share:g} | {rows} | - | - | - | - |"
                    continue
                slow, slow_held, coherent, held = found.mean(axis=0)
                cells = f"{slow:+.4f} | {100 * slow_held:.0f} | {coherent:+.4f} | {100 * held:.0f}"
                yield f"| {name} | {share:g} | {rows} | {cells} |"


def _shares(kind: Kind, seed: int, share: float, rows: int) -> tuple[float, ...]:
    rng = np.random.default_rng([seed, rows])
    advice = advise({"w": with_mean(rng, rows, share, kind)}, only=("slow", "coherence"))
    found: list[float] = []
    for quantity in ("slow", "coherence"):
        said = of(advice, quantity)
        if not said.figures or said.figures[0].value is None:
            return (np.nan,) * 4
        figure = said.figures[0]
        lower, upper = figure.lower, figure.upper
        holds = lower is not None and upper is not None and lower <= share <= upper
        found += [figure.value - share, holds]
    return tuple(found)


def tables(seeds: int) -> Iterator[str]:
    """Lines of Markdown."""
    yield f"Percent of {seeds} logs of noise in which a quantity calls anything, in the model or a tensor:"
    yield ""
    yield from noise_table(seeds)
    yield ""
    yield f"Percent of {seeds} logs in which what was planted is called:"
    yield ""
    yield from planted_table(seeds)
    yield ""
    yield f"Planted shares of persistent energy: mean error, and percent of {seeds} intervals that hold them:"
    yield ""
    yield from interval_table(seeds)
