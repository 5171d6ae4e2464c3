"""Gradients as runs have them: what verdicts are tried on.

A kind is a function (rng, N, D) -> (N, D) float64. Two draws of one kind do not differ: whatever is then
called a change is called falsely. Rows of all kinds but `AUTOCORRELATED` and `TRAINED` are independent, so
that no predictor can foretell anything of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Kind = Callable[[np.random.Generator, int, int], Doubles]


def white(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """Independent standard normal entries."""
    return rng.standard_normal((rows, parameters))


def ar(rng: np.random.Generator, rows: int, parameters: int, phi: float) -> Doubles:
    """Stationary AR(1) of unit variance, g_t = phi g_{t-1} + sqrt(1 - phi^2) noise."""
    drawn = rng.standard_normal((rows, parameters))
    drawn[1:] *= np.sqrt(1 - phi * phi)
    for t in range(1, rows):
        drawn[t] += phi * drawn[t - 1]
    return drawn


def scaled(rng: np.random.Generator, rows: int, parameters: int, norms: Doubles) -> Doubles:
    """Independent rows of root mean square `norms` (N,)."""
    return rng.standard_normal((rows, parameters)) * norms[:, None]


def decaying(rng: np.random.Generator, rows: int, parameters: int, base: Kind = white) -> Doubles:
    """Norms fall as (1 + t / 20)^-0.7."""
    return base(rng, rows, parameters) * ((1 + np.arange(rows) / 20) ** -0.7)[:, None]


def growing(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """Norms grow tenfold."""
    return scaled(rng, rows, parameters, 10 ** (np.arange(rows) / max(1, rows - 1)))


def volatile(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """Norms follow a GARCH(1, 1) with persistence 0.98 (Bollerslev 1986)."""
    shocks = rng.standard_normal(rows + 200) ** 2
    variance = np.empty(rows + 200)
    variance[0] = 1.0
    for t in range(1, variance.size):
        variance[t] = 0.02 + variance[t - 1] * (0.1 * shocks[t - 1] + 0.88)
    return scaled(rng, rows, parameters, np.sqrt(variance[200:]))


def lognormal(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """Independent norms exp(z), z standard normal."""
    return scaled(rng, rows, parameters, np.exp(rng.standard_normal(rows)))


def t3(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """Rows follow a multivariate Student's t with 3 degrees of freedom."""
    return scaled(rng, rows, parameters, 1 / np.sqrt(rng.chisquare(3, rows) / 3))


