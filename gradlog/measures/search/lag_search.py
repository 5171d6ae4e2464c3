"""The best linear predictor of order p in hindsight: least squares on lagged inner products.

p is the smallest whose residual on held-out blocks is within 0.1 percent of the least, so that noise adds no
lags. Weights are found on (g_{t-1}, h_{t-1}, h_{t-2}, ...), so that those that add up to 1 lose nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .candidates import Candidate
from .held_out import block_rows, block_sums, enough_rows

Doubles = NDArray[np.float64]


def best_lags(products: Doubles) -> Candidate | None:
    """The best weights on the last p gradients, p up to P: None where P is 0, or nothing comes of it.

    products : (n, P + 1, P + 1), of (h_t, g_{t-1}, h_{t-1}, ..., h_{t-P+1}), for rows or sums over bins
    """
    rows, most = products.shape[0], products.shape[1] - 1
    if most < 1:
        return None
    sums = block_sums(products)
    whole = sums.sum(axis=0)
    choices = _least_squares(whole - sums)  # (BLOCKS, most, most + 1)
    left = _quadratic(sums, choices)  # (BLOCKS, most)
    order = _smallest_good(left.sum(axis=0)) + 1
    weights = _lag_weights(_least_squares(whole[None], order)[0, 0, : order + 1])
    if not np.isfinite(weights).all():
        return None
    weights = np.array([float(f"{weight:.9g}") for weight in weights])
    combination = combination_of(weights)
    hindsight = quadratics(products, combination)
    product = _inner(whole, combination)
    held_out = hindsight
    if enough_rows(rows):
        held_out = np.empty(rows)
        for block, inside in enumerate(block_rows(rows)):
            pick = _smallest_good(left.sum(axis=0) - left[block])
            held_out[inside] = quadratics(products[inside], choices[block, pick, : pick + 2])
    spec = "lags:" + ",".join(map(str, weights.tolist()))
    return Candidate("lags", spec, hindsight, product, held_out, float(order))


def _smallest_good(left: Doubles) -> int:
    """The first place within 0.1 percent of the least, which rounding may have brought below 0."""
    least = left.min()
    return int(np.argmax(left <= least + 1e-3 * abs(least)))


def _least_squares(products: Doubles, order: int = 0) -> Doubles:
    """(k, P, P + 1): for order 1 .. P 1 and minus the coefficients of g_{t-1}, h_{t-1}, ... for h_t, then 0.

    products : (k, P + 1, P + 1), each solved for itself; order : of this one alone, (k, 1, P + 1), 0 for all
    """
    most = products.shape[1] - 1
    orders = np.arange(1, most + 1) if order == 0 else np.array([order])
    used = np.arange(1, most + 1) <= orders[:, None]  # (orders, P)
    inside, target = products[:, None, 1:, 1:], products[:, None, 1:, 0]
    scale = np.sqrt(np.maximum(np.einsum("kqii->kqi", inside), 0.0))
    scale = np.where(scale > 0, scale, 1.0)
    scaled = inside / scale[..., None, :] / scale[..., :, None]
    # Those that an order doesn't use are at right angles to the others.
    scaled = np.where(used[:, None, :] & used[:, :, None], scaled, np.eye(most))
    values, vectors = np.linalg.eigh(scaled)
    kept = np.abs(values) > 1e-12 * np.abs(values).max(axis=-1, keepdims=True)
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=kept)
    turned = np.einsum("kqij,kqi->kqj", vectors, np.where(used, target / scale, 0.0))
    solved = np.where(used, np.einsum("kqij,kqj->kqi", vectors, inverse * turned) / scale, 0.0)
    return np.concatenate([np.ones((*solved.shape[:2], 1)), -solved], axis=2)


def _lag_weights(combination: Doubles) -> Doubles:
    """(p,) weights of g_{t-1}, ..., g_{t-p} from the coefficients of `_least_squares`."""
    tail = np.append(-combination[2:], 0.0)
    weights = np.append(1.0 - combination[1] + tail[0], np.diff(tail))
    return np.asarray(weights)


def combination_of(weights: Doubles) -> Doubles:
    """The inverse of `_lag_weights`."""
    return np.append([1.0, 1.0 - weights.sum()], np.cumsum(weights[:0:-1])[::-1])


def _quadratic(products: Doubles, combinations: Doubles) -> Doubles:
    """(k, q): ||e||^2 of k times q combinations (k, q, P + 1), in their own products (k, P + 1, P + 1)."""
    turned = combinations @ products
    return np.asarray(np.maximum((turned * combinations).sum(axis=2), 0.0))


def quadratics(products: Doubles, combination: Doubles) -> Doubles:
    """(n,): ||e_t||^2 at each step."""
    size = combination.size
    return np.asarray(
        np.maximum(np.einsum("tij,i,j->t", products[:, :size, :size], combination, combination), 0.0)
    )


def _inner(products: Doubles, combination: Doubles) -> float:
    """Sum of <g_t, e_t>: g_t = h_t + g_{t-1}."""
    size = combination.size
    return float((products[0, :size] + products[1, :size]) @ combination)
