"""Logs of updates: every word that is printed of them says so, and what speaks of gradients is left out."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from ar1 import ar1
from stores import add_array

import reference
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.guarantees.bounding import NO_GRADIENTS
from gradmf.gradlog.results.row_kind import OF_GRADIENTS, RowKind, row_kind
from gradmf.gradlog.runs.strides import stride_warnings

ROOT = Path(__file__).parent.parent
ROWS = 60
LEFT_OUT = ("rank", "hint", "momentum", "schedule", "slow", "coherence", "edge")
TRULY_OF_GRADIENTS = {
    NO_GRADIENTS,
    *(decision.text for q in gradlog.QUANTITIES.values() if (decision := q.of_updates) is not None),
}
"""What is told of theorems and optimizers that are about gradients."""
UPDATES: dict[str, Any] = {"kind": "updates", "every": 10}


def log(path: Path, declared: Mapping[str, Any], tensors: Mapping[str, Any], step: Any = None) -> Path:
    """A log of format 1 whose root says of its rows what `declared` does."""
    rows = len(next(iter(tensors.values())))
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs.update({"gradlog": {"version": 1, **declared}, "optimizer": "AdamW"})
    for name, values in tensors.items():
        add_array(group, f"grads/{name}", np.asarray(values))
    every = declared.get("every") or 1
    add_array(group, "step", (np.arange(1, rows + 1) * every if step is None else np.asarray(step)))
    add_array(group, "loss", np.linspace(2.0, 1.0, rows))
    add_array(group, "lr", np.full(rows, 0.01))
    return path


def moved(seed: int, rows: int = ROWS) -> dict[str, Any]:
    """What momentum makes of noise, and a tensor that stands still."""
    rng = np.random.default_rng(seed)
    values = 0.1 * ar1(rng, rows, 40 * 9 + 9, 0.9).astype("f4")
    return {
        "fc.weight": values[:, : 40 * 9].reshape(rows, 40, 9),
        "fc.bias": values[:, 40 * 9 :],
        "still": np.zeros((rows, 5), "f4"),
    }


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("logs")
    return SimpleNamespace(
        a=log(folder / "a.zarr", UPDATES, moved(0)),
        b=log(folder / "b.zarr", UPDATES, moved(1)),
        plain=log(folder / "plain.zarr", {}, moved(0)),
        zero=log(folder / "zero.zarr", UPDATES, {"w": np.zeros((30, 6), "f4")}),
        noise=log(folder / "noise.zarr", UPDATES, {"w": -ar1(np.random.default_rng(2), 40, 50, -0.5)}),
        constant=log(folder / "constant.zarr", UPDATES, {"w": np.ones((30, 4))}),
        row=log(folder / "row.zarr", UPDATES, {"w": np.ones((1, 4))}),
    )


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Any:
    def call(*words: str | Path) -> SimpleNamespace:
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return call


def commands(of: SimpleNamespace, first: str, folder: Path) -> dict[str, list[str | Path]]:
    a = getattr(of, first)
    part = folder / "part"
    return {
        "info": ["info", a],
        "analyze": ["analyze", a, "--subspace", "2"],
        "sketched": ["analyze", a, "--project", "64"],
        "bounds": ["bounds", a],
        "advise": ["advise", a],
        "compare": ["compare", a, of.b if first != "plain" else a, "--subspace", "2"],
        "merge": ["merge", part],
        "plan": ["analyze", a, "--plan", "--project", "64"],
    }


def values_in(node: Any) -> Iterator[str]:
    """Every text in a JSON document, without keys, and without the attributes of the log itself."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from values_in(value) if key != "attributes" else ()
    elif isinstance(node, list):
        for value in node:
            yield from values_in(value)
    elif isinstance(node, str):
        yield node


def printed(form: str, out: str) -> str:
    """What a format says beside its own names: keys of JSON, and the header of CSV."""
    if form in ("json", "jsonl"):
        documents = [json.loads(out)] if form == "json" else map(json.loads, out.splitlines())
        return "\n".join(values_in(list(documents)))
    if form == "csv":
        rows = csv.reader(io.StringIO(out))
        next(rows)
        return "\n".join(cell for row in rows for cell in row)
    return out


