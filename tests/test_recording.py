"""The recorder against what steps of plain SGD did to the weights, loop by loop."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
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

pytestmark = pytest.mark.extras

STEPS = 5
Step = Callable[[Any, Any, Any], None]


def plain(model: Any, optimizer: Any, batch: Any) -> None:
    optimizer.zero_grad()
    loss_of(model, batch).backward()
    optimizer.step()


def in_place(model: Any, optimizer: Any, batch: Any) -> None:
    optimizer.zero_grad(set_to_none=False)
    loss_of(model, batch).backward()
    optimizer.step()


def clipped(model: Any, optimizer: Any, batch: Any) -> None:
    import torch

    optimizer.zero_grad()
    loss_of(model, batch).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
    optimizer.step()


def accumulated(model: Any, optimizer: Any, batch: Any) -> None:
    optimizer.zero_grad()
    for part in batch.split(4):
        (loss_of(model, part) / 4).backward()
    optimizer.step()


def with_closure(model: Any, optimizer: Any, batch: Any) -> None:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return loss

    optimizer.step(closure)


def with_named_closure(model: Any, optimizer: Any, batch: Any) -> None:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return loss

    optimizer.step(closure=closure)


def train(model: Any, optimizer: Any, step: Step, count: int = STEPS) -> list[dict[str, Any]]:
    """The gradients that each step used."""
    used = []
    for batch in batches(count):
        before = weights(model)
        step(model, optimizer, batch)
        used.append(moved(before, weights(model)))
    return used


@pytest.mark.parametrize("step", [plain, in_place, clipped, accumulated, with_closure, with_named_closure])
@pytest.mark.parametrize("options", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
def test_rows_are_what_steps_use(step: Step, options: dict[str, bool], tmp_path: Path) -> None:
    import torch

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, **options)
    with gradlog.record(tmp_path / "run.zarr", model, optimizer) as recorder:
        used = train(model, optimizer, step)
        assert (recorder.step, recorder.rows) == (STEPS, STEPS)
    assert_rows(tmp_path / "run.zarr", used)
    assert steps_of(tmp_path / "run.zarr") == list(range(STEPS))
    assert series_of(tmp_path / "run.zarr", "lr") == [LR] * STEPS
    assert series_of(tmp_path / "run.zarr", "missing") == [0] * STEPS


def test_rows_are_the_gradients_to_the_last_bit(tmp_path: Path) -> None:
    import torch

    model = small_model(dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, nesterov=True, foreach=True)
    used = []
    with gradlog.record(tmp_path / "run.zarr", model, optimizer):
        for batch in batches(STEPS, torch.float32):
            loss = loss_of(model, batch)
            used.append([g.numpy() for g in torch.autograd.grad(loss, list(model.parameters()))])
            plain(model, optimizer, batch)
    for row, expected in zip(recorded(tmp_path / "run.zarr"), used, strict=True):
        for (name, _), values in zip(model.named_parameters(), expected, strict=True):
            np.testing.assert_array_equal(row[name], values)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
@pytest.mark.parametrize("what", ["model", "submodule", "step"])
def test_compiled(what: str, tmp_path: Path) -> None:
    import torch

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    given, step = model, plain
    if what == "model":
        given = torch.compile(model, backend="eager")
    elif what == "submodule":
        model[0] = torch.compile(model[0], backend="eager")
    else:

        def step(model: Any, optimizer: Any, batch: Any) -> None:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            torch.compile(optimizer.step, backend="eager")()

    used = []
    with gradlog.record(tmp_path / "run.zarr", given, optimizer):
        for batch in batches(STEPS):
            before = weights(small_names(given))
            step(given, optimizer, batch)
            used.append(moved(before, weights(small_names(given))))
    assert_rows(tmp_path / "run.zarr", used)


def small_names(model: Any) -> Any:
    """A model whose parameters have their names as if nothing was compiled."""

    class Named:
        def named_parameters(self) -> Any:
            for name, parameter in model.named_parameters():
                yield name.replace("_orig_mod.", ""), parameter

    return Named()


@pytest.mark.parametrize("options", [{}, {"fused": True}], ids=str)
@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_scaled_gradients(options: dict[str, bool], unscale: bool, dtype: str, tmp_path: Path) -> None:
    """No row for the step that the scaler leaves out; the gradients of others are not scaled."""
    import torch

    model = small_model(dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    used = []
    with gradlog.record(tmp_path / "run.zarr", model, optimizer, dtype=dtype):
        for number, batch in enumerate(batches(STEPS, torch.float32)):
            optimizer.zero_grad()
            gradients = torch.autograd.grad(loss_of(model, batch), list(model.parameters()))
            scaler.scale(loss_of(model, batch)).backward()
            if number == 2:
                model[0].weight.grad[0, 0] = math.inf
            else:
                used.append(dict(zip(weights(model), gradients, strict=True)))
            if unscale:
                scaler.unscale_(optimizer)
            before = weights(model)
            scaler.step(optimizer)
            assert (number == 2) == all(np.array_equal(before[n], w) for n, w in weights(model).items())
            scaler.update()
    path = tmp_path / "run.zarr"
    assert steps_of(path) == [0, 1, 2, 3]
    if dtype == "bfloat16":
        exact = [{n: g.to(torch.bfloat16).view(torch.int16).numpy() for n, g in row.items()} for row in used]
        for row, expected in zip(recorded(path), exact, strict=True):
            for name in row:
                np.testing.assert_array_equal(row[name].view(np.int16), expected[name])
        assert gradlog.analyze(path).run.dtypes == ("bfloat16",)
    else:
        # Powers of two: scaling and unscaling round nothing.
        for row, expected in zip(recorded(path), used, strict=True):
            for name in row:
                np.testing.assert_array_equal(row[name], expected[name].numpy().astype(dtype))


def test_lbfgs_makes_one_row_a_step_where_it_began(tmp_path: Path) -> None:
    import torch

    model = small_model()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=5)
    began = []
    with gradlog.record(tmp_path / "run.zarr", model, optimizer):
        for batch in batches(3):
            names = [name for name, _ in model.named_parameters()]
            gradients = torch.autograd.grad(loss_of(model, batch), list(model.parameters()))
            began.append({name: g.numpy() for name, g in zip(names, gradients, strict=True)})
            with_closure(model, optimizer, batch)
    assert_rows(tmp_path / "run.zarr", began)


def test_optimizers_within_the_backward_pass(tmp_path: Path) -> None:
    import torch

    model = small_model()
    of = {parameter: torch.optim.SGD([parameter], lr=LR) for parameter in model.parameters()}

    def step_now(parameter: Any) -> None:
        of[parameter].step()
        of[parameter].zero_grad()

    with gradlog.record(tmp_path / "run.zarr", model, list(of.values())):
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(step_now)
        used = []
        for batch in batches(STEPS):
            before = weights(model)
            loss_of(model, batch).backward()
            used.append(moved(before, weights(model)))
    assert_rows(tmp_path / "run.zarr", used)


def test_a_row_is_complete_when_all_optimizers_have_stepped(tmp_path: Path) -> None:
    """The first steps twice as often: a row has what it used last."""
    import torch

    model = small_model()
    first = torch.optim.SGD(model[0].parameters(), lr=LR)
    second = torch.optim.SGD(model[2].parameters(), lr=2 * LR)
    used = []
    with gradlog.record(tmp_path / "run.zarr", model, [first, second]):
        for number, batch in enumerate(batches(6)):
            before = weights(model)
            model.zero_grad()
            loss_of(model, batch).backward()
            first.step()
            row = moved(before, weights(model))
            if number % 2:
                middle = weights(model)
                second.step()
                later = moved(middle, weights(model), 2 * LR)
                used.append({n: later[n] if n.startswith("2.") else row[n] for n in row})
    assert_rows(tmp_path / "run.zarr", used)
    assert series_of(tmp_path / "run.zarr", "lr") == [LR] * 3
    assert series_of(tmp_path / "run.zarr", "lr.1") == [2 * LR] * 3


def test_an_optimizer_that_never_steps_is_told(tmp_path: Path) -> None:
    import torch

    model = small_model()
    first = torch.optim.SGD(model[0].parameters(), lr=LR)
    second = torch.optim.AdamW(model[2].parameters(), lr=LR)
    recorder = gradlog.record(tmp_path / "run.zarr", model, [first, second])
    for batch in batches(100):
        loss_of(model, batch).backward()
        first.step()
    with pytest.raises(
        gradlog.UsageError, match=r"0 \(SGD\) made 101 steps while number 1 \(AdamW\) made none"
    ):
        first.step()
    with pytest.raises(gradlog.UsageError, match="when all 2 optimizers have stepped"):
        recorder.close()


def test_every_kth_step(tmp_path: Path) -> None:
    import torch

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with gradlog.record(tmp_path / "run.zarr", model, optimizer, every=3, start_step=2) as recorder:
        for number, batch in enumerate(batches(9), 2):
            recorder.note(loss=number)
            plain(model, optimizer, batch)
    assert steps_of(tmp_path / "run.zarr") == [3, 6, 9]
    assert series_of(tmp_path / "run.zarr", "loss") == [3, 6, 9]


def test_notes(tmp_path: Path) -> None:
    """What isn't noted is NaN, lr is that of the step, and a name that comes too late is refused."""
    import torch

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    with gradlog.record(tmp_path / "run.zarr", model, optimizer, series=["late"]) as recorder:
        for number, batch in enumerate(batches(3)):
            if number != 1:
                recorder.note(loss=torch.tensor(number + 0.5, requires_grad=True), norm=number)
            if number == 2:
                recorder.note(late=7)
                with pytest.raises(gradlog.UsageError, match=r"'later' is new.*series=\['later'\]"):
                    recorder.note(later=1.0)
                with pytest.raises(gradlog.UsageError, match="takes a number a row"):
                    recorder.note(loss=torch.zeros(2))
                with pytest.raises(gradlog.UsageError, match="'missing' is counted"):
                    recorder.note(missing=1)
            plain(model, optimizer, batch)
            schedule.step()
    path = tmp_path / "run.zarr"
    np.testing.assert_array_equal(series_of(path, "loss"), [0.5, math.nan, 2.5])
    np.testing.assert_array_equal(series_of(path, "norm"), [0, math.nan, 2])
    np.testing.assert_array_equal(series_of(path, "late"), [math.nan, math.nan, 7])
    assert series_of(path, "lr") == [1, 0.5, 0.25]
    recorder.note(anything=1)  # closed: nothing happens


