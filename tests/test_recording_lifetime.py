"""What is left of a recorded run however it ends, and that no fault of the writing thread is lost."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_loops import LOOP, LR, batches, loss_of, recorded, run_loop, small_model, steps_of

from gradmf import gradlog
from gradmf.gradlog.logs.writer import LogWriter

pytestmark = pytest.mark.extras


def assert_planned(path: Path, rows: int | None = None) -> None:
    """Row t holds t + 1 and t, whatever is there."""
    found = recorded(path)
    assert rows is None or len(found) == rows
    for step, row in zip(steps_of(path), found, strict=True):
        np.testing.assert_array_equal(row["weight"], np.full((30, 40), step + 1.0, np.float32))
        np.testing.assert_array_equal(row["bias"], np.full(30, step, np.float32))


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("", 0),
        ("raise RuntimeError('out of memory')", 1),
        ("os.kill(os.getpid(), 2)", -2),
    ],
)
def test_a_recorder_that_is_never_closed(end: str, code: int, tmp_path: Path) -> None:
    """All rows are committed, and the program ends."""
    done = run_loop(
        f"""
        recorder = gradlog.record(sys.argv[1], model, optimizer, flush_every=100)
        for number in range(7):
            step(number)
        {end}
        """,
        tmp_path / "run.zarr",
    )
    assert done.returncode == code, done.stderr
    assert_planned(tmp_path / "run.zarr", 7)


def test_a_program_that_ends_behind_the_first_step(tmp_path: Path) -> None:
    done = run_loop("gradlog.record(sys.argv[1], model, optimizer); step(0)", tmp_path / "run.zarr")
    assert (done.returncode, done.stderr) == (0, "")
    assert_planned(tmp_path / "run.zarr", 1)


def test_a_process_that_was_forked(tmp_path: Path) -> None:
    """It ends without what the interpreter does at its end."""
    program = LOOP.replace(
        "torch.manual_seed(0)", "torch.set_num_threads(1); torch.manual_seed(0)"
    ) + textwrap.dedent(
        """
        def train():
            gradlog.record(sys.argv[1], model, optimizer, flush_every=100)
            for number in range(5):
                step(number)

        if __name__ == "__main__":
            import multiprocessing
            process = multiprocessing.get_context("fork").Process(target=train)
            process.start()
            process.join()
            assert process.exitcode == 0
        """
    )
    script = tmp_path / "train.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, tmp_path / "run.zarr"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert_planned(tmp_path / "run.zarr", 5)


def test_optimizers_that_are_gone_close_the_log(tmp_path: Path) -> None:
    import torch

    def train() -> None:
        model = small_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        gradlog.record(tmp_path / "run.zarr", model, optimizer, flush_every=100)
        for batch in batches(3):
            loss_of(model, batch).backward()
            optimizer.step()

    train()
    gc.collect()
    assert steps_of(tmp_path / "run.zarr") == [0, 1, 2]
    assert gradlog.analyze(tmp_path / "run.zarr").run.rows == 3


def test_an_error_in_the_loop_leaves_a_whole_log(tmp_path: Path) -> None:
    import torch

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def train() -> None:
        with gradlog.record(tmp_path / "run.zarr", model, optimizer):
            for number, batch in enumerate(batches(9)):
                loss_of(model, batch).backward()
                if number == 5:
                    raise ZeroDivisionError
                optimizer.step()

    with pytest.raises(ZeroDivisionError):
        train()
    assert steps_of(tmp_path / "run.zarr") == [0, 1, 2, 3, 4]
    optimizer.step()  # the hooks are gone
    assert gradlog.analyze(tmp_path / "run.zarr").run.rows == 5


@pytest.mark.parametrize("seed", range(2))
def test_a_kill_leaves_committed_rows(seed: int, tmp_path: Path) -> None:
    """Rows that `step` counts are right, few are lost, and recording goes on behind them."""
    path = tmp_path / "run.zarr"
    program = LOOP + textwrap.dedent(
        """
        recorder = gradlog.record(sys.argv[1], model, optimizer, flush_every=4, resume=True)
        for number in range(recorder.step, 1000000):
            step(number)
            print(number, flush=True)
        """
    )
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(float(np.random.default_rng(seed).uniform(0.05, 0.4)))
        process.send_signal(signal.SIGKILL)
        made = int((process.stdout.read().splitlines() or ["0"])[-1]) + 1
        process.stdout.close()
        process.wait()
        assert_planned(path)
        steps = steps_of(path)
        assert steps == list(range(len(steps)))
        assert made - 4 - 1 <= len(steps) <= made + 1
        assert gradlog.analyze(path).run.rows == len(steps)


class Failing:
    """Lets a writer's `append` fail from some row on, or its `close`."""

    def __init__(self, patch: pytest.MonkeyPatch, step: int) -> None:
        self.step = step
        self.append = LogWriter.append
        patch.setattr(LogWriter, "append", self._append())

    def _append(failing) -> Any:  # noqa: N805
        def append(self: LogWriter, step: int, gradients: Any, /, **series: float) -> None:
            if step >= failing.step:
                raise OSError(28, "No space left on device", f"{self.path}/grads/0.bias/c.0.0")
            failing.append(self, step, gradients, **series)

        return append


