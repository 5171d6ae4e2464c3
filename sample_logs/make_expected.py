"""Compute the expected tables of the sample logs from the definitions, in float64, with everything in memory.

    python sample_logs/make_expected.py            # writes expected/NAME.json and expected/NAME.md

Needs NumPy and zarr-python only. It shares no code with gradmf on purpose: the tests hold gradmf against it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

HERE = Path(__file__).parent
PREDICTORS = ("zero", "one-step", "ema:0.5", "ema:0.9", "ema:0.99", "mean:5", "linear")
EPSILONS = (0.1, 0.05, 0.01)
CLEARANCE = 1e-6  # no cumulative share of energy may come closer than this to a threshold: r* would be a toss

Array = NDArray[np.float64]


def read(path: Path) -> tuple[NDArray[np.int64], dict[str, Array], dict[str, tuple[int, ...]]]:
    """Steps (N,), the gradients of each tensor as (N, D), and each tensor's own shape."""
    group: Any = zarr.open_group(str(path), mode="r")
    steps = np.asarray(group["step"][:])
    gradients, shapes = {}, {}
    for name, array in sorted(group["grads"].arrays()):
        values = np.asarray(array[: len(steps)], dtype=np.float64)
        gradients[name] = values.reshape(len(steps), -1)
        shapes[name] = values.shape[1:]
    return steps, gradients, shapes


def predict(g: Array, predictor: str) -> Array:
    """The prediction m_t of each row of g (N, D), from the rows before it; m_0 = 0."""
    name, _, argument = predictor.partition(":")
    m = np.zeros_like(g)
    if name == "ema":
        beta = float(argument)
        for t in range(1, len(g)):
            m[t] = beta * m[t - 1] + (1 - beta) * g[t - 1]
        return m
    for t in range(1, len(g)):
        if name == "one-step" or (name == "linear" and t == 1):
            m[t] = g[t - 1]
        elif name == "linear":
            m[t] = 2 * g[t - 1] - g[t - 2]
        elif name == "mean":
            m[t] = g[max(0, t - int(argument)) : t].mean(axis=0)
        elif name != "zero":
            raise ValueError(predictor)
    return m


def scope(g: Array) -> dict[str, Any]:
    """Everything expected of one tensor or of the whole model; g is (N, D)."""
    energy = float(np.sum(g**2))
    predictors = []
    for predictor in PREDICTORS:
        m = predict(g, predictor)
        path_length = float(np.sum((g - m) ** 2))
        m_energy = float(np.sum(m**2))
        scale = float(np.sum(g * m)) / m_energy if m_energy else None
        scaled = float(np.sum((g - scale * m) ** 2)) / energy if scale is not None else 1.0
        predictors.append(
            {
                "predictor": predictor,
                "path_length": path_length,
                "kappa": path_length / energy,
                "scaled_kappa": scaled,
                "scale": scale,
            }
        )
    return {
        "parameters": g.shape[1],
        "energy": energy,
        "predictors": predictors,
        "spectrum": spectrum((g[1:] - g[:-1]).T),
    }


def spectrum(h: Array) -> dict[str, Any]:
    """Ranks of the increment matrix h (D, N - 1)."""
    squares = np.linalg.svd(h, compute_uv=False) ** 2
    energy = float(np.sum(h**2))
    shares = squares / energy
    cumulative = np.cumsum(shares)
    ranks = []
    for epsilon in EPSILONS:
        rank = 1
        while cumulative[rank - 1] < 1 - epsilon:
            rank += 1
        clearance = float(np.min(np.abs(cumulative - (1 - epsilon))))
        if clearance < CLEARANCE:
            raise ValueError(f"r*({epsilon}) = {rank} hangs on {clearance:.1e} of the energy")
        ranks.append({"epsilon": epsilon, "rank": rank, "residual": float(np.sum(squares[rank:]))})
    entropy = -sum(p * math.log(p) for p in shares if p > 0)
    return {
        "energy": energy,
        "rank": ranks,
        "stable_rank": float(energy / squares[0]),
        "effective_rank": math.exp(entropy),
        "participation_ratio": float(np.sum(squares) ** 2 / np.sum(squares**2)),
        "singular_values": [float(value) for value in np.sqrt(squares[:10])],
    }