def test_notes_behind_the_step(tmp_path: Path) -> None:
    import torch

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with gradlog.record(tmp_path / "run.zarr", model, optimizer, series=["loss"]) as recorder:
        recorder.wait_for_notes()
        for number, batch in enumerate(batches(4)):
            plain(model, optimizer, batch)
            if number != 2:
                recorder.note(loss=number)
                recorder.hand_over()
    np.testing.assert_array_equal(series_of(tmp_path / "run.zarr", "loss"), [0, 1, math.nan, 3])


def test_attributes_say_what_was_trained(tmp_path: Path) -> None:
    import torch

    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters())
    gradlog.record(tmp_path / "run.zarr", model, optimizer, attributes={"batch_size": 16}, every=2).close()
    told = dict(__import__("zarr").open_group(tmp_path / "run.zarr", mode="r").attrs)
    assert told == {
        "model": "Sequential", "optimizer": "AdamW", "every": 2, "dtype": "float32",
        "torch": torch.__version__, "batch_size": 16, "gradlog": {"version": 1},
    }  # fmt: skip


def test_patterns_frozen_and_tied(tmp_path: Path) -> None:
    import torch

    model = torch.nn.ModuleDict(
        {"a": torch.nn.Linear(3, 3), "b": torch.nn.Linear(3, 3), "c": torch.nn.Linear(3, 3)}
    )
    model["b"].weight = model["a"].weight
    model["c"].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    path = tmp_path / "run.zarr"
    with gradlog.record(path, model, optimizer, exclude=["b.*"]):
        model["c"](model["b"](model["a"](torch.ones(3)))).sum().backward()
        optimizer.step()
    assert recorded(path)[0].keys() == {"a.weight", "a.bias", "c.bias"}
    with gradlog.record(tmp_path / "b.zarr", model.named_parameters(), optimizer, include=["*.bias"]):
        optimizer.step()
    assert recorded(tmp_path / "b.zarr")[0].keys() == {"a.bias", "b.bias", "c.bias"}
    with pytest.raises(gradlog.UsageError, match=r"no parameter matches 'd\.\*'"):
        gradlog.record(tmp_path / "c.zarr", model, optimizer, exclude=["d.*"])


