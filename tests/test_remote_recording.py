"""Training loops that are recorded in a bucket: what a row is, how a run may end, and what is told when."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bucket_fixtures import credentials, moto, server, service  # noqa: F401
from bucket_server import BucketServer
from training_loops import LR, batches, loss_of, run_loop, small_model

from gradmf import gradlog
from gradmf.gradlog.logs import bucket_lock
from gradmf.gradlog.recording import record as recording

pytestmark = pytest.mark.extras

URL = "s3://bucket/run.zarr"


def files(path: Path) -> dict[str, bytes]:
    """All files below a folder, by their paths."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def objects(server: BucketServer) -> dict[str, bytes]:
    """All objects of the log, by their keys below it."""
    return {key.removeprefix("run.zarr/"): data for key, data in server.objects.items()}


def train(place: Any, steps: int, start: int = 0, **options: Any) -> None:
    import torch

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    made = list(batches(start + steps))[start:]
    with gradlog.record(place, model, optimizer, **options) as recorder:
        for batch in made:
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            recorder.note(loss=loss)
            optimizer.step()


@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16"}, {"project": 64}], ids=str)
def test_the_log_is_the_one_on_a_disk(options: dict[str, Any], server: BucketServer, tmp_path: Path) -> None:
    for place in (URL, tmp_path / "run.zarr"):
        train(place, 9, flush_every=4, **options)
        train(place, 5, start=6, flush_every=4, resume=True, after_step=5, **options)
    assert objects(server) == files(tmp_path / "run.zarr")
    assert gradlog.open_log(URL).step.tolist() == list(range(11))


def test_training_does_not_wait_for_uploads(server: BucketServer) -> None:
    import torch

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with gradlog.record(URL, model, optimizer, flush_every=1) as recorder:
        server.seconds = 0.3
        loss_of(model, next(batches(1))).backward()
        begun = time.monotonic()
        optimizer.step()
        assert time.monotonic() - begun < 0.3
        recorder.flush()
        assert time.monotonic() - begun > 0.6
        server.seconds = 0.0
    assert gradlog.open_log(URL).rows == 1


def test_two_recorders_of_one_log(server: BucketServer) -> None:
    import torch

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with gradlog.record(URL, model, optimizer):
        loss_of(model, next(batches(1))).backward()
        optimizer.step()
        told = {"resume": "somebody else is writing this log", "overwrite": "somebody else is writing"}
        begun = time.monotonic()
        for option, words in told.items():
            with pytest.raises(gradlog.UsageError, match=f"^{URL}: {words}") as caught:
                gradlog.record(URL, model, optimizer, **{option: True})  # type: ignore[arg-type]
            assert "\n" not in str(caught.value)
        assert time.monotonic() - begun < bucket_lock.RENEWED, "it waited for its own process"
        optimizer.step()
    assert gradlog.open_log(URL).rows == 2
    assert not [key for key in server.objects if "partial" in key]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (500, r"the service failed \(500\) after 2 tries: try again later"),
        (403, r"access refused \(403\) to a request that was signed"),
        ("hang", "no answer within 1 seconds after 2 tries"),
    ],
)
def test_a_fault_in_mid_run_is_told_by_the_next_step(
    fault: int | str, told: str, server: BucketServer
) -> None:
    import torch

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with gradlog.remote_access(seconds=0.5, retries=1, deadline=2.0):
        recorder = gradlog.record(URL, model, optimizer, flush_every=1)
    for number, batch in enumerate(batches(3)):
        if number == 2:
            recorder.flush()
            server.faults = {"run.zarr/grads": [fault] * 99}
        loss_of(model, batch).backward()
        optimizer.step()
    with pytest.raises(gradlog.RecordingError) as caught:
        recorder.flush()
    line = str(caught.value)
    beginning = f"{URL}: the row of training step 2 could not be written: cannot be written: 'grads/"
    assert line.startswith(beginning)
    assert told.replace("\\", "") in line
    assert line.endswith("; 2 rows are in it")
    assert "\n" not in line
    for _ in range(2):
        with pytest.raises(gradlog.RecordingError, match="training step 2"):
            optimizer.step()
    server.faults = {}
    with pytest.raises(gradlog.RecordingError, match="training step 2"):
        recorder.close()
    assert gradlog.open_log(URL).rows == 2


