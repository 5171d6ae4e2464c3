"""The recorder within Hugging Face's Trainer, Lightning and accelerate, against what their steps used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_loops import (
    LR,
    assert_rows,
    batches,
    loss_of,
    moved,
    recorded,
    series_of,
    small_model,
    steps_of,
    weights,
)

from gradmf import gradlog

pytestmark = [pytest.mark.extras, pytest.mark.filterwarnings("ignore")]


def language_model() -> Any:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def trainer_of(folder: Path, callbacks: list[Any], **arguments: Any) -> Any:
    import torch
    from transformers import Trainer, TrainingArguments

    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(50, (12,), generator=generator) for _ in range(40)]
    options = {
        "max_steps": 6, "per_device_train_batch_size": 4, "use_cpu": True, "report_to": "none",
        "disable_tqdm": True, "logging_steps": 1, "save_strategy": "no", "max_grad_norm": 0.3, **arguments,
    }  # fmt: skip
    return Trainer(
        model=language_model(),
        args=TrainingArguments(output_dir=str(folder), **options),
        train_dataset=[{"input_ids": text, "labels": text} for text in texts],
        callbacks=callbacks,
    )


def used_by_trainer() -> tuple[Any, list[dict[str, Any]]]:
    """A callback, and the gradients that it finds where the Trainer calls it last before a step."""
    from transformers import TrainerCallback

    used: list[dict[str, Any]] = []

    class Spy(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
            used.append({name: p.grad.clone().numpy() for name, p in model.named_parameters()})

    return Spy(), used


@pytest.mark.parametrize("accumulated", [1, 2])
def test_trainer(accumulated: int, tmp_path: Path) -> None:
    """With its default, fused AdamW; clipped; a tied head."""
    path = tmp_path / "run.zarr"
    spy, used = used_by_trainer()
    trainer = trainer_of(
        tmp_path, [spy, gradlog.trainer_callback(path)], gradient_accumulation_steps=accumulated
    )
    trainer.train()
    assert steps_of(path) == [1, 2, 3, 4, 5, 6]
    rows = recorded(path)
    assert "transformer.h.0.attn.c_attn.weight" in rows[0]
    assert not any("lm_head" in name for name in rows[0])
    for row, expected in zip(rows, used, strict=True):
        assert row.keys() == expected.keys()
        for name in row:
            np.testing.assert_array_equal(row[name], expected[name])
        assert sum(float((values.astype(float) ** 2).sum()) for values in row.values()) == pytest.approx(
            0.09, rel=1e-3
        )
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    np.testing.assert_allclose(series_of(path, "loss"), losses)
    np.testing.assert_allclose(series_of(path, "lr"), [5e-5 * (1 - step / 6) for step in range(6)])
    attributes = gradlog.open_log(path).attributes
    assert attributes["model"] == "GPT2LMHeadModel"
    assert attributes["optimizer"] == "AdamW"


def test_trainer_that_logs_and_records_now_and_then(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    trainer_of(tmp_path, [gradlog.trainer_callback(path, every=2)], logging_steps=4).train()
    assert steps_of(path) == [2, 4, 6]
    assert [np.isnan(loss) for loss in series_of(path, "loss")] == [True, False, True]


def test_trainer_that_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    """The rows behind the checkpoint are cut and made anew, to the last bit."""
    path = tmp_path / "run.zarr"
    saving = {"save_strategy": "steps", "save_steps": 3}
    trainer_of(tmp_path, [gradlog.trainer_callback(path, flush_every=100)], **saving).train()
    first = recorded(path)
    for checkpoint, steps in (("checkpoint-3", range(1, 7)), ("checkpoint-6", range(1, 9))):
        trainer = trainer_of(tmp_path, [gradlog.trainer_callback(path)], max_steps=steps[-1], **saving)
        trainer.train(resume_from_checkpoint=str(tmp_path / checkpoint))
        assert steps_of(path) == list(steps)
        for one, other in zip(first[:3], recorded(path)[:3], strict=True):
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])


def lightning_module(manual: bool = False) -> Any:
    import torch
    from lightning.pytorch import LightningModule

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_model()
            self.automatic_optimization = not manual
            self.used: list[dict[str, Any]] = []
            self.before: Any = None
            self.losses: list[float] = []

        def training_step(self, batch: Any, _: int) -> Any:
            loss = loss_of(self.net, batch[0])
            self.losses.append(float(loss))
            if manual:
                optimizer = self.optimizers()
                optimizer.zero_grad()
                self.manual_backward(loss)
                self.before = weights(self)
                optimizer.step()
                self.used.append(moved(self.before, weights(self)))
                return None
            return loss

        def optimizer_step(self, *arguments: Any, **options: Any) -> None:
            before = weights(self)
            super().optimizer_step(*arguments, **options)
            self.used.append(moved(before, weights(self)))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=LR)

        def train_dataloader(self) -> Any:
            rows = torch.cat(list(batches(6)))
            return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), batch_size=16)

    return Module()


def lightning_trainer(folder: Path, callbacks: list[Any], **options: Any) -> Any:
    from lightning.pytorch import Trainer

    return Trainer(
        default_root_dir=folder, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=callbacks,
        **{"enable_checkpointing": False, "max_epochs": 1, **options},
    )  # fmt: skip


@pytest.mark.parametrize(
    "options", [{}, {"gradient_clip_val": 0.05}, {"accumulate_grad_batches": 2}], ids=str
)
def test_lightning(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    module = lightning_module()
    lightning_trainer(tmp_path, [gradlog.lightning_callback(path)], **options).fit(module)
    each = options.get("accumulate_grad_batches", 1)
    assert steps_of(path) == list(range(1, 6 // each + 1))
    assert_rows(path, module.used)
    np.testing.assert_allclose(
        series_of(path, "loss"), np.reshape(module.losses, (-1, each)).mean(axis=1), rtol=1e-6
    )
    assert gradlog.open_log(path).attributes["model"] == "Module"


def test_lightning_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    module = lightning_module(manual=True)
    lightning_trainer(tmp_path, [gradlog.lightning_callback(path)]).fit(module)
    assert_rows(path, module.used)
    np.testing.assert_allclose(series_of(path, "loss"), module.losses, rtol=1e-6)


def test_lightning_that_goes_on_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    trainer = lightning_trainer(tmp_path, [gradlog.lightning_callback(path)], max_steps=4)
    trainer.fit(lightning_module())
    trainer.save_checkpoint(tmp_path / "four.ckpt")
    assert steps_of(path) == [1, 2, 3, 4]

    module = lightning_module()
    step = module.training_step

    def fail(batch: Any, batch_idx: int) -> Any:
        if len(module.losses) == 2:
            raise ZeroDivisionError
        return step(batch, batch_idx)

    module.training_step = fail
    trainer = lightning_trainer(tmp_path, [gradlog.lightning_callback(path)], max_epochs=3)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module, ckpt_path=tmp_path / "four.ckpt")
    assert steps_of(path) == [1, 2, 3, 4, 5, 6]
    for row, expected in zip(recorded(path)[4:], module.used, strict=True):
        np.testing.assert_allclose(row["net.0.weight"], expected["net.0.weight"], rtol=1e-6, atol=1e-9)


def test_lightning_in_bfloat16(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    module = lightning_module()
    lightning_trainer(tmp_path, [gradlog.lightning_callback(path)], precision="bf16-mixed").fit(
        module.double()
    )
    assert_rows(path, module.used)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_accelerate(accumulated: int, tmp_path: Path) -> None:
    import torch
    from accelerate import Accelerator

    path = tmp_path / "run.zarr"
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulated)
    model = small_model()
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=LR))
    used = []
    with gradlog.record(path, model, optimizer):
        for batch in batches(4):
            with accelerator.accumulate(model):
                before = weights(model)
                accelerator.backward(loss_of(model, batch))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 0.05)
                optimizer.step()
                optimizer.zero_grad()
                if accelerator.sync_gradients:
                    used.append(moved(before, weights(model)))
    assert len(used) == 4 // accumulated
    assert_rows(path, used)
