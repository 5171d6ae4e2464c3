"""What one writes by hand: the log in memory, the predictors in a loop over steps, H H^T, eigvalsh."""

from __future__ import annotations

import json
import sys
from collections import deque

import numpy as np
import zarr

DECAYS = (0.5, 0.9, 0.99)
EPSILONS = (0.1, 0.05, 0.01)


def main(path: str) -> None:
    """Print kappa of the six default predictors, r*, and the singular values of the increments."""
    arrays = [array for _, array in sorted(zarr.open_group(path, path="grads", mode="r").arrays())]
    gradients = np.concatenate([np.reshape(array[:], (array.shape[0], -1)) for array in arrays], axis=1)

    energy = 0.0
    path_length = dict.fromkeys(["one-step", *(f"ema:{b}" for b in DECAYS), "mean:5", "linear"], 0.0)
    averages = {b: np.zeros(gradients.shape[1]) for b in DECAYS}
    last: deque[np.ndarray] = deque(maxlen=5)
    for row in gradients:
        g = row.astype(np.float64)
        energy += g @ g
        if last:
            predictions = {"one-step": last[-1], "mean:5": sum(last) / len(last)}
            predictions["linear"] = 2 * last[-1] - last[-2] if len(last) > 1 else last[-1]
            for b, average in averages.items():
                average *= b
                average += (1 - b) * last[-1]
                predictions[f"ema:{b}"] = average
            for name, m in predictions.items():
                residual = g - m
                path_length[name] += residual @ residual
        else:
            path_length = dict.fromkeys(path_length, g @ g)
        last.append(g)

    increments = np.diff(gradients, axis=0)
    squares = np.linalg.eigvalsh((increments @ increments.T).astype(np.float64))[::-1].clip(0)
    share = np.cumsum(squares) / squares.sum()
    answer = {
        "kappa": {name: value / energy for name, value in path_length.items()},
        "rank": {f"{eps:g}": int(np.searchsorted(share, 1 - eps)) + 1 for eps in EPSILONS},
        "energy": squares.sum(),
        "singular_values": np.sqrt(squares).tolist(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