def experts() -> tuple[Any, Any]:
    """A model of which a batch uses one part or the other, and its optimizer."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"left": torch.nn.Linear(3, 1), "right": torch.nn.Linear(3, 1)})
    return model, torch.optim.SGD(model.parameters(), lr=LR)


def use(model: Any, optimizer: Any, part: str, value: float) -> None:
    import torch

    optimizer.zero_grad()
    if part:
        model[part](torch.full((3,), value)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("slots", [1, 2])
def test_gradients_that_are_none(slots: int, tmp_path: Path) -> None:
    rows = [("left", 1.0), ("left", 2.0), ("right", 3.0), ("", 0.0), ("left", 4.0)]
    zero, hold = tmp_path / "zero.zarr", tmp_path / "hold.zarr"
    for path, missing in ((zero, "zero"), (hold, "hold")):
        model, optimizer = experts()
        with gradlog.record(path, model, optimizer, missing=missing, slots=slots):
            for part, value in rows:
                use(model, optimizer, part, value)
        assert series_of(path, "missing") == [2, 2, 2, 4, 2]

    def column(path: Path, name: str) -> list[float]:
        return [float(row[f"{name}.weight"][0, 0]) for row in recorded(path)]

    assert column(zero, "left") == [1, 2, 0, 0, 4]
    assert column(zero, "right") == [0, 0, 3, 0, 0]
    assert column(hold, "left") == [1, 2, 2, 2, 4]
    assert column(hold, "right") == [0, 0, 3, 3, 3]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("flush_every", [1, 16])
def test_a_gradient_is_held_over_a_resume(flush_every: int, dtype: str, tmp_path: Path) -> None:
    """That of the last row, until there is another; rows that are cut are forgotten."""
    import torch

    parts = [
        ([("left", 1.0), ("right", 3.0), ("left", 7.0)], {}),
        ([("", 0.0), ("right", 5.0), ("", 0.0), ("left", 4.0), ("", 0.0)], {"after_step": 1}),
    ]
    path = tmp_path / "run.zarr"
    for rows, options in parts:
        model, optimizer = experts()
        with gradlog.record(
            path,
            model,
            optimizer,
            missing="hold",
            dtype=dtype,
            resume=True,
            flush_every=flush_every,
            **options,
        ):
            for part, value in rows:
                use(model, optimizer, part, value)
    for name, expected in (("left", [1, 1, 1, 1, 1, 4, 4]), ("right", [0, 3, 3, 5, 5, 5, 5])):
        found = torch.tensor(np.stack([row[f"{name}.weight"] for row in recorded(path)])[:, 0, 0])
        if dtype == "bfloat16":
            found = found.view(torch.bfloat16)
        assert found.tolist() == expected
    assert series_of(path, "missing") == [2, 2, 4, 2, 4, 2, 4]
    assert not any("absent_rows" in str(t.array.attrs.asdict()) for t in gradlog.open_log(path).tensors[:2])


def test_a_gradient_is_held_over_a_resume_of_sums(tmp_path: Path) -> None:
    """Of a projection the sums are."""
    import torch

    path = tmp_path / "run.zarr"
    for gradients in ([1.0, 2.0], [None, None, 3.0, None]):
        wide = torch.nn.Parameter(torch.zeros(3000))
        always = torch.nn.Parameter(torch.zeros(2))
        optimizer = torch.optim.SGD([wide, always], lr=LR)
        pairs = [("wide", wide), ("always", always)]
        with gradlog.record(path, pairs, optimizer, missing="hold", project=256, resume=True):
            for value in gradients:
                always.grad = torch.ones(2)
                wide.grad = None if value is None else torch.full((3000,), value)
                optimizer.step()
    sums = [row["wide"] for row in recorded(path)]
    for row, same in ((2, 1), (3, 1), (5, 4)):
        np.testing.assert_array_equal(sums[row], sums[same])
    assert not np.array_equal(sums[4], sums[3])


def test_a_gradient_that_is_none_is_an_error_where_asked(tmp_path: Path) -> None:
    model, optimizer = experts()
    with (
        pytest.raises(gradlog.UsageError, match=r"run\.zarr: training step 0: no gradient of right\.weight"),
        gradlog.record(tmp_path / "run.zarr", model, optimizer, missing="error"),
    ):
        use(model, optimizer, "left", 1.0)


def test_a_first_step_without_any_gradient(tmp_path: Path) -> None:
    model, optimizer = experts()
    with gradlog.record(tmp_path / "run.zarr", model, optimizer):
        use(model, optimizer, "", 0.0)
        use(model, optimizer, "left", 2.0)
    first, second = recorded(tmp_path / "run.zarr")
    assert all((values == 0).all() for values in first.values())
    assert (second["left.weight"] == 2).all()
    assert series_of(tmp_path / "run.zarr", "missing") == [4, 2]


@pytest.mark.parametrize("added", [False, True])
def test_parameters_that_are_trained_later(added: bool, tmp_path: Path) -> None:
    """Unfrozen in their optimizer, or given to it."""
    import torch

    model, _ = experts()
    model["right"].requires_grad_(False)
    optimizer = torch.optim.SGD((model["left"] if added else model).parameters(), lr=LR)
    with gradlog.record(tmp_path / "run.zarr", model, optimizer):
        for number in range(4):
            if number == 2:
                model["right"].requires_grad_(True)
                if added:
                    optimizer.add_param_group({"params": list(model["right"].parameters())})
            optimizer.zero_grad()
            total = sum(model[part](torch.full((3,), number + 1.0)).sum() for part in model)
            total.backward()
            optimizer.step()
    rows = recorded(tmp_path / "run.zarr")
    assert [float(row["right.weight"][0, 0]) for row in rows] == [0, 0, 3, 4]
    assert [float(row["left.weight"][0, 0]) for row in rows] == [1, 2, 3, 4]
    assert series_of(tmp_path / "run.zarr", "missing") == [0, 0, 0, 0]


def test_sparse_gradients(tmp_path: Path) -> None:
    import torch

    model = torch.nn.Embedding(5, 2, sparse=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with gradlog.record(tmp_path / "run.zarr", model, optimizer):
        model(torch.tensor([1, 3, 3])).sum().backward()
        optimizer.step()
    np.testing.assert_array_equal(
        recorded(tmp_path / "run.zarr")[0]["weight"], [[0, 0], [1, 1], [0, 0], [2, 2], [0, 0]]
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rows_that_are_not_finite(dtype: str, tmp_path: Path) -> None:
    import torch

    for nonfinite in ("keep", "skip"):
        model = small_model(dtype=torch.float32)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        path = tmp_path / f"{nonfinite}.zarr"
        with gradlog.record(path, model, optimizer, dtype=dtype, nonfinite=nonfinite) as recorder:
            for number, batch in enumerate(batches(6, torch.float32)):
                optimizer.zero_grad()
                loss_of(model, batch).backward()
                if number in (1, 2, 4):
                    model[2].bias.grad[1] = (math.nan, math.inf, -math.inf)[number % 3]
                optimizer.step()
                torch.nn.init.zeros_(model[2].bias)
        assert recorder.rows == (6 if nonfinite == "keep" else 3)
    assert steps_of(tmp_path / "keep.zarr") == [0, 1, 2, 3, 4, 5]
    assert steps_of(tmp_path / "skip.zarr") == [0, 3, 5]
    assert series_of(tmp_path / "skip.zarr", "skipped") == [0, 2, 1]
    assert recorder.skipped == 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_rows(dtype: str, tmp_path: Path) -> None:
    import torch

    model = small_model(dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with gradlog.record(tmp_path / "run.zarr", model, optimizer, dtype=getattr(torch, dtype)):
        for batch in batches(2, torch.float32):
            plain(model, optimizer, batch)
            expected = model[0].weight.grad.to(getattr(torch, dtype)).view(torch.int16).numpy()
    np.testing.assert_array_equal(recorded(tmp_path / "run.zarr")[1]["0.weight"].view(np.int16), expected)


@pytest.mark.parametrize("when", ["held", "gone"])
def test_resuming(when: str, tmp_path: Path) -> None:
    """From a checkpoint behind step 3, which is before the last row, or behind a kill that lost rows."""
    import torch

    path = tmp_path / "run.zarr"
    options = {"resume": True, "attributes": {"part": 1}}
    for part, (first, last, cut) in enumerate(((0, 6, None), (4, 9, 3))):
        model = small_model(part)
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        after = cut if when == "held" else None
        if part and when == "gone":
            after = 7
        with gradlog.record(path, model, optimizer, after_step=after, **options) as recorder:
            assert recorder.step == (first if when == "held" else (0, 8)[part])
            used = train(model, optimizer, plain, last - first)
    expected = [0, 1, 2, 3, *range(4, 9)] if when == "held" else [0, 1, 2, 3, 4, 5, *range(8, 13)]
    assert steps_of(path) == expected
    assert recorder.rows == len(expected)
    for row, gradients in zip(recorded(path)[-5:], used, strict=True):
        np.testing.assert_allclose(row["0.weight"], gradients["0.weight"], rtol=1e-6, atol=1e-9)


def test_resuming_behind_the_last_row(tmp_path: Path) -> None:
    import torch

    for _ in range(2):
        model = small_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        with gradlog.record(tmp_path / "run.zarr", model, optimizer, resume=True, start_step=10) as recorder:
            recorder.note(loss=1.0)
            train(model, optimizer, plain, 3)
            recorder.flush()
            assert gradlog.open_log(tmp_path / "run.zarr").rows == recorder.rows
    assert steps_of(tmp_path / "run.zarr") == [10, 11, 12, 13, 14, 15]
    recorder = gradlog.record(tmp_path / "run.zarr", model, optimizer, resume=True)
    with recorder, pytest.raises(gradlog.UsageError, match="'norm' is new"):
        recorder.note(norm=1.0)


def test_resuming_something_else_is_refused(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "run.zarr"
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with gradlog.record(path, model, optimizer):
        train(model, optimizer, plain, 2)
    other = torch.nn.Linear(6, 8)
    its = torch.optim.SGD(other.parameters(), lr=LR)
    for wrong, match in (
        (lambda: gradlog.record(path, other, its, resume=True), r"its rows hold 0\.bias, .*not recorded now"),
        (
            lambda: gradlog.record(path, model, optimizer, resume=True, dtype="float16"),
            r"'0\.bias' is float16\[8\] now, and float32\[8\]",
        ),
        (lambda: gradlog.record(path, model, optimizer, resume=True, series=["x"]), "no series x"),
        (lambda: gradlog.record(path, model, optimizer, resume=True, when_full="drop"), "no series dropped"),
    ):
        with pytest.raises(gradlog.UsageError, match=match) as error:
            wrong()
        assert str(error.value).startswith(f"{path}: ")
    with contextlib.closing(gradlog.record(path, model, optimizer, resume=True)) as recorder:
        assert recorder.rows == 2