def step_rows(steps: NDArray[np.int64], g: Array) -> list[dict[str, Any]]:
    """Per-step quantities of the whole model at a handful of rows."""
    rows = []
    for t in (0, 1, 2, len(g) // 4, len(g) // 2, len(g) - 1):
        norm = float(np.linalg.norm(g[t]))
        before = g[t - 1] if t else np.zeros_like(g[0])
        norms = norm * float(np.linalg.norm(before))
        rows.append(
            {
                "row": t,
                "step": int(steps[t]),
                "grad_norm": norm,
                "cosine": float(g[t] @ before) / norms if norms else None,
                "kappa": {"one-step": float(np.sum((g[t] - before) ** 2)) / norm**2},
            }
        )
    return rows


def expected(path: Path) -> dict[str, Any]:
    steps, gradients, shapes = read(path)
    whole = np.concatenate(list(gradients.values()), axis=1)
    tensors = [{"name": name, "shape": list(shapes[name]), **scope(g)} for name, g in gradients.items()]
    for tensor in tensors:
        del tensor["spectrum"]["singular_values"]
    return {
        "run": {"rows": len(whole), "parameters": whole.shape[1], "tensors": len(tensors)},
        "total": scope(whole),
        "tensors": tensors,
        "steps": step_rows(steps, whole),
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def report(name: str, tables: dict[str, Any]) -> str:
    """The same for a reader."""
    run, total, spectrum = tables["run"], tables["total"], tables["total"]["spectrum"]
    paths = [
        [p["predictor"], *(number(p[key]) for key in ("path_length", "kappa", "scaled_kappa", "scale"))]
        for p in total["predictors"]
    ]
    ranks = [
        [str(r["epsilon"]), str(r["rank"]), f"{r['rank'] / (run['rows'] - 1):.2%}", number(r["residual"])]
        for r in spectrum["rank"]
    ]
    tensors = []
    for tensor in sorted(tables["tensors"], key=lambda tensor: -tensor["energy"]):
        best = min(tensor["predictors"][1:], key=lambda p: p["path_length"])
        row = [f"`{tensor['name']}`", "×".join(map(str, tensor["shape"])) or "scalar"]
        row += [f"{tensor['energy'] / total['energy']:.2%}", best["predictor"], number(best["kappa"])]
        tensors.append(row + [str(r["rank"]) for r in tensor["spectrum"]["rank"]])
    head = ["tensor", "shape", "energy", "best predictor", "kappa", *(f"r*({e})" for e in EPSILONS)]
    parts = [
        f"# {name}: expected",
        f"{run['rows']} rows, {run['parameters']} parameters in {run['tensors']} tensors, "
        f"energy {number(total['energy'])}. Written by `make_expected.py`.",
        "## Path length",
        table(["predictor", "P", "kappa", "scaled kappa", "c"], paths),
        "## Rank of the increments",
        table(["eps", "r*", f"of {run['rows'] - 1}", "residual"], ranks),
        f"Energy {number(spectrum['energy'])}, stable rank {number(spectrum['stable_rank'])}, "
        f"effective rank {number(spectrum['effective_rank'])}, "
        f"participation ratio {number(spectrum['participation_ratio'])}.",
        "## Tensors",
        table(head, tensors),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    folder = HERE / "expected"
    folder.mkdir(exist_ok=True)
    for path in sorted(HERE.glob("*.zarr")):
        tables = expected(path)
        (folder / f"{path.stem}.json").write_text(json.dumps(tables, indent=1, allow_nan=False) + "\n")
        (folder / f"{path.stem}.md").write_text(report(path.stem, tables), encoding="utf-8")


if __name__ == "__main__":
    main()
