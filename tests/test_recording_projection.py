"""What is projected while it is recorded is what `gradmf sketch` makes of the full log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from training_loops import LR

from gradmf import gradlog

pytestmark = pytest.mark.extras


def trained(path: Path, steps: int, **options: Any) -> Path:
    """A loop over tensors of fewer parameters than sums, of as many, of more, and of several chunks."""
    import torch

    torch.manual_seed(3)
    shapes = {
        "few": (3, 5),
        "as many": (16, 16),
        "more": (7, 41),
        "most": (3, 700, 613),
        "v": (5000,),
        "s": (),
    }
    model = torch.nn.ParameterDict(
        {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with gradlog.record(path, model, optimizer, **options) as recorder:
        for number in range(steps):
            recorder.note(loss=number / 2)
            optimizer.zero_grad()
            generator = torch.Generator().manual_seed(number)
            for parameter in model.values():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            if number % 2:
                model["more"].grad = None
            optimizer.step()
    return path


@pytest.mark.parametrize("seed", [0, 12345])
def test_projected_rows_are_those_of_a_sketch(seed: int, tmp_path: Path) -> None:
    full = trained(tmp_path / "full.zarr", 5)
    projected = trained(tmp_path / "projected.zarr", 5, project=256, seed=seed)
    sketch = tmp_path / "sketch.zarr"
    gradlog.sketch_log(full, sketch, gradlog.Settings(sketch_dim=256, seed=seed))
    found, expected = (zarr.open_group(path, mode="r") for path in (projected, sketch))
    assert found.attrs["gradlog"]["projection"] == expected.attrs["gradlog"]["projection"]
    arrays = {
        name: array for name, array in expected.members(max_depth=None) if isinstance(array, zarr.Array)
    }
    assert {name for name, array in found.members(max_depth=None) if isinstance(array, zarr.Array)} == set(
        arrays
    )
    for name, array in arrays.items():
        ours = found[name]
        np.testing.assert_array_equal(ours[:].view(np.uint8), array[:].view(np.uint8), err_msg=name)
        if name.startswith("grads/"):
            told, said = (one.attrs.asdict().get("gradlog", {}) for one in (ours, array))
            assert {key: told.get(key) for key in ("shape", "dtype")} == {
                key: said.get(key) for key in ("shape", "dtype")
            }


def test_projected_rows_are_analyzed_as_a_sketch(tmp_path: Path) -> None:
    full = trained(tmp_path / "full.zarr", 4)
    projected = trained(tmp_path / "projected.zarr", 4, project=256)
    sketch = tmp_path / "sketch.zarr"
    gradlog.sketch_log(full, sketch, gradlog.Settings(sketch_dim=256))
    ours, theirs = gradlog.analyze(projected), gradlog.analyze(sketch)
    assert ours.total.predictors == theirs.total.predictors
    assert ours.total.spectrum is not None
    assert theirs.total.spectrum is not None
    assert ours.total.spectrum.rank == theirs.total.spectrum.rank
    assert ours.total.predictors[0].kappa_error is not None
    with pytest.raises(gradlog.UsageError, match="a sketch already"):
        gradlog.sketch_log(projected, tmp_path / "again.zarr")


def test_a_projected_log_is_resumed(tmp_path: Path) -> None:
    """By the projection that it was begun with, and no other."""
    path = trained(tmp_path / "run.zarr", 3, project=256)
    trained(path, 2, project=256, resume=True)
    assert gradlog.open_log(path).step.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(gradlog.UsageError, match="its `gradlog` says projection"):
        trained(path, 2, project=256, seed=1, resume=True)
    with pytest.raises(gradlog.UsageError, match="the sketch of a log"):
        gradlog.create_log(path, resume=True)
