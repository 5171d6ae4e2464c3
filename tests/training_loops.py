"""Small loops of PyTorch, and what their optimizers' steps used by another way than the recorder's."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

LR = 0.25
Row = dict[str, NDArray[Any]]
LOOP = """
import os, sys, time
import torch
from gradmf import gradlog

torch.manual_seed(0)
model = torch.nn.Linear(40, 30)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

def step(number):
    optimizer.zero_grad()
    (model.weight * (number + 1)).sum().backward()
    model.bias.grad = torch.full((30,), float(number))
    optimizer.step()
"""
"""A program whose row t holds t + 1 and t, once it steps."""


def run_loop(code: str, place: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """LOOP, and code behind it, with one argument."""
    program = LOOP + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program, str(place)], capture_output=True, text=True, timeout=120, **options
    )


def small_model(seed: int = 0, **options: Any) -> Any:
    """A net of float64 weights, so that differences of weights give gradients to 1e-12."""
    import torch

    torch.manual_seed(seed)
    options = {"dtype": torch.float64, **options}
    return torch.nn.Sequential(
        torch.nn.Linear(6, 8, **options), torch.nn.Tanh(), torch.nn.Linear(8, 3, **options)
    )


def batches(count: int, dtype: Any = None, seed: int = 1) -> Iterator[Any]:
    """Inputs (16, 6)."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield torch.randn(16, 6, generator=generator, dtype=dtype or torch.float64)


def loss_of(model: Any, batch: Any) -> Any:
    """Of a model on a batch."""
    return (model(batch) - batch[:, :3]).pow(2).mean()


def weights(model: Any) -> Row:
    """By name, copied."""
    return {name: p.detach().clone().numpy() for name, p in model.named_parameters()}


def moved(before: Mapping[str, Any], after: Mapping[str, Any], rate: float = LR) -> Row:
    """The gradients that a step of plain SGD used."""
    return {name: (before[name] - after[name]) / rate for name in before}


def recorded(path: Path) -> list[Row]:
    """The rows of a log."""
    group = zarr.open_group(path, mode="r")
    rows = group["step"].shape[0]
    names = {
        name.removeprefix("grads/"): array
        for name, array in group.members(max_depth=None)
        if name.startswith("grads/") and isinstance(array, zarr.Array)
    }
    values = {name: array[:rows] for name, array in names.items()}
    return [{name: stack[row] for name, stack in values.items()} for row in range(rows)]


def steps_of(path: Path) -> list[int]:
    """Training steps of the rows of a log."""
    return [int(step) for step in zarr.open_group(path, mode="r")["step"][:]]


def series_of(path: Path, name: str) -> list[float]:
    """A series of a log."""
    return [float(value) for value in zarr.open_group(path, mode="r")[name][:]]


def assert_rows(path: Path, expected: list[Row], rtol: float = 1e-6) -> None:
    """The rows of a log, tensor by tensor; float32 of what float64 weights give."""
    found = recorded(path)
    assert len(found) == len(expected)
    for row, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol=rtol, atol=1e-9, err_msg=f"{row} {name}")