def of_gradients(text: str) -> list[str]:
    """Lines that speak of gradients where the definition does not."""
    for told in TRULY_OF_GRADIENTS:
        text = text.replace(told, "")
    # The name of what compare relates, of a value of CSV as of a rule.
    text = text.replace("overlap[gradients]", "")
    return [line for line in text.splitlines() if "gradient" in line.lower()]


NAMES = ("info", "analyze", "sketched", "bounds", "advise", "compare", "merge", "plan")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        (name, form)
        for name in NAMES
        for form in ("table", "markdown", "json", "jsonl", "csv")
        if (name, form) != ("plan", "csv")  # plans have no rows
    ],
)
def test_every_command_speaks_of_updates(
    logs: SimpleNamespace, tmp_path: Path, run: Any, name: str, form: str
) -> None:
    if name == "merge":
        assert run("analyze", logs.a, "--part", "1/1", "-o", tmp_path / "part", "-q").code == 0
    done = run(*commands(logs, "a", tmp_path)[name], "--format", form)
    assert done.code == 0, done.err
    assert of_gradients(printed(form, done.out)) == []
    assert of_gradients(done.err) == []
    if form == "table":
        assert "update" in done.out


@pytest.mark.parametrize("name", ["info", "analyze", "bounds", "compare", "plan"])
def test_the_same_walk_finds_gradients_in_a_log_of_gradients(
    logs: SimpleNamespace, tmp_path: Path, run: Any, name: str
) -> None:
    done = run(*commands(logs, "plain", tmp_path)[name])
    assert done.code == 0
    assert of_gradients(done.out)
    assert "update" not in done.out


@pytest.mark.parametrize("which", ["zero", "noise", "constant", "row"])
@pytest.mark.parametrize("command", ["analyze", "bounds", "advise", "compare"])
def test_words_for_odd_logs_speak_of_updates(
    logs: SimpleNamespace, run: Any, command: str, which: str
) -> None:
    path = getattr(logs, which)
    for form in ("table", "json", "csv"):
        others = [path] if command == "compare" else []
        rules = ["--fail-if", "kappa[best] > 9"] if command in ("analyze", "compare") else []
        done = run(command, path, *others, "--format", form, *rules)
        assert done.code in (0, 3)
        assert of_gradients(printed(form, done.out) + "\n" + done.err) == []


def test_zero_and_constant_updates_by_name(logs: SimpleNamespace, run: Any) -> None:
    assert "All updates are zero: there is nothing to predict." in run("analyze", logs.zero).out
    assert "The update never changes" in run("analyze", logs.constant).out
    assert "updates tend to turn back" in run("analyze", logs.noise).out
    assert "All updates of A and B are zero" in run("compare", logs.zero, logs.zero).out
    told = run("analyze", logs.zero, "--fail-if", "kappa[one-step] > 1")
    assert told.code == 3
    assert "all updates are zero" in told.err
    told = run("analyze", logs.constant, "--fail-if", "stable_rank > 1")
    assert "the updates never change" in told.err
    told = run("compare", logs.zero, logs.zero, "--fail-if", "kappa[best] worse")
    assert told.code == 3
    assert "all updates are zero" in told.err
    searched = gradlog.analyze(logs.zero, search=True).search
    assert searched is not None
    assert searched.total.why == "all updates are zero"


@pytest.mark.parametrize("kind", ["gradients", None])
def test_a_log_that_says_gradients_is_one(tmp_path: Path, kind: str | None) -> None:
    path = log(tmp_path / "g.zarr", {"kind": kind} if kind else {}, moved(0))
    assert gradlog.open_log(path).kind == OF_GRADIENTS
    assert gradlog.analyze(path).run.kind == RowKind("gradients", None)


