"""Record the gradients of a Trainer of Lightning: a callback that begins with training and ends with it."""

from __future__ import annotations

import os
import sys
from typing import Any

from .libraries import load, load_torch
from .record import record
from .recorder import Recorder


def lightning_callback(path: str | os.PathLike[str], **options: Any) -> Any:
    """A callback of Lightning that records in a log at `path`.

    Rows are taken behind clipping, where Lightning's own `on_before_optimizer_step` is before it. Training
    steps are the Trainer's own: the first step is 1, and a checkpoint of step S comes behind the row of step
    S. Training that goes on from a checkpoint goes on with the log, and rows of later steps are cut. Rows are
    committed whenever a checkpoint is saved. The series `loss` holds what is differentiated, summed over the
    batches that are accumulated.

    path, options : as of `record`

    Raises UsageError where Lightning or PyTorch are not installed. The callback raises what `record` and a
    recorder's steps raise.
    """
    load_torch()
    # Two packages with classes of their own: the one that the loop has loaded.
    older = "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules
    lightning = load("pytorch_lightning" if older else "lightning.pytorch", "pip install lightning")

    class RecordingCallback(lightning.Callback):  # type: ignore[misc, name-defined]
        """Holds the recorder while the Trainer trains."""

        recorder: Recorder | None = None
        losses: Any = None  # since the step before

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            """The optimizers are there, and the checkpoint is loaded."""
            going_on = {}
            if trainer.global_step or options.get("resume"):
                # Lightning counts the steps of each optimizer.
                made = trainer.global_step // max(1, len(trainer.optimizers))
                going_on = {"resume": True, "after_step": made}
            choices = {"start_step": 1, **options, **going_on}
            self.recorder = record(path, pl_module, trainer.optimizers, **choices)

        def on_before_backward(self, _trainer: Any, _module: Any, loss: Any) -> None:
            """Lightning has divided by the batches that it accumulates."""
            loss = loss.detach()
            self.losses = loss if self.losses is None else self.losses + loss

        def on_before_optimizer_step(self, *_: Any) -> None:
            """The row is taken behind this, when gradients are clipped."""
            if self.recorder is not None and self.losses is not None:
                self.recorder.note(loss=self.losses)
            self.losses = None

        def on_save_checkpoint(self, *_: Any) -> None:
            """A log never ends before a checkpoint."""
            if self.recorder is not None:
                self.recorder.flush()

        def on_train_end(self, *_: Any) -> None:
            """The log is whole."""
            if self.recorder is not None:
                self.recorder.close()

        def on_exception(self, _trainer: Any, _module: Any, exception: BaseException) -> None:
            """Rows that were taken are in the log, whatever ended training."""
            if self.recorder is not None:
                self.recorder.__exit__(type(exception), exception, exception.__traceback__)

    return RecordingCallback()
