"""Importing what heavy libraries write: PyTorch, HDF5, TensorStore, JAX, Hugging Face and Lightning."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from import_sources import from_bfloat16, stored, to_bfloat16, write_safetensors
from numpy.typing import NDArray

from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.importing.hdf5 import Hdf5Rows

pytestmark = pytest.mark.extras

AS_UPDATES = gradlog.ImportSettings(updates=True)
IN_ORDER = gradlog.ImportSettings(step_from="order")


def tensors(row: int) -> dict[str, NDArray[Any]]:
    """float32, float16, float64 and the bits of bfloat16."""
    rng = np.random.default_rng(row)
    return {
        "block.weight": rng.standard_normal((3, 4)).astype(np.float32),
        "half": rng.standard_normal(5).astype(np.float16),
        "double": rng.standard_normal((2, 2)),
        "brain": to_bfloat16(rng.standard_normal((4, 2))),
    }


def of_torch(row: int) -> dict[str, Any]:
    import torch

    found = {
        name: torch.from_numpy(values.copy()) for name, values in tensors(row).items() if name != "brain"
    }
    brain = torch.from_numpy(from_bfloat16(tensors(row)["brain"])).to(torch.bfloat16)
    return {**found, "brain": brain}


def assert_rows(path: Path, steps: list[int], rows: list[int], names: set[str] | None = None) -> None:
    found_steps, found, _ = stored(path)
    assert found_steps == steps
    assert set(found) == (names or set(tensors(0)))
    for name, values in found.items():
        expected = np.stack([tensors(row)[name] for row in rows])
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)
    log = gradlog.open_log(path)
    kinds = {tensor.name: tensor.dtype for tensor in log.tensors}
    assert kinds.get("brain", "bfloat16") == "bfloat16"


@pytest.mark.parametrize("ending", ["pt", "pth"])
@pytest.mark.parametrize("key", ["", "grads", "gradients", "state_dict"])
def test_files_of_torch(tmp_path: Path, ending: str, key: str) -> None:
    import torch

    for row, step in enumerate((2, 10)):
        inside = {**of_torch(row), "none": None, "count": torch.arange(3)}
        beside = {"step": step, "loss": 0.5 * row, "note": "text", "extra": torch.ones(2)}
        torch.save({key: inside, **beside} if key else inside, tmp_path / f"{step}.{ending}")
    summary = gradlog.import_log(tmp_path, tmp_path / "run.zarr")
    assert_rows(tmp_path / "run.zarr", [2, 10], [0, 1])
    assert summary.plan.left_out == {"none": "None", "count": "whole numbers (int64)"}
    assert summary.plan.taken == (f"what lies at '{key}'" if key else "")
    assert stored(tmp_path / "run.zarr")[2] == ({"loss": [0.0, 0.5]} if key else {})


def test_lists_tensors_and_layouts_of_torch(tmp_path: Path) -> None:
    import torch

    whole = torch.arange(24.0).reshape(4, 6)
    for step in (1, 2):
        torch.save([whole * step, (whole * step)[:, 0]], tmp_path / f"list_{step}.pt")
        torch.save(whole.flatten() * step, tmp_path / f"flat_{step}.pt")
        other = {
            "turned": (whole * step).T,
            "cut": (whole * step)[1:3, 2:5],
            "thin": (whole * step).to_sparse(),
        }
        torch.save(other, tmp_path / f"other_{step}.pt")
    expected = np.arange(24.0, dtype="f4").reshape(4, 6) * np.array([1, 2], "f4")[:, None, None]
    for name in ("list", "flat", "other"):
        gradlog.import_log(sorted(tmp_path.glob(f"{name}_*.pt")), tmp_path / f"{name}.zarr")
    found = stored(tmp_path / "list.zarr")[1]
    np.testing.assert_array_equal(found["0"], expected)
    np.testing.assert_array_equal(found["1"], expected[:, :, 0])
    np.testing.assert_array_equal(stored(tmp_path / "flat.zarr")[1]["gradient"], expected.reshape(2, 24))
    found = stored(tmp_path / "other.zarr")[1]
    np.testing.assert_array_equal(found["turned"], expected.transpose(0, 2, 1))
    np.testing.assert_array_equal(found["cut"], expected[:, 1:3, 2:5])
    np.testing.assert_array_equal(found["thin"], expected)


def test_files_of_torch_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    weights = {"w": torch.zeros(3)}
    asked: list[dict[str, Any]] = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: asked.append(k) or load(*a, **k))
    wrong = {
        "holds argparse.Namespace, which PyTorch loads only": {**weights, "args": argparse.Namespace(lr=1)},
        "holds numpy.*scalar, which PyTorch": {**weights, "loss": np.float64(1)},
        "no tensors by name, and none at grads": {"a": 1, "b": {"c": torch.zeros(2)}},
        "holds a str": "text",
        "tensor 'w' is of float8_e4m3fn; a log holds float16": {"w": torch.zeros(3).to(torch.float8_e4m3fn)},
        r"no tensors to take \('w': no entries, shape \[0, 3\]\)": {"w": torch.zeros(0, 3)},
    }
    for told, saved in wrong.items():
        torch.save(saved, tmp_path / "step_1.pt")
        with pytest.raises(gradlog.DataError, match=rf"step_1\.pt: .*{told}|step_1\.pt: {told}"):
            gradlog.plan_import(tmp_path / "step_1.pt")
    torch.save(weights, tmp_path / "step_1.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(
        gradlog.DataError, match=r"step_1\.pt: .*PyTorch before 1\.6: load it and save it again"
    ):
        gradlog.plan_import(tmp_path / "step_1.pt")
    torch.save(weights, tmp_path / "step_1.pt")
    whole = (tmp_path / "step_1.pt").read_bytes()
    for size in (0, 40, len(whole) // 2, len(whole) - 1):
        (tmp_path / "step_1.pt").write_bytes(whole[:size])
        with pytest.raises(gradlog.DataError, match=r"step_1\.pt: "):
            gradlog.plan_import(tmp_path / "step_1.pt")
    assert asked
    assert all(keys["weights_only"] is True and keys["mmap"] is True for keys in asked)


def test_safetensors_of_the_library(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    for row, step in enumerate((9, 10)):
        save_file(of_torch(row), tmp_path / f"grads-{step}.safetensors", metadata={"format": "pt"})
    gradlog.import_log(tmp_path, tmp_path / "run.zarr")
    assert_rows(tmp_path / "run.zarr", [9, 10], [0, 1])
    gradlog.import_log(tmp_path / "run.zarr", tmp_path / "copy.zarr")
    assert_rows(tmp_path / "copy.zarr", [9, 10], [0, 1])


def write_rows(path: Path, rows: int = 5, **options: Any) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name in ("block.weight", "half", "double"):
            values = np.stack([tensors(row)[name] for row in range(rows)])
            file.create_dataset(f"grads/{name}", data=values, **options)
        file["step"] = np.arange(rows) * 5
        file["loss"] = np.linspace(1, 0, rows)


WITHOUT_BRAIN = {"block.weight", "half", "double"}


@pytest.mark.parametrize("options", [{}, {"chunks": True, "compression": "gzip", "fletcher32": True}])
def test_hdf5_with_a_step_axis(tmp_path: Path, options: dict[str, Any]) -> None:
    write_rows(tmp_path / "all.h5", **options)
    gradlog.import_log(tmp_path / "all.h5", tmp_path / "run.zarr", memory=200)
    assert_rows(tmp_path / "run.zarr", [0, 5, 10, 15, 20], [0, 1, 2, 3, 4], WITHOUT_BRAIN)
    assert stored(tmp_path / "run.zarr")[2] == {"loss": np.linspace(1, 0, 5).tolist()}


@pytest.mark.parametrize("memory", [1, 1 << 20])
def test_updates_of_rows_of_hdf5(tmp_path: Path, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two rows at once, each of which is read once."""
    import h5py

    weights = np.random.default_rng(0).standard_normal((7, 5, 3)).astype(np.float32)
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["w"], file["v"], file["step"] = weights, weights[:, 0], np.arange(7)
    monkeypatch.setattr("gradmf.gradlog.importing.stack.ENOUGH_OF_TENSOR", 1)
    read, asked = Hdf5Rows.read, []

    def counted(self: Hdf5Rows, name: str, first: int, *rest: Any) -> Any:
        asked.append((name, first))
        return read(self, name, first, *rest)

    monkeypatch.setattr(Hdf5Rows, "read", counted)
    settings = gradlog.ImportSettings(updates=True)
    gradlog.import_log(tmp_path / "weights.h5", tmp_path / "run.zarr", settings, memory=memory)
    found = stored(tmp_path / "run.zarr")[1]
    np.testing.assert_array_equal(found["w"], np.diff(weights, axis=0))
    np.testing.assert_array_equal(found["v"], np.diff(weights[:, 0], axis=0))
    assert sorted(asked) == [(name, row) for name in "vw" for row in range(7)]


