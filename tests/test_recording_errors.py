"""What cannot be recorded is refused in one line that names the log and says what to do."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from training_loops import LR, batches, loss_of, small_model, steps_of

from gradmf import gradlog

pytestmark = pytest.mark.extras


def optimizer_of(model: Any) -> Any:
    import torch

    return torch.optim.SGD(model.parameters(), lr=LR)


def refused(path: Path, match: str, *arguments: Any, **options: Any) -> None:
    """One line that begins with the path; and nothing is left at it."""
    there = path.exists()
    with pytest.raises(gradlog.UsageError, match=match) as error:
        gradlog.record(path, *arguments, **options)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert path.exists() == there


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"every": 0}, "every must be at least 1"),
        ({"slots": 0}, "slots must be at least 1"),
        ({"flush_every": 0}, "flush_every must be at least 1"),
        ({"dtype": "int8"}, "dtype is float32, float16 or bfloat16, not 'int8'"),
        ({"missing": "one"}, "missing is 'zero' or 'hold' or 'error', not 'one'"),
        ({"when_full": "stop"}, "when_full is 'wait' or 'drop'"),
        ({"nonfinite": "drop"}, "nonfinite is 'keep' or 'skip'"),
        ({"project": 100}, "power of two from 64"),
        ({"project": 64, "seed": -1}, "seed -1"),
        ({"project": 64, "dtype": "float16"}, "sums of a projection are float32"),
        ({"after_step": 3}, "needs resume=True"),
        ({"resume": True, "after_step": 0.5}, "whole number"),
        ({"start_step": "x"}, "start_step must be a whole number"),
        ({"series": ["step"]}, "'step' cannot be the name of a series"),
        ({"include": ["x*"]}, r"no parameter matches 'x\*'"),
        ({"exclude": ["*"]}, "no parameter of those chosen requires a gradient"),
        ({"attributes": {"x": object()}}, "attributes must be what JSON holds"),
        ({"overwrite": True, "resume": True}, "choose one"),
    ],
)
def test_options(options: dict[str, Any], match: str, tmp_path: Path) -> None:
    model = small_model()
    refused(tmp_path / "run.zarr", match, model, optimizer_of(model), **options)


def test_models_and_optimizers(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "run.zarr"
    model, other = small_model(), small_model()
    optimizer = optimizer_of(model)
    refused(path, "must be a module of PyTorch, or pairs", "model", optimizer)
    refused(path, "must be a module of PyTorch, or pairs", [1, 2], optimizer)
    refused(path, "steps 4 parameters that the model doesn't have .*shape", other, optimizer)
    refused(path, "object is no optimizer of PyTorch with hooks", model, object())
    refused(path, "given twice", model, [optimizer, optimizer])
    refused(path, "an optimizer is needed", model, [])
    refused(path, "two parameters are called 'a'", [("a", model[0].weight), ("a", model[0].bias)], optimizer)
    for parameter in other.parameters():
        parameter.requires_grad_(False)
    refused(path, "no parameter requires a gradient", other, optimizer_of(other))
    refused(path, "no parameter requires a gradient", torch.nn.Tanh(), optimizer)
    lazy = torch.nn.LazyLinear(2)
    refused(path, "'weight' has no shape yet", lazy, optimizer_of(lazy))
    whole = torch.nn.ParameterDict({"c": torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))})
    refused(path, r"'c' is complex64.*exclude=\['c'\]", whole, optimizer_of(whole))
    part = torch.optim.SGD(model[0].parameters(), lr=LR)
    refused(path, "the optimizer steps no parameter that is recorded", model, part, include=["2.*"])


def test_a_parameter_that_comes_from_elsewhere(tmp_path: Path) -> None:
    import torch

    model, other = small_model(), small_model()
    optimizer = optimizer_of(model)
    with gradlog.record(tmp_path / "run.zarr", model, optimizer):
        loss_of(model, next(batches(1))).backward()
        optimizer.step()
        optimizer.add_param_group({"params": list(other.parameters())})
        with pytest.raises(
            gradlog.UsageError, match="training step 1: SGD steps 4 parameters that the model"
        ):
            optimizer.step()
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert steps_of(tmp_path / "run.zarr") == [0]


def test_two_recorders_of_one_log(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    model = small_model()
    optimizer = optimizer_of(model)
    with gradlog.record(path, model, optimizer):
        loss_of(model, next(batches(1))).backward()
        optimizer.step()
        refused(path, "already there", model, optimizer)
        for options in ({"resume": True}, {"overwrite": True}):
            refused(path, "somebody else is writing this log", model, optimizer, **options)
        optimizer.step()
    assert steps_of(path) == [0, 1]
    with gradlog.record(path, model, optimizer, overwrite=True):
        optimizer.step()
    assert steps_of(path) == [0]


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}], ids=str)
def test_a_path_that_holds_something_else(options: dict[str, bool], tmp_path: Path) -> None:
    model = small_model()
    optimizer = optimizer_of(model)
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    file.write_text("mine")
    for path in (folder, file):
        refused(path, "already there|not a Zarr store|resumed as folders", model, optimizer, **options)
    assert (folder / "notes.txt").read_text() == file.read_text() == "mine"


def test_fully_sharded_data_parallel_is_refused(tmp_path: Path) -> None:
    import torch

    class FullyShardedDataParallel(torch.nn.Module):
        def __init__(self, module: Any) -> None:
            super().__init__()
            self.module = module

    model = FullyShardedDataParallel(small_model())
    refused(tmp_path / "run.zarr", "flattens parameters.*fully_shard", model, optimizer_of(model))


def test_an_error_can_be_sent_to_another_process() -> None:
    error = gradlog.RecordingError("run.zarr: full")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_read_only_folder(tmp_path: Path) -> None:
    import torch

    model = torch.nn.Linear(2, 2)
    optimizer = optimizer_of(model)
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", folder], capture_output=True
        ).returncode
    ):
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        if os.access(folder, os.W_OK):
            pytest.skip("everything can be written here")
        with pytest.raises(OSError, match=str(folder)):
            gradlog.record(folder / "run.zarr", model, optimizer)
        return
    try:
        with pytest.raises(OSError, match=r"[Rr]ead-only.*run\.zarr"):
            gradlog.record(folder / "run.zarr", model, optimizer)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