@pytest.mark.parametrize("kind", ["weights", "update", "Updates", None, 3, ["updates"], {}])
def test_other_kinds_are_refused_by_name(tmp_path: Path, run: Any, kind: Any) -> None:
    path = log(tmp_path / "x.zarr", {"kind": kind}, moved(0))
    for command in ("info", "analyze", "bounds", "advise"):
        done = run(command, path)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"gradmf: error: {path}: a log of {str(kind)!r}: this gradmf knows ")
        assert done.err.count("\n") == 1


@pytest.mark.parametrize("every", [0, -1, True, 2.5, "10", [1]])
def test_spans_that_are_no_number_of_steps_are_refused(tmp_path: Path, every: Any) -> None:
    path = log(tmp_path / "x.zarr", {"kind": "updates", "every": every}, moved(0), step=range(ROWS))
    with pytest.raises(
        gradlog.DataError, match=rf"x\.zarr: updates of every '{re.escape(str(every))}' training"
    ):
        gradlog.open_log(path)


def test_a_result_of_another_kind_is_refused(logs: SimpleNamespace) -> None:
    document = gradlog.analysis_document(gradlog.analyze(logs.a))
    (found,) = gradlog.read_analyses(json.dumps(document), "r.json")
    assert found.run.kind == RowKind("updates", 10)
    document["run"]["attributes"]["gradlog"]["kind"] = "weights"
    with pytest.raises(gradlog.DataError, match=r"^r\.json: .*a log of 'weights'"):
        gradlog.read_analyses(json.dumps(document), "r.json")
    del document["run"]["attributes"]["gradlog"]["kind"]
    assert gradlog.read_analyses(json.dumps(document), "r.json")[0].run.kind == OF_GRADIENTS


def test_updates_are_not_compared_with_gradients(logs: SimpleNamespace, tmp_path: Path, run: Any) -> None:
    results = {}
    for name in ("a", "plain"):
        results[name] = tmp_path / f"{name}.json"
        assert run("analyze", getattr(logs, name), "--format", "json", "-o", results[name], "-q").code == 0
    wrong = f"{logs.plain}: a log of gradients, and {logs.a} one of updates: compare logs of the same kind"
    for words in ((logs.a, logs.plain), (results["a"], results["plain"]), (logs.a, results["plain"])):
        done = run("compare", *words)
        assert (done.code, done.out) == (2, "")
        assert wrong in done.err
    done = run("compare", logs.a, logs.plain, "--subspace", "2")
    assert (done.code, done.out) == (2, "")
    assert wrong in done.err
    done = run("compare", results["a"], logs.a, "--subspace", "2")
    assert "--subspace reads updates: give the store of" in done.err


def test_that_is_told_before_a_row_is_read(logs: SimpleNamespace, tmp_path: Path, run: Any) -> None:
    damaged = moved(3)
    damaged["fc.weight"][7] = np.nan
    path = log(tmp_path / "nan.zarr", {}, damaged)
    assert "NaN" in run("analyze", path).err
    assert "compare logs of the same kind" in run("compare", logs.a, path).err


def test_spans_that_differ_are_told(logs: SimpleNamespace, tmp_path: Path) -> None:
    other = log(tmp_path / "20.zarr", {"kind": "updates", "every": 20}, moved(1))
    uneven = log(tmp_path / "none.zarr", {"kind": "updates", "every": None}, moved(1))
    first, second, third = (gradlog.analyze(path) for path in (logs.a, other, uneven))
    (warning,) = gradlog.compare(first, second).warnings
    assert warning.code == "updates-differ"
    assert f"10 in {logs.a} and 20 in {other}" in warning.message
    (warning,) = gradlog.compare(first, third).warnings
    assert "differently many in" in warning.message
    assert gradlog.compare(first, gradlog.analyze(logs.b)).warnings == ()