def test_a_row_that_cannot_be_written_is_told_by_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    Failing(monkeypatch, step=3)
    path = tmp_path / "run.zarr"
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    recorder = gradlog.record(path, model, optimizer)
    loss_of(model, next(batches(1))).backward()
    for _ in range(4):
        optimizer.step()
    before = model[0].weight.detach().clone()
    told = r"run\.zarr: the row of training step 3 could not be written: No space left on device: .*0\.bias"
    for _ in range(2):  # again, until it is closed
        with pytest.raises(gradlog.RecordingError, match=told):
            optimizer.step()
    assert (model[0].weight == before).all()
    with pytest.raises(gradlog.RecordingError, match=told):
        recorder.flush()
    with pytest.raises(gradlog.RecordingError, match=told):
        recorder.close()
    optimizer.step()
    recorder.close()
    assert steps_of(path) == [0, 1, 2]
    with gradlog.record(path, model, optimizer, resume=True) as recorder:
        assert recorder.step == 3


def test_a_fault_that_only_closing_meets(tmp_path: Path) -> None:
    import torch

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    loss_of(model, next(batches(1))).backward()

    def fail(self: LogWriter) -> None:
        raise OSError(5, "Input/output error", str(self.path / "step"))

    for told in (False, True):
        path = tmp_path / f"{told}.zarr"
        recorder = gradlog.record(path, model, optimizer, flush_every=100)
        optimizer.step()
        recorder._writer._writer.close = fail.__get__(recorder._writer._writer)  # type: ignore[union-attr]
        if told:
            with pytest.raises(ZeroDivisionError) as error, recorder:
                raise ZeroDivisionError
            assert "its last rows could not be written: Input/output error" in error.value.__notes__[0]
        else:
            with pytest.raises(gradlog.RecordingError, match="its last rows could not be written"):
                recorder.close()


def test_a_fault_that_nobody_can_catch_is_a_warning(tmp_path: Path) -> None:
    done = run_loop(
        """
        from gradmf.gradlog.logs.writer import LogWriter
        def fail(self):
            raise OSError(28, "No space left on device", str(self.path))
        LogWriter.close = fail
        gradlog.record(sys.argv[1], model, optimizer, flush_every=100)
        step(0)
        """,
        tmp_path / "run.zarr",
    )
    assert done.returncode == 0
    assert "RuntimeWarning" in done.stderr
    assert "could not be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting takes rights")
def test_a_full_disk(tmp_path: Path) -> None:
    """Rows that were committed stay, and recording goes on once there is room."""
    import torch

    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted")
    try:
        model = torch.nn.Linear(200, 200)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        model(torch.ones(200)).sum().backward()
        path = disk / "run.zarr"

        def train() -> None:
            with gradlog.record(path, model, optimizer, flush_every=1):
                for _ in range(100):
                    optimizer.step()

        with pytest.raises(
            gradlog.RecordingError, match=r"No space left on device: .*run\.zarr/grads/weight"
        ):
            train()
        rows = gradlog.open_log(path).rows
        assert 5 < rows < 14
        for row in recorded(path):
            np.testing.assert_array_equal(row["weight"], model.weight.grad.numpy())
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        with gradlog.record(path, model, optimizer, resume=True) as recorder:
            assert recorder.step == rows
            optimizer.step()
        assert gradlog.open_log(path).rows == rows + 1
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training waits for it, or drops rows and counts them."""
    import torch

    append = LogWriter.append

    def slowly(self: LogWriter, *arguments: Any, **series: float) -> None:
        time.sleep(0.05)
        append(self, *arguments, **series)

    monkeypatch.setattr(LogWriter, "append", slowly)
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    loss_of(model, next(batches(1))).backward()
    with gradlog.record(tmp_path / "wait.zarr", model, optimizer) as recorder:
        for _ in range(10):
            optimizer.step()
    assert (recorder.rows, recorder.dropped) == (10, 0)
    with gradlog.record(tmp_path / "drop.zarr", model, optimizer, when_full="drop") as recorder:
        for _ in range(30):
            optimizer.step()
        recorder.flush()
        optimizer.step()
    steps = steps_of(tmp_path / "drop.zarr")
    assert (steps[0], steps[-1]) == (0, 30)
    assert recorder.dropped == 31 - len(steps) > 10
    import zarr

    dropped = zarr.open_group(tmp_path / "drop.zarr", mode="r")["dropped"][:]
    np.testing.assert_array_equal(dropped, np.diff([-1, *steps]) - 1)


def test_a_row_is_not_overwritten_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots are used again only when their rows are in the log."""
    import torch

    append = LogWriter.append

    def slowly(self: LogWriter, *arguments: Any, **series: float) -> None:
        time.sleep(0.01)
        append(self, *arguments, **series)

    monkeypatch.setattr(LogWriter, "append", slowly)
    model = torch.nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for slots in (1, 3):
        path = tmp_path / f"{slots}.zarr"
        with gradlog.record(path, model, optimizer, slots=slots):
            for number in range(20):
                model.weight.grad = torch.full((1, 1), float(number))
                optimizer.step()
        assert [float(row["weight"][0, 0]) for row in recorded(path)] == list(range(20))


def test_no_thread_is_left(tmp_path: Path) -> None:
    import threading

    import torch

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    before = threading.active_count()
    with warnings.catch_warnings():
        for number in range(3):
            gradlog.record(tmp_path / str(number), model, optimizer).close()
    assert threading.active_count() == before
