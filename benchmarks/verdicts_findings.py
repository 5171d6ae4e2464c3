"""How often findings are told where nothing was planted, and of what was: tables of docs/findings.md.

Logs of four tensors of one kind go through `gradlog.analyze` with 20 windows and sums by step of tensors, and
`gradlog.find`. What a kind has by its nature (heavy steps of heavy tails, levels of schedules that jump) is
marked: there a finding is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from verdict_series import KINDS, Doubles, ar, white
from verdicts_bounds import ArrayTensor

from gradmf import gradlog
from gradmf.gradlog import Settings

ROWS = (60, 200)
PARAMETERS, TENSORS, WINDOWS = 200, 4, 20
CODES = (
    "norm-level",
    "kappa-level",
    "rank-level",
    "loss-scale",
    "dead",
    "opposing-steps",
    "nothing-foretold",
)
"""Those that noise may be taken for; a heavy step and a limit of a rank are there or not."""


def findings_of(gradients: Doubles) -> list[gradlog.Finding]:
    """Of a log of (rows, parameters) gradients, cut into `TENSORS` tensors."""
    rows = len(gradients)
    parts = np.array_split(gradients, TENSORS, axis=1)
    tensors = tuple(ArrayTensor(f"w{at}", np.ascontiguousarray(part)) for at, part in enumerate(parts))
    log = gradlog.GradientLog(path="simulated", tensors=tensors, rows=rows, step=np.arange(rows))
    settings = Settings(rank="exact", windows=WINDOWS)
    return list(gradlog.find(gradlog.analyze(log, settings, threads=1, tensor_steps=True)))


def null_table(logs: int) -> Iterator[str]:
    """Percent of logs in which a code is told of the model or any tensor."""
    yield "| kind | N | " + " | ".join(f"`{code}`" for code in CODES) + " |"
    yield "|---|---:|" + "---:|" * len(CODES)
    for kind, series in KINDS.items():
        for rows in ROWS:
            told = np.zeros(len(CODES))
            for number in range(logs):
                rng = np.random.default_rng([number, rows, 21])
                codes = {finding.code for finding in findings_of(series(rng, rows, PARAMETERS))}
                told += [code in codes for code in CODES]
            yield f"| {kind} | {rows} | {' | '.join(f'{100 * share / logs:g}' for share in told)} |"


def _level(rng: np.random.Generator, rows: int, parameters: int, factor: float, share: float) -> Doubles:
    """Norms that are `factor` as large from the middle on, of the model or of the last tensor."""
    found = white(rng, rows, parameters)
    found[rows // 2 :, int(parameters * (1 - share)) :] *= factor
    return found


def _predicted(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """AR(0.9) up to the middle, noise behind it."""
    half = rows // 2
    return np.concatenate([ar(rng, half, parameters, 0.9), white(rng, rows - half, parameters)])


def _narrow(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """Noise in two directions from the middle on."""
    half = rows // 2
    late = white(rng, rows - half, 2) @ white(rng, 2, parameters) / np.sqrt(2)
    return np.concatenate([white(rng, half, parameters), late])


def _heavy(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """One row that carries three quarters of the energy."""
    found = white(rng, rows, parameters)
    found[rng.integers(1, rows)] *= np.sqrt(3.0 * rows)
    return found


PLANTED: dict[str, tuple[Callable[[np.random.Generator, int, int], Doubles], str]] = {
    "norms half as large again, from the middle on": (partial(_level, factor=1.6, share=1), "norm-level"),
    "norms three times as large": (partial(_level, factor=3.0, share=1), "norm-level"),
    "norms twice as large, exactly": (partial(_level, factor=2.0, share=1), "loss-scale"),
    "a tensor zero from the middle on": (partial(_level, factor=0.0, share=0.25), "dead"),
    "AR(0.9), then noise": (_predicted, "kappa-level"),
    "noise, then two directions": (_narrow, "rank-level"),
    "AR(-0.5)": (partial(ar, phi=-0.5), "opposing-steps"),
    "noise": (white, "nothing-foretold"),
    "one row of three quarters of the energy": (_heavy, "heavy-step"),
}


def power_table(logs: int) -> Iterator[str]:
    """Percent of logs in which what was planted is told."""
    yield "| planted | told as | " + " | ".join(f"N = {rows}" for rows in ROWS) + " |"
    yield "|---|---|" + "---:|" * len(ROWS)
    for name, (series, code) in PLANTED.items():
        cells = []
        for rows in ROWS:
            drawn = (series(np.random.default_rng([n, rows, 22]), rows, PARAMETERS) for n in range(logs))
            told = sum(any(finding.code == code for finding in findings_of(each)) for each in drawn)
            cells.append(f"{100 * told / logs:g}")
        yield f"| {name} | `{code}` | {' | '.join(cells)} |"


def tables(logs: int = 200) -> Iterator[str]:
    """The lines of both tables, as Markdown, as they come."""
    yield from null_table(logs)
    yield ""
    yield from power_table(logs // 4)