def test_bounds_leave_out_what_speaks_of_gradients(logs: SimpleNamespace, run: Any) -> None:
    bounds = gradlog.bounds(gradlog.analyze(logs.a, search=True))
    u = np.concatenate([values.reshape(ROWS, -1) for values in moved(0).values()], axis=1).astype(float)
    steps = np.linalg.norm(np.diff(u, axis=0), axis=1)
    measured = {
        "variation[gradual]": (steps**2).sum(), "variation[maximal]": steps.max(),
        "variation[path]": steps.sum(),
    }  # fmt: skip
    for row in bounds.rows:
        if row.name in measured:
            assert row.value == pytest.approx(measured[row.name], rel=1e-6)
            assert row.assumptions == ("g_t are the logged updates: it speaks of that sequence",)
            assert row.why == ""
        else:
            assert (row.value, row.worst, row.ratio, row.why) == (None, None, None, NO_GRADIENTS)
            assert (row.hint, row.vacuous, row.in_expectation, row.assumptions) == ("", False, False, ())
    assert len(bounds.rows) > len(measured)
    assert dict(bounds.anytime.bounds) == {}
    assert bounds.anytime.guarantees.keys() == measured.keys()
    # An AR(.9) is foretold beyond noise, which holds for rows of any kind; when it pays, does not.
    assert bounds.anytime.predicts is True
    assert bounds.anytime.pays_from is None
    out = run("bounds", logs.a).out
    assert out.count("a theorem about gradients") == 1
    assert "radius" not in out
    assert not re.search(r"^regret, |^stationarity", out.partition("regret (")[0], re.MULTILINE)
    curves = list(csv.DictReader(io.StringIO(run("bounds", logs.a, "--format", "csv", "--curves").out)))
    assert {row["name"] for row in curves if row["curve"] == "anytime"} == measured.keys()


def told(advice: gradlog.Advice, quantity: str, scope: str | None = None) -> gradlog.Decision:
    (found,) = (d for d in advice.decisions if (d.quantity, d.scope) == (quantity, scope))
    return found


def test_advice_leaves_out_what_speaks_of_gradients(logs: SimpleNamespace) -> None:
    advice = gradlog.advise(logs.a)
    for name in LEFT_OUT:
        (decision,) = (d for d in advice.decisions if d.quantity == name)
        assert decision == gradlog.QUANTITIES[name].of_updates
        assert (decision.quantity, decision.scope, decision.verdict) == (name, None, "unknown")
        assert "updates" in decision.text
    assert (advice.schedule, advice.samples) == (None, 0)
    kept = {name for name, q in gradlog.QUANTITIES.items() if q.of_updates is None}
    assert kept == set(gradlog.QUANTITIES) - set(LEFT_OUT)
    finished = gradlog.advise(gradlog.analyze(logs.a, tensor_steps=True))
    assert {d.quantity for d in finished.decisions if d in TEXTS} == set(LEFT_OUT)
    plain = gradlog.advise(logs.plain)
    assert not [d for d in plain.decisions if d in TEXTS]
    assert told(advice, "dead", "still").text == "unmoved: zero at every step"
    assert told(plain, "dead", "still").text == "dead: zero at every step"


TEXTS = [q.of_updates for q in gradlog.QUANTITIES.values() if q.of_updates is not None]


def test_no_schedule_is_written(logs: SimpleNamespace, tmp_path: Path, run: Any) -> None:
    done = run("advise", logs.a, "--only", "schedule", "--schedule", tmp_path / "next.csv")
    assert done.code == 1
    assert "norms of updates have the learning rate in them" in done.err
    assert not (tmp_path / "next.csv").exists()


