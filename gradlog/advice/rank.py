"""The rank a low-rank optimizer should track, for each matrix: from its gradients, beside its increments.

Of the gradient matrix G (m x n; a convolution's as (out, rest)) at sampled rows, singular values s_i:
- components for 90 percent of its energy: least r with s_1^2 + ... + s_r^2 >= 0.9 ||G||_F^2, in 1 .. min(m,
  n); GaLore projects a single gradient on such directions, Fira adds what is left in a scaled form;
- effective rank exp(-sum p_i ln p_i), p_i = s_i^2 / ||G||_F^2, shares of energy as for increments (studies of
  layer-wise gradients also take shares of sum s_i, which gives more);
- stable rank ||G||_F^2 / s_1^2; nuclear rank (sum s_i)^2 / ||G||_F^2 (Davis and Drusvyatskiy, arXiv
  2512.04299: the squared ratio of nuclear and Frobenius norm, held against the stable rank of activations);
  all without units, in 1 .. min(m, n).
The rank to track is the largest count r of components among the sampled rows; a rank above a quarter of
min(m, n) saves too little to be advised.

A projection is taken from one gradient and used on those behind it, so the subspace has to hold still: of the
energy of each sampled G_j, the share inside the r leading directions (of the smaller side) of the sampled row
before it, in [0, 1]; r / min(m, n) by chance. A rank is advised where the median of these shares is at least
0.8. Where it is less the subspace moves between sampled rows, which may be many steps apart: it may still
serve for fewer. r*(eps) of the increments says in how many directions the gradient moved over the whole run.
"""

from __future__ import annotations

import numpy as np

from ..chance import share_by_chance
from ..results.result import TensorResult
from ..results.samples import MatrixSpectra
from ..results.spectral_counts import effective_rank
from .decision import CHANGE, CLEAR, ESTIMATE, FACT, KEEP, SAMPLE, WEAK, Decision, Doubles, Figure
from .evidence import NO_MATRICES, Evidence
from .missing import unknown

NAME = "rank"
SOURCE = "GaLore, arXiv 2403.03507; Fira, arXiv 2410.01623"
SHARE = 0.9
"""Of a gradient's energy that the rank has to hold."""
WORTH = 0.25
"""Of the smaller side: a projection of a higher rank saves little memory."""
LEAST_SIDE = 8
"""Matrices with a smaller side have nothing to save."""
LEAST_SAMPLE = 3
"""Fewer sampled rows tell nothing about the others."""
HOLDS = 0.8
"""Of a gradient's energy that the subspace of the sampled row before has to hold."""


def decide(evidence: Evidence) -> list[Decision]:
    """For each matrix."""
    tensors = evidence.matrix_tensors
    if not tensors:
        return [unknown(NAME, None, "there is no matrix among the tensors", SOURCE)]
    return [_of_tensor(evidence, tensor) for tensor in tensors]


def _of_tensor(evidence: Evidence, tensor: TensorResult) -> Decision:
    def told(verdict: str, text: str, confidence: str, weight: float, *figures: Figure) -> Decision:
        return Decision(NAME, tensor.name, verdict, text, figures, confidence, SOURCE, weight)

    spectra = evidence.matrices.get(tensor.name)
    if spectra is None:
        why = evidence.no_matrices.get(tensor.name, NO_MATRICES)
        return unknown(NAME, tensor.name, why, SOURCE, tuple(increment_figures(tensor)))
    energies = spectra.squares.sum(axis=1)
    if not (energies > 0).any():
        return unknown(NAME, tensor.name, "the gradient is zero at every sampled row", SOURCE)
    counts, *others = matrix_figures(spectra)
    figures = (counts, *others, *increment_figures(tensor))
    side = min(spectra.shape)
    rank = int(counts.upper or 0)
    if side < LEAST_SIDE:
        return told(KEEP, f"nothing to change: {side} is too small a side to save on", CLEAR, 0, *figures)
    if rank > WORTH * side:
        sure = (counts.lower or 0) > WORTH * side
        text = "nothing to change: no low rank holds a gradient"
        return told(KEEP, text, CLEAR if sure else WEAK, 0, *figures)
    held = spectra.held[:, rank - 1]
    held = held[~np.isnan(held)]
    if not held.size:
        text = f"nothing to change: rank {rank} of {side}, but one row tells of no other"
        return told(KEEP, text, WEAK, 0, *figures)
    still = Figure("held_next", float(np.median(held)), float(held.min()), float(held.max()), SAMPLE)
    by_chance = Figure("held_by_chance", share_by_chance(rank, side), basis=ESTIMATE)
    figures = (counts, still, by_chance, *figures[1:])
    enough = held.size + 1 >= LEAST_SAMPLE
    if np.median(held) < HOLDS:
        steps = evidence.step(int(spectra.rows[1])) - evidence.step(int(spectra.rows[0]))
        text = f"nothing to change: rank {rank} of {side}, but its subspace moves within {steps} steps"
        return told(KEEP, text, CLEAR if enough and held.max() < HOLDS else WEAK, 0, *figures)
    text = f"track rank {rank} of {side}"
    return told(CHANGE, text, CLEAR if enough and held.min() >= HOLDS else WEAK, 60, *figures)


def matrix_figures(spectra: MatrixSpectra) -> tuple[Figure, ...]:
    """Components for 90 percent, effective, stable and nuclear rank, each with median and extremes."""
    squares = spectra.squares[spectra.squares.sum(axis=1) > 0]
    each = {
        "rank90": components(squares, SHARE),
        "effective_rank": effective_rank(squares),
        "stable_rank": squares.sum(axis=1) / squares[:, 0],
        "nuclear_rank": np.sqrt(squares).sum(axis=1) ** 2 / squares.sum(axis=1),
    }
    return tuple(
        Figure(name, float(np.median(values)), float(values.min()), float(values.max()), SAMPLE)
        for name, values in each.items()
    )


def components(squares: Doubles, share: float) -> Doubles:
    """(k,) least r with s_1^2 + ... + s_r^2 >= share of the sum, for squares (k, n), descending."""
    held = np.cumsum(squares, axis=1)
    # As many as fall short by more than rounding, and one.
    short = held < (share - 1e-12) * held[:, -1:]
    return np.asarray(short.sum(axis=1) + 1.0)


def increment_figures(tensor: TensorResult) -> list[Figure]:
    """r* of the tensor's increments, with its bounds, at the largest share that was asked for."""
    if tensor.spectrum is None or not tensor.spectrum.rank:
        return []
    rank = max(tensor.spectrum.rank, key=lambda item: item.epsilon)
    value = None if rank.rank is None else float(rank.rank)
    basis = FACT if tensor.spectrum.confidence == 1.0 else SAMPLE
    return [Figure(f"r*({rank.epsilon:g})", value, float(rank.lower), float(rank.upper), basis)]