def test_hdf5_with_a_group_or_a_file_a_step(tmp_path: Path) -> None:
    import h5py

    (tmp_path / "files").mkdir()
    with h5py.File(tmp_path / "groups.hdf5", "w") as groups:
        for row, step in enumerate((2, 10)):
            with h5py.File(tmp_path / "files" / f"step_{step}.h5", "w") as file:
                for name in WITHOUT_BRAIN:
                    file[name] = tensors(row)[name]
                    groups[f"run/step_{step}/{name}"] = tensors(row)[name]
                file.attrs["loss"] = 0.5
    gradlog.import_log(tmp_path / "groups.hdf5", tmp_path / "a.zarr")
    gradlog.import_log(tmp_path / "files", tmp_path / "b.zarr")
    for name in "ab":
        assert_rows(tmp_path / f"{name}.zarr", [2, 10], [0, 1], WITHOUT_BRAIN)
    assert stored(tmp_path / "b.zarr")[2] == {"loss": [0.5, 0.5]}


def test_hdf5_that_is_refused(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "all.h5"
    write_rows(path, chunks=True, fletcher32=True)
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(gradlog.DataError, match=r"all\.h5: no HDF5 file that can be read \(cut short"):
            gradlog.plan_import(path)
    at = whole.index(np.stack([tensors(row)["double"] for row in range(5)])[0].tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(gradlog.DataError, match=r"all\.h5: dataset 'double' cannot be read"):
        gradlog.import_log(path, tmp_path / "run.zarr")
    with h5py.File(path, "w") as file:
        file["w"], file["v"] = np.ones((3, 2)), np.ones((4, 2))
    with pytest.raises(
        gradlog.DataError, match=r"all\.h5: datasets of one log have as many rows, and 'v' has 4"
    ):
        gradlog.plan_import(path)
    with h5py.File(path, "w") as file:
        file["w"] = np.ones((3, 2))
    with pytest.raises(gradlog.UsageError, match=r"all\.h5 row 0: no training step in its name"):
        gradlog.plan_import(path)
    gradlog.import_log(path, tmp_path / "run.zarr", IN_ORDER)
    assert stored(tmp_path / "run.zarr")[0] == [0, 1, 2]


@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
def test_tensorstore_in_bfloat16(tmp_path: Path, driver: str) -> None:
    import ml_dtypes
    import tensorstore

    def write(path: Path, values: NDArray[Any]) -> None:
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}
        store = tensorstore.open(spec, create=True, dtype=values.dtype.name, shape=values.shape).result()
        store[...] = values

    bits = np.stack([tensors(row)["brain"] for row in range(4)])
    values = bits.view(ml_dtypes.bfloat16)
    write(tmp_path / "rows.zarr", values)
    for step in (1, 2, 10):
        write(tmp_path / "steps" / f"step_{step}" / "layer.w", values[step % 4])
        write(tmp_path / "steps" / f"step_{step}" / "layer.b", values[step % 4, 0])
    gradlog.import_log(tmp_path / "rows.zarr", tmp_path / "a.zarr")
    np.testing.assert_array_equal(stored(tmp_path / "a.zarr")[1]["grads"], bits)
    gradlog.import_log(tmp_path / "steps", tmp_path / "b.zarr")
    steps, found, _ = stored(tmp_path / "b.zarr")
    assert steps == [1, 2, 10]
    np.testing.assert_array_equal(found["layer.w"], bits[[1, 2, 2]])
    np.testing.assert_array_equal(found["layer.b"], bits[[1, 2, 2], 0])
    assert {tensor.dtype for tensor in gradlog.open_log(tmp_path / "b.zarr").tensors} == {"bfloat16"}


def test_arrays_of_jax(tmp_path: Path) -> None:
    import jax
    import jax.numpy as jnp
    from jax.tree_util import keystr, tree_flatten_with_path

    slope = jax.jit(jax.grad(lambda p, x: jnp.sum(jnp.tanh(x @ p["dense"]["w"] + p["dense"]["b"]) ** 2)))
    parameters = {"dense": {"w": jnp.ones((3, 2)) * 0.1, "b": jnp.zeros(2)}}
    expected = []
    for step in range(3):
        found = slope(parameters, jnp.arange(6.0).reshape(2, 3) + step)
        expected.append(np.asarray(found["dense"]["w"]))
        leaves = tree_flatten_with_path(found)[0]
        named = {keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}
        np.savez(tmp_path / f"step_{step}.npz", **named)
    gradlog.import_log(tmp_path, tmp_path / "run.zarr")
    np.testing.assert_array_equal(stored(tmp_path / "run.zarr")[1]["dense/w"], np.stack(expected))


def test_checkpoints_of_torch(tmp_path: Path) -> None:
    """Plain descent: updates are -lr g up to rounding; tied tensors come once, buffers not at all."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(11, 6)
            self.norm = torch.nn.BatchNorm1d(6)
            self.head = torch.nn.Linear(6, 11, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.embedding(words)))

    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    rate = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    slopes, rates = [], []

    def save(step: int) -> None:
        state = {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
        torch.save({**state, "epoch": 0, "loss": 0.1 * step}, tmp_path / f"model_{step}.pt")

    save(0)
    for step in range(1, 13):
        optimizer.zero_grad()
        words = torch.randint(11, (8,))
        torch.nn.functional.cross_entropy(model(words), words).backward()
        slopes.append({name: p.grad.numpy().copy() for name, p in model.named_parameters()})
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        rate.step()
        save(step)
    summary = gradlog.import_log(tmp_path, tmp_path / "run.zarr", AS_UPDATES)
    steps, found, series = stored(tmp_path / "run.zarr")
    assert steps == list(range(1, 13))
    assert set(found) == {"embedding.weight", "norm.weight", "norm.bias"} == set(slopes[0])
    assert series["lr"] == rates
    assert series["loss"] == pytest.approx([0.1 * step for step in range(1, 13)])
    for name, values in found.items():
        expected = np.stack([-rate * slope[name] for rate, slope in zip(rates, slopes, strict=True)])
        np.testing.assert_allclose(values, expected, rtol=0, atol=4e-7)
    left = summary.plan.left_out
    assert left["head.weight"] == "tied: the same memory as 'embedding.weight'"
    assert set(left) == {"head.weight", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert gradlog.open_log(tmp_path / "run.zarr").attributes["gradlog"]["every"] == 1


def test_rates_that_are_none(tmp_path: Path) -> None:
    """Two rates, or an optimizer that does not load: the log has none, and the reason is said."""
    import torch

    for case, state in {
        "two": {"param_groups": [{"lr": 0.1}, {"lr": 0.2}]},
        "odd": {"param_groups": [{"lr": argparse.Namespace()}]},
    }.items():
        for step in (1, 2):
            folder = tmp_path / case / f"checkpoint-{step}"
            folder.mkdir(parents=True)
            torch.save({"w": torch.full((3,), float(step))}, folder / "pytorch_model.bin")
            torch.save(state, folder / "optimizer.pt")
        summary = gradlog.import_log(tmp_path / case, tmp_path / f"{case}.zarr", AS_UPDATES)
        assert stored(tmp_path / f"{case}.zarr")[2] == {}
        told = "holds 2 rates, by groups" if case == "two" else r"optimizer.pt: holds argparse.Namespace"
        assert told in summary.plan.left_out["lr"]


def test_a_mixed_model_in_16_bits(tmp_path: Path) -> None:
    import torch

    rng = np.random.default_rng(3)
    along = np.cumsum(rng.standard_normal((3, 50)), axis=0)
    for step, row in enumerate(along):
        brain = torch.from_numpy(row).to(torch.bfloat16)
        torch.save({"w": brain, "norm": torch.from_numpy(row).float()}, tmp_path / f"m{step}.pth")
    summary = gradlog.import_log(tmp_path, tmp_path / "run.zarr", AS_UPDATES)
    brain = from_bfloat16(to_bfloat16(along.astype("f4")))
    np.testing.assert_array_equal(stored(tmp_path / "run.zarr")[1]["w"], np.diff(brain, axis=0))
    assert list(summary.tensor_rounding) == ["w"]
    assert summary.rounding is not None
    assert summary.rounding < summary.tensor_rounding["w"] < 1e-3


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setitem(os.environ, name, "1")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("offline")
def test_a_folder_of_hugging_face_becomes_a_report_in_two_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

    rates: dict[int, float] = {}
    slopes: dict[int, NDArray[Any]] = {}

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002
            rates[state.global_step + 1] = rest["optimizer"].param_groups[0]["lr"]
            slopes[state.global_step + 1] = rest["model"].transformer.wte.weight.grad.numpy().copy()

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=16, vocab_size=32))
    words = [torch.randint(32, (12,)) for _ in range(48)]
    out = tmp_path / "output"
    arguments = TrainingArguments(
        output_dir=str(out), max_steps=12, per_device_train_batch_size=4, save_steps=1, logging_steps=1,
        report_to=[], optim="sgd", learning_rate=0.5, use_cpu=True, disable_tqdm=True,
        lr_scheduler_type="linear",
    )  # fmt: skip
    data = [{"input_ids": tokens, "labels": tokens} for tokens in words]
    Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Watch()]).train()
    capsys.readouterr()

    run = tmp_path / "run.zarr"
    assert main(["import", "--updates", str(out), "-o", str(run)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "11 rows (steps 2 to 12), 16 tensors, 1,272 parameters, updates over 1 step each" in said.out
    assert main(["analyze", str(run), "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["run"]["rows"] == 11
    assert report["total"]["energy"] > 0
    steps, found, series = stored(run)
    assert steps == list(range(2, 13))
    assert "lm_head.weight" not in found
    assert series["lr"] == [rates[step] for step in steps]
    last = json.loads((out / "checkpoint-12" / "trainer_state.json").read_text())["log_history"]
    losses = {entry["step"]: entry["loss"] for entry in last if "loss" in entry}
    assert series["loss"] == [losses[step] for step in steps]
    for row, step in enumerate(steps):
        expected = -rates[step] * slopes[step]
        np.testing.assert_allclose(found["transformer.wte.weight"][row], expected, rtol=0, atol=1e-7)
    shutil.rmtree(out / "checkpoint-7")
    summary = gradlog.import_log(out, tmp_path / "uneven.zarr", AS_UPDATES)
    assert summary.plan.every is None


@pytest.mark.filterwarnings("ignore")
def test_checkpoints_of_lightning(tmp_path: Path) -> None:
    import lightning
    import torch

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(4, 2)

        def training_step(self, batch: Any, _: int) -> Any:
            return (self.net(batch[0]) ** 2).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.25)

    torch.manual_seed(0)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(24, 4)), batch_size=2)
    save = lightning.pytorch.callbacks.ModelCheckpoint(
        tmp_path / "saved", every_n_train_steps=4, save_top_k=-1
    )
    trainer = lightning.Trainer(
        max_steps=12, accelerator="cpu", logger=False, callbacks=[save], enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Module(), data)
    summary = gradlog.import_log(tmp_path / "saved", tmp_path / "run.zarr", AS_UPDATES)
    steps, found, series = stored(tmp_path / "run.zarr")
    assert steps == [8, 12]
    assert series == {"lr": [0.25, 0.25]}
    assert set(found) == {"net.weight", "net.bias"}
    assert summary.plan.every == 4
    assert summary.plan.taken == "what lies at 'state_dict'"
    weights = [
        torch.load(path, weights_only=True)["state_dict"]["net.weight"].numpy()
        for path in sorted((tmp_path / "saved").iterdir(), key=lambda path: int(path.stem.split("=")[-1]))
    ]
    np.testing.assert_array_equal(found["net.weight"], np.diff(np.stack(weights), axis=0))
    with pytest.raises(gradlog.DataError, match=r"step=4.ckpt: a checkpoint, which holds weights"):
        gradlog.plan_import(tmp_path / "saved")


def test_updates_of_bfloat16_arrays_of_zarr(tmp_path: Path) -> None:
    """A copy of a log keeps the bits, whatever they are."""
    bits = np.random.default_rng(1).integers(0, 1 << 16, (3, 500), dtype=np.uint16)
    group = zarr.open_group(tmp_path / "run.zarr", mode="w")
    array = group.create_array("grads/w", shape=bits.shape, chunks=(2, 500), dtype="u2")
    array[...] = bits
    array.attrs["gradlog"] = {"dtype": "bfloat16"}
    step = group.create_array("step", shape=(3,), dtype="i8")
    step[...] = np.arange(3)
    group.attrs["gradlog"] = {"version": 1}
    gradlog.import_log(tmp_path / "run.zarr", tmp_path / "copy.zarr")
    np.testing.assert_array_equal(stored(tmp_path / "copy.zarr")[1]["w"], bits)


def test_bfloat16_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    write_safetensors(tmp_path / "1.safetensors", {"w": np.ones(3, np.uint16)})
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(gradlog.UsageError, match="writing bfloat16 needs the library ml_dtypes"):
        gradlog.plan_import(tmp_path)