@pytest.mark.parametrize("declared", [UPDATES, {}], ids=["updates", "gradients"])
def test_what_holds_for_updates_is_told_of_them(tmp_path: Path, declared: Mapping[str, Any]) -> None:
    """A spike, a level that stays, and a tensor that has converged under an optimizer that rescales."""
    rng = np.random.default_rng(5)
    of_updates = bool(declared)
    w = rng.standard_normal((200, 60))
    spiked, grown, quiet = w.copy(), rng.standard_normal((200, 60)), rng.standard_normal((200, 60))
    spiked[120] *= 60
    grown[100:] *= 30
    quiet[90:] *= 1e-3
    paths = {
        name: log(tmp_path / f"{name}.zarr", declared, {"w": values, "beside": w[:, :7]})
        for name, values in {"spikes": spiked, "growth": grown, "frozen": quiet}.items()
    }
    every = declared.get("every", 1)
    for name, start in (("spikes", f"spike at step {121 * every}"), ("growth", "level x")):
        decision = told(gradlog.advise(paths[name], only=[name]), name, "w")
        assert decision.text.startswith(start)
        assert decision.verdict == ("note" if of_updates else "change")
        assert ("clip" in decision.text) is not of_updates
        assert any(figure.name == "clip" for figure in decision.figures) is not of_updates
    decision = told(gradlog.advise(paths["frozen"], only=["frozen"]), "frozen", "w")
    if of_updates:
        assert decision.text == f"freeze from step {92 * every} on"  # behind the last change
    else:
        assert decision.text == "AdamW rescales gradients: their size says nothing of updates"


def test_a_sketch_keeps_what_its_log_says_of_rows(tmp_path: Path, run: Any) -> None:
    declared = {**UPDATES, "rounding": {"total": 0.25, "tensors": {"w": 0.25}}}
    path = log(tmp_path / "u.zarr", declared, moved(0))
    done = run("sketch", path, tmp_path / "s.zarr", "--dim", "64")
    assert done.code == 0
    assert of_gradients(done.out) == []
    assert " of updates to " in done.out
    sketch = gradlog.open_log(tmp_path / "s.zarr")
    assert sketch.kind == RowKind("updates", 10)
    assert sketch.attributes["gradlog"]["rounding"] == declared["rounding"]
    assert {"updates-rounded", "updates-summed"} <= {w.code for w in gradlog.analyze(sketch).warnings}
    for words in (("bounds", tmp_path / "s.zarr"), ("advise", tmp_path / "s.zarr")):
        done = run(*words, "--format", "csv")
        assert done.code == 0
        assert of_gradients(printed("csv", done.out) + done.err) == []
    wrong = run("analyze", tmp_path / "s.zarr", "--subspace", "2")
    assert "--subspace takes logs of updates" in wrong.err
    estimated = run("analyze", tmp_path / "s.zarr", "--fail-if", "kappa[one-step] < 0.2")
    assert "the log of updates itself" in estimated.err or estimated.code == 0


def test_errors_of_such_logs_speak_of_updates(tmp_path: Path, run: Any) -> None:
    huge = log(tmp_path / "huge.zarr", UPDATES, {"w": np.full((4, 3), 1e200)})
    assert "squared updates overflow float64; scale the updates down" in run("analyze", huge).err
    tiny = log(tmp_path / "tiny.zarr", UPDATES, {"w": np.full((4, 3), 1e-200)})
    assert "squared updates vanish in float64; scale the updates up" in run("analyze", tiny).err
    empty = log(tmp_path / "empty.zarr", UPDATES, moved(0))
    group = zarr.open_group(empty)
    for name in list(group["grads"].array_keys()):  # type: ignore[union-attr]
        del group[f"grads/{name}"]
    assert "no update arrays" in run("analyze", empty).err
    other = log(tmp_path / "int.zarr", UPDATES, {"w": np.ones((4, 3), "i4")})
    assert "updates are float16, float32, float64" in run("analyze", other).err
    unused = run("analyze", log(tmp_path / "u.zarr", UPDATES, moved(0)), "--gradients", "grads/*")
    assert "the log says itself which arrays are updates" in unused.err
    first, second = (
        log(tmp_path / f"{at}.zarr", UPDATES, moved(0), step=range(at, at + ROWS)) for at in (0, 100)
    )
    assert "--subspace relates updates of equal steps" in run("compare", first, second, "--subspace", "2").err


def kappa_of_sums(phi: float, every: int) -> float:
    """2 (1 - r) of sums of `every` values of an AR(1), from all covariances."""
    lags = np.arange(2 * every)
    covariance = phi ** np.abs(lags[:, None] - lags).astype(float)
    own, between = covariance[:every, :every].sum(), covariance[:every, every:].sum()
    return float(2 * (1 - between / own))


