"""The loops of docs/recording.md run as they stand, each in a fresh process and an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from training_loops import recorded, series_of, steps_of

from gradmf import gradlog

pytestmark = pytest.mark.extras

TEXT = (Path(__file__).parent.parent / "docs" / "recording.md").read_text()
LOOPS = dict(re.findall(r"^```python file=(\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))


def run(name: str, folder: Path, *before: str) -> Path:
    (folder / name).write_text(LOOPS[name])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *before, name], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "RuntimeWarning" not in done.stdout
    return folder / "run.zarr"


def test_all_are_run() -> None:
    assert list(LOOPS) == ["plain.py", "trainer.py", "with_lightning.py", "sharded.py", "with_jax.py"]


def test_plain(tmp_path: Path) -> None:
    path = run("plain.py", tmp_path)
    assert steps_of(path) == list(range(200))
    assert recorded(path)[0].keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}
    for row in recorded(path):
        assert sum(float((values.astype(float) ** 2).sum()) for values in row.values()) <= 1.0001
    loss = series_of(path, "loss")
    assert sum(loss[-20:]) < sum(loss[:20])
    assert gradlog.analyze(path).total.best is not None


def test_trainer(tmp_path: Path) -> None:
    path = run("trainer.py", tmp_path)
    assert steps_of(path) == list(range(1, 21))
    assert all(0 < loss < 10 for loss in series_of(path, "loss"))
    assert gradlog.open_log(path).attributes["optimizer"] == "AdamW"


def test_lightning(tmp_path: Path) -> None:
    path = run("with_lightning.py", tmp_path)
    assert steps_of(path) == list(range(1, 33))
    for row in recorded(path):
        assert sum(float((values.astype(float) ** 2).sum()) for values in row.values()) <= 0.2501


def test_sharded(tmp_path: Path) -> None:
    path = run("sharded.py", tmp_path, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    log = gradlog.open_log(path)
    assert log.rows == 20
    assert {tensor.name: tensor.shape for tensor in log.tensors} == {
        "0.weight": (65, 20), "0.bias": (65,), "2.weight": (3, 65), "2.bias": (3,)
    }  # fmt: skip
    assert gradlog.analyze(path).run.rows == 20


def test_jax(tmp_path: Path) -> None:
    path = run("with_jax.py", tmp_path)
    assert steps_of(path) == list(range(100))
    assert recorded(path)[0].keys() == {"layers/0/w", "layers/1/w"}