def spike(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """One row, anywhere, of 100 times the others' norm."""
    norms = np.ones(rows)
    norms[rng.integers(rows)] = 100.0
    return scaled(rng, rows, parameters, norms)


def warmup_cosine(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """Norms follow a cosine from 3 to 0.3 behind a warm-up of a tenth of the rows."""
    start = max(1, rows // 10)
    t = np.arange(rows)
    angle = np.pi * np.clip((t - start) / max(1, rows - 1 - start), 0, 1)
    return scaled(
        rng, rows, parameters, np.where(t < start, 3 * (t + 1) / start, 1.65 + 1.35 * np.cos(angle))
    )


def wsd(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """Norms rise over a twentieth of the rows, stay, and fall to a tenth over the last fifth."""
    t = np.arange(rows) / max(1, rows - 1)
    return scaled(rng, rows, parameters, np.interp(t, [0, 0.05, 0.8, 1.0], [0.2, 1.0, 1.0, 0.1]))


def mlp(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """Minibatch gradients of an MLP with one hidden layer of tanh, from one initialization, on one data set.

    Runs differ in the order of minibatches alone. The width is what about `parameters` parameters give.
    """
    fixed = np.random.default_rng(20)
    inputs, classes, batch, rate = 10, 4, 16, 0.1
    width = max(2, (parameters - classes) // (inputs + classes + 1))
    x = fixed.standard_normal((512, inputs))
    y = (
        np.tanh(x @ fixed.standard_normal((inputs, classes))) + 0.5 * fixed.standard_normal((512, classes))
    ).argmax(1)
    first = fixed.standard_normal((inputs, width)) / np.sqrt(inputs)
    second = fixed.standard_normal((width, classes)) / np.sqrt(width)
    shift, offset = np.zeros(width), np.zeros(classes)
    logged = np.empty((rows, width * (inputs + classes + 1) + classes))
    order = np.empty(0, np.int64)
    for t in range(rows):
        if order.size < batch:
            order = rng.permutation(512)
        rows_of_batch, order = order[:batch], order[batch:]
        a = x[rows_of_batch]
        hidden = np.tanh(a @ first + shift)
        error = _softmax(hidden @ second + offset)
        error[np.arange(batch), y[rows_of_batch]] -= 1
        error /= batch
        back = error @ second.T * (1 - hidden**2)
        of = [a.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]
        for value, gradient in zip((first, shift, second, offset), of, strict=True):
            value -= rate * gradient
        logged[t] = np.concatenate([gradient.ravel() for gradient in of])
    return logged


def transformer(rng: np.random.Generator, rows: int, parameters: int) -> Doubles:
    """Minibatch gradients of a transformer of one block without normalization, from one initialization.

    One head of attention and a residual layer of tanh read the last of 8 symbols of a fixed Markov chain's
    sequences and foretell the next. Runs differ in the order of minibatches alone.
    """
    fixed = np.random.default_rng(21)
    symbols, length, batch, rate = 8, 8, 16, 0.2
    width = max(4, round((parameters / 8) ** 0.5))
    data = _markov(fixed, symbols, 512, length + 1)
    shapes = [(symbols, width), (length, width), *[(width, width)] * 5, (width, symbols)]
    weights = [fixed.standard_normal(shape) / np.sqrt(width) for shape in shapes]
    logged = np.empty((rows, sum(w.size for w in weights)))
    order = np.empty(0, np.int64)
    for t in range(rows):
        if order.size < batch:
            order = rng.permutation(512)
        chosen, order = data[order[:batch]], order[batch:]
        gradients = _transformer_gradients(weights, chosen[:, :-1], chosen[:, -1])
        for value, gradient in zip(weights, gradients, strict=True):
            value -= rate * gradient
        logged[t] = np.concatenate([gradient.ravel() for gradient in gradients])
    return logged


def _transformer_gradients(
    weights: list[Doubles], x: NDArray[np.int64], y: NDArray[np.int64]
) -> list[Doubles]:
    """Of the mean cross-entropy; x (batch, length), y (batch,)."""
    embedding, places, query, key, value, up, down, out = weights
    batch, root = y.size, np.sqrt(query.shape[1])
    h = embedding[x] + places
    q, k, v = h[:, -1] @ query, h @ key, h @ value
    attention = _softmax(np.einsum("bd,bld->bl", q, k) / root)
    r = h[:, -1] + np.einsum("bl,bld->bd", attention, v)
    hidden = np.tanh(r @ up)
    z = r + hidden @ down
    error = _softmax(z @ out)
    error[np.arange(batch), y] -= 1
    error /= batch
    dz = error @ out.T
    dup = dz @ down.T * (1 - hidden**2)
    dr = dz + dup @ up.T
    dattention = np.einsum("bd,bld->bl", dr, v)
    dscore = attention * (dattention - (attention * dattention).sum(1, keepdims=True)) / root
    dq = np.einsum("bl,bld->bd", dscore, k)
    dk, dv = dscore[:, :, None] * q[:, None], attention[:, :, None] * dr[:, None]
    dh = dk @ key.T + dv @ value.T
    dh[:, -1] += dr + dq @ query.T
    dembedding = np.zeros_like(embedding)
    np.add.at(dembedding, x, dh)
    of_keys, of_values = (np.einsum("bli,blj->ij", h, d) for d in (dk, dv))
    return [dembedding, dh.sum(0), h[:, -1].T @ dq, of_keys, of_values, r.T @ dup, hidden.T @ dz, z.T @ error]


def _markov(rng: np.random.Generator, symbols: int, sequences: int, length: int) -> NDArray[np.int64]:
    """(sequences, length) of a chain whose next symbol depends on the last two."""
    chances = rng.dirichlet(np.full(symbols, 0.3), (symbols, symbols)).cumsum(axis=2)
    drawn = rng.integers(0, symbols, (sequences, length))
    for t in range(2, length):
        drawn[:, t] = (rng.random(sequences)[:, None] > chances[drawn[:, t - 2], drawn[:, t - 1]]).sum(1)
    return np.minimum(drawn, symbols - 1)


def _softmax(z: Doubles) -> Doubles:
    found = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(found / found.sum(axis=-1, keepdims=True))


NOISE: dict[str, Kind] = {
    "white": white,
    "decaying": decaying,
    "growing": growing,
    "volatile": volatile,
    "lognormal": lognormal,
    "t3": t3,
    "spike": spike,
    "warm-up, cosine": warmup_cosine,
    "wsd": wsd,
}
"""Independent rows."""
AUTOCORRELATED: dict[str, Kind] = {
    **{f"AR({phi:g})": partial(ar, phi=phi) for phi in (-0.9, -0.5, 0.5, 0.9)},
    "decaying AR(0.5)": partial(decaying, base=partial(ar, phi=0.5)),
}
TRAINED: dict[str, Kind] = {"MLP": mlp, "transformer": transformer}
"""Runs that differ in the order of minibatches alone."""
KINDS: dict[str, Kind] = {**NOISE, **AUTOCORRELATED, **TRAINED}