def assert_planned(rows: int | None = None) -> int:
    """Row t holds t + 1 and t, whatever is there; how many there are."""
    log = gradlog.open_log(URL)
    assert rows is None or log.rows == rows
    assert log.step.tolist() == list(range(log.rows))
    values = {tensor.name: np.asarray(tensor.array[: log.rows]) for tensor in log.tensors}  # type: ignore[attr-defined]
    steps = np.arange(log.rows, dtype=np.float32)
    np.testing.assert_array_equal(
        values["weight"], np.broadcast_to(steps[:, None, None] + 1, (log.rows, 30, 40))
    )
    np.testing.assert_array_equal(values["bias"], np.broadcast_to(steps[:, None], (log.rows, 30)))
    return log.rows


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("raise RuntimeError('out of memory')", 1), ("os.kill(os.getpid(), 2)", -2)],
)
def test_a_recorder_that_is_never_closed(end: str, code: int, server: BucketServer) -> None:
    """All rows are committed when the program ends, and nobody has to wait for the log."""
    server.seconds = 0.01
    done = run_loop(
        f"""
        recorder = gradlog.record(sys.argv[1], model, optimizer, flush_every=100)
        for number in range(7):
            step(number)
        {end}
        """,
        URL,
    )
    assert done.returncode == code, done.stderr
    assert code == 1 or not done.stderr or "KeyboardInterrupt" in done.stderr
    assert_planned(7)
    assert not [key for key in server.objects if "partial" in key]


def test_a_writer_that_is_never_closed(server: BucketServer) -> None:
    """What was not committed is lost, and nobody has to wait for the log."""
    done = run_loop(
        """
        log = gradlog.create_log(sys.argv[1], chunk_rows=2)
        for number in range(5):
            log.append(number, {"weight": [float(number)]})
        """,
        URL,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert gradlog.open_log(URL).rows == 4
    assert not [key for key in server.objects if "partial" in key]


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_kill_leaves_committed_rows(
    kills: int, server: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(kills)
    server.seconds = 0.002
    rows = 0
    for _ in range(kills):
        done = run_loop(
            f"""
            import signal, threading
            from gradmf.gradlog.logs import bucket_lock
            bucket_lock.LOOK, bucket_lock.RENEWED, bucket_lock.FRESH = 0.02, 0.05, 0.2
            bucket_lock.BucketLock.stands_still = 0.4
            recorder = gradlog.record(sys.argv[1], model, optimizer, flush_every=4, resume=True)
            end = lambda: os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer({rng.uniform(0.05, 0.5)}, end).start()
            for number in range(recorder.step, 10**6):
                step(number)
            """,
            URL,
        )
        assert done.returncode == -9, done.stderr
        found = assert_planned() if "run.zarr/step/c.0" in server.objects else 0
        assert found >= rows
        rows = found
    assert rows > kills
    monkeypatch.setattr(bucket_lock, "LOOK", 0.02)
    monkeypatch.setattr(bucket_lock, "RENEWED", 0.1)
    with pytest.warns(RuntimeWarning, match="seems to have been killed"):
        log = gradlog.create_log(URL, resume=True)
    assert log.rows == rows
    log.close()


def test_processes_that_each_record_a_part_are_told(
    server: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(recording, "are_distributed", lambda _: True)
    model = small_model()
    told = f"^{URL}: processes that each record a part write to a local folder, and not to a URL"
    with pytest.raises(gradlog.UsageError, match=told):
        gradlog.record(URL, model, torch.optim.SGD(model.parameters(), lr=LR))
    assert server.objects == {}


@pytest.mark.filterwarnings("ignore")
def test_trainer(server: BucketServer, tmp_path: Path) -> None:
    """Of Hugging Face, with a checkpoint that it goes on from."""
    import torch
    import transformers

    def trainer(place: Any, steps: int) -> Any:
        torch.manual_seed(0)
        texts = torch.randint(40, (16, 8))
        config = transformers.GPT2Config(vocab_size=40, n_positions=8, n_embd=8, n_layer=1, n_head=1)
        return transformers.Trainer(
            model=transformers.GPT2LMHeadModel(config),
            args=transformers.TrainingArguments(
                tmp_path / ("remote" if place == URL else "local"), max_steps=steps, save_steps=2,
                report_to="none", use_cpu=True, disable_tqdm=True, logging_steps=1,
            ),
            train_dataset=[{"input_ids": text, "labels": text} for text in texts],
            callbacks=[gradlog.trainer_callback(place)],
        )  # fmt: skip

    for place in (URL, str(tmp_path / "run.zarr")):
        trainer(place, 4).train()
        trainer(place, 6).train(resume_from_checkpoint=True)
    assert gradlog.open_log(URL).step.tolist() == [1, 2, 3, 4, 5, 6]
    assert objects(server) == files(tmp_path / "run.zarr")


@pytest.mark.filterwarnings("ignore")
def test_lightning(server: BucketServer, tmp_path: Path) -> None:
    import torch

    lightning = pytest.importorskip("lightning.pytorch")

    class Net(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(4, 2)

        def training_step(self, batch: Any, _: int) -> Any:
            return self.layer(batch).pow(2).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    for place in (URL, tmp_path / "run.zarr"):
        trainer = lightning.Trainer(
            max_steps=5, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
            callbacks=[gradlog.lightning_callback(place)],
        )  # fmt: skip
        data = torch.arange(40.0).reshape(10, 4) / 40
        trainer.fit(Net(), torch.utils.data.DataLoader(data, batch_size=2))
    assert objects(server) == files(tmp_path / "run.zarr")