@pytest.mark.parametrize(("every", "told"), [(1, 0.10), (5, 0.31), (25, 1.07)])
def test_sums_have_the_kappa_that_the_warning_says(every: int, told: float) -> None:
    """Beside the first row, that nothing predicts."""
    steps = ar1(np.random.default_rng(1), 300 * every, 400, 0.95)
    found = reference.path_length(steps.reshape(300, every, 400).sum(axis=1), "one-step").kappa
    assert found == pytest.approx((1 + 299 * kappa_of_sums(0.95, every)) / 300, rel=0.03)
    assert kappa_of_sums(0.95, every) == pytest.approx(told, abs=0.005)


@pytest.mark.parametrize(
    ("every", "step", "code", "words"),
    [
        (1, range(1, 40), None, ""),
        (None, range(1, 40), None, ""),
        (None, [*range(1, 40), 60], None, ""),
        (10, range(10, 400, 10), "updates-summed", "each update is the sum of 10 training steps: "),
        (10, [10], "updates-summed", "the sum of 10 training steps: "),
        (None, range(0, 400, 10), "updates-summed", "the sum of 10 training steps: "),
        (None, [0, 5, 15, 20, 30, 40, 55], "updates-summed", "the sum of up to 10 training steps: "),
        (1, range(0, 400, 10), "steps-strided", "rows are 10 training steps apart, and an update spans 1: "),
        (5, range(0, 400, 10), "steps-strided", "rows are 10 training steps apart, and an update spans 5: "),
    ],
)
def test_what_is_told_of_strides(every: int | None, step: Any, code: str | None, words: str) -> None:
    warnings = stride_warnings(np.array(step), RowKind("updates", every))
    assert [warning.code for warning in warnings] == ([code] if code else [])
    assert all(words in warning.message for warning in warnings)


def test_bounds_of_an_earlier_result_tell_once(logs: SimpleNamespace) -> None:
    analysis = gradlog.analyze(logs.a)
    assert [w.code for w in gradlog.bounds(analysis).warnings] == ["updates-summed"]
    bare = dataclasses.replace(analysis, warnings=())
    assert [w.code for w in gradlog.bounds(bare).warnings] == ["updates-summed"]


def test_kinds_by_their_attributes() -> None:
    assert row_kind({}) == row_kind({"gradlog": "1"}) == row_kind({"gradlog": {"version": 1}}) == OF_GRADIENTS
    found = row_kind({"gradlog": {"kind": "updates"}})
    assert (found.name, found.noun, found.every, found.of_updates) == ("updates", "update", None, True)
    assert found.say("{gradients}: a {gradient} of {other}") == "updates: a update of {other}"


def table(heading: str) -> dict[str, list[str]]:
    """Rows of the table of docs/updates.md whose header begins so, by their first cell."""
    lines = (ROOT / "docs" / "updates.md").read_text().partition(f"| {heading} |")[2].splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in lines[: lines.index("")]]
    return {row[0]: row[1:] for row in rows}


def test_the_documented_kappas_of_momentum() -> None:
    for decay, kappas in table("B").items():
        for every, shown in zip((1, 2, 5, 10, 20, 50, 100, 1000), kappas, strict=True):
            assert shown == f"{kappa_of_sums(float(decay), every):.3g}"


def test_the_documented_ranks_of_momentum() -> None:
    """From the covariance of 200 sums, which is what their inner products are in many dimensions."""
    for name, ranks in table("updates of noise").items():
        phi = float(name.rpartition(" ")[2]) if "=" in name else 0.0
        for every, shown in zip((1, 10), ranks, strict=True):
            apart = np.arange(200 * every)
            steps = phi ** np.abs(apart[:, None] - apart).astype(float) if phi else np.eye(apart.size)
            sums = steps.reshape(200, every, 200, every).sum(axis=(1, 3))
            squares = np.linalg.eigvalsh(np.diff(np.diff(sums, axis=0), axis=1))[::-1]
            held = np.cumsum(squares) / squares.sum()
            assert int(shown) == int(np.searchsorted(held, 0.95)) + 1
