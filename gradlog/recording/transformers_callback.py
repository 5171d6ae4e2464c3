"""Record the gradients of a Trainer of Hugging Face: a callback that begins and ends with training."""

from __future__ import annotations

import os
from typing import Any

from .libraries import load, load_torch
from .record import record
from .recorder import Recorder

LOSS = "loss"


def trainer_callback(path: str | os.PathLike[str], **options: Any) -> Any:
    """A `transformers.TrainerCallback` that records in a log at `path`.

    Training steps are the Trainer's own: the first step is 1, and checkpoint-S comes behind the row of step
    S. Training that goes on from a checkpoint goes on with the log, and rows of later steps are cut. Rows are
    committed whenever a checkpoint is saved. The series `loss` holds what the Trainer logs at a row's step,
    the mean since it logged last, and NaN where it logs nothing: with `logging_steps=1` it is the loss of
    each row.

    path, options : as of `record`

    Raises UsageError where transformers or PyTorch are not installed. The callback raises what `record` and a
    recorder's steps raise.
    """
    load_torch()
    transformers = load("transformers", "pip install transformers")
    options["series"] = (*dict.fromkeys((LOSS, *options.get("series", ()))),)

    class RecordingCallback(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        """Holds the recorder while the Trainer trains."""

        recorder: Recorder | None = None

        def on_train_begin(
            self, _args: Any, state: Any, *_: Any, model: Any, optimizer: Any, **__: Any
        ) -> None:
            """The optimizer is there, and the checkpoint is loaded."""
            going_on = {}
            if state.global_step or options.get("resume"):
                going_on = {"resume": True, "after_step": state.global_step}
            self.recorder = record(path, model, optimizer, **{"start_step": 1, **options, **going_on})
            self.recorder.wait_for_notes()

        def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
            """What is logged of the step comes behind this, if anything, and then a checkpoint."""
            if not control.should_log:
                self._end_step(control)

        def on_log(self, _args: Any, _state: Any, control: Any, *, logs: dict[str, Any], **_: Any) -> None:
            """A loss that is logged is one of the step that was made."""
            if self.recorder is not None and LOSS in logs:
                self.recorder.note(loss=logs[LOSS])
                self._end_step(control)

        def on_train_end(self, *_: Any, **__: Any) -> None:
            """The log is whole."""
            if self.recorder is not None:
                self.recorder.close()

        def _end_step(self, control: Any) -> None:
            if self.recorder is not None:
                self.recorder.hand_over()
                if control.should_save:  # no log ends before a checkpoint
                    self.recorder.flush()

    return RecordingCallback()
