"""Gates of compare: changes against the baseline, verdicts, and the run by itself."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from conftest import write_store
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog import Comparison, Rule, Settings, comparison_vocabulary, judge_comparison, parse_rule
from gradmf.gradlog.comparisons.comparison_gates import JUDGED
from gradmf.gradlog.reports.changes import sided_text
from gradmf.gradlog.results.quantities import BETTER, HIGHER, LOWER, WORSE

KNOWN = comparison_vocabulary([Settings(), Settings()])
OF_SPECTRA = ("rank", "effective_rank", "stable_rank")
TRUE_OF = {
    WORSE: {"worse", "higher", "changed"}, BETTER: {"better", "lower", "changed"},
    HIGHER: {"higher", "changed"}, LOWER: {"lower", "changed"}, "~": set(),
}  # fmt: skip


def write(path: Path, seed: int, memory: float) -> Path:
    """A log of gradients that go on from the last one by `memory`; one tensor is frozen."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((500, 24))
    for t in range(1, 500):
        noise[t] += memory * noise[t - 1]
    values = {"a.weight": noise[:, :16], "b.weight": noise[:, 16:], "frozen": np.zeros((500, 2))}
    return write_store(path, {name: array.astype(np.float32) for name, array in values.items()})


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """A log of noise, one of other noise, and one that is more predictable."""
    folder = tmp_path_factory.mktemp("logs")
    logs = [("noise", 1, 0.0), ("other", 2, 0.0), ("smooth", 3, 0.9)]
    first, second, third = (str(write(folder / f"{name}.zarr", seed, m)) for name, seed, m in logs)
    return first, second, third


@pytest.fixture(scope="module")
def comparison(logs: tuple[str, str, str]) -> Comparison:
    noise, _, smooth = (gradlog.analyze(log, tensor_steps=True) for log in logs)
    return gradlog.compare(noise, smooth)


def judged(comparison: Comparison, text: str) -> tuple[gradlog.Violation, ...]:
    return judge_comparison(comparison, [parse_rule(text, KNOWN)])


def test_every_word_is_true_of_the_verdicts_that_it_names(comparison: Comparison) -> None:
    seen = set()
    for change in comparison.total.changes:
        quantity, _, argument = change.quantity.rstrip("]").partition("[")
        if quantity in OF_SPECTRA:  # fewer parameters than rows: nothing tells how far off they could be
            assert change.verdict == ("~" if change.absolute == 0 else None)
            continue
        for word in ("worse", "better", "higher", "lower", "changed"):
            assert change.verdict is not None
            found = judge_comparison(comparison, [Rule(quantity, argument, word)])
            assert bool(found) == (word in TRUE_OF[change.verdict]), change
            seen.add((quantity, bool(found)))
            for violation in found:
                [breach] = violation.breaches
                assert breach.certain
                assert (breach.before, breach.after) == (change.baseline, change.value)
    assert {quantity for quantity, _ in seen} == set(JUDGED) - set(OF_SPECTRA)
    assert {("kappa", True), ("kappa", False)} <= seen


def test_changes_are_held_to_limits(comparison: Comparison) -> None:
    for subject in ("kappa[one-step]", "path_length[ema:0.9]", "effective_rank", "grad_norm", "kappa[best]"):
        change = comparison.total.change(subject)
        assert change is not None
        assert change.absolute is not None
        assert change.relative is not None
        for value, unit in ((change.absolute, ""), (100 * change.relative, "%")):
            below, above = value - 0.01 * abs(value), value + 0.01 * abs(value)
            for text, violated in [
                (f"> {below:+.17g}{unit}", True), (f"> {above:+.17g}{unit}", False),
                (f"<= {above:+.17g}{unit}", True), (f"< {below:+.17g}{unit}", False),
            ]:  # fmt: skip
                found = judged(comparison, f"{subject} {text}")
                assert bool(found) == violated, (subject, text)
                for violation in found:
                    reading = violation.breaches[0].reading
                    assert reading.value == pytest.approx(value, rel=1e-12)
                    assert reading.lower == reading.upper == reading.value


def test_plain_limits_are_about_the_run(comparison: Comparison) -> None:
    kappa = comparison.total.change("kappa[one-step]")
    assert kappa is not None
    assert kappa.baseline is not None
    assert kappa.value is not None
    assert kappa.value < 1 < kappa.baseline
    assert judged(comparison, "kappa[one-step] < 1")
    assert not judged(comparison, "kappa[one-step] > 1")


def test_a_run_against_itself_violates_nothing(logs: tuple[str, str, str]) -> None:
    analysis = gradlog.analyze(logs[0], tensor_steps=True)
    same = gradlog.compare(analysis, analysis)
    for subject in ("kappa[linear]", "kappa[best]", "rank[0.1]", "effective_rank", "path_length[one-step]"):
        for where in ("", " in *.weight"):
            words = [] if "rank" in subject else ["changed"]
            for condition in (*words, "!= +0", "> +0%", "< -0"):
                assert not judged(same, f"{subject} {condition}{where}")


def test_tensors_are_judged_one_by_one(comparison: Comparison) -> None:
    [violation] = judged(comparison, "kappa[one-step] better in *")
    named = {breach.tensor: breach.certain for breach in violation.breaches}
    assert named == {"a.weight": True, "b.weight": True, "frozen": False}
    assert violation.breaches[-1].tensor == "frozen"
    [nowhere] = judged(comparison, "kappa[one-step] better in c.*")
    assert nowhere.breaches == ()
    assert nowhere.unmatched == ("a.weight", "b.weight", "frozen")


def test_what_cannot_be_judged_is_not_passed(comparison: Comparison) -> None:
    bare = gradlog.analysis_document(comparison.baseline, steps=False)
    [baseline] = gradlog.read_analyses(json.dumps(bare), "bare")
    without = gradlog.compare(baseline, comparison.run)
    [violation] = judged(without, "kappa[one-step] worse")
    [breach] = violation.breaches
    assert not breach.certain
    assert "holds no per-step sums" in breach.reading.doubt
    assert not judged(without, "kappa[one-step] > +5%")


def test_bounds_that_overlap_do_not_say_that_nothing_changed(comparison: Comparison) -> None:
    def loosened(analysis: gradlog.Analysis) -> gradlog.Analysis:
        spectrum = analysis.total.spectrum
        assert spectrum is not None
        ranks = tuple(dataclasses.replace(r, lower=1, upper=r.rank + 30) for r in spectrum.rank)
        loose = dataclasses.replace(spectrum, method="incremental", rank=ranks)
        return dataclasses.replace(analysis, total=dataclasses.replace(analysis.total, spectrum=loose))

    loose = gradlog.compare(loosened(comparison.baseline), loosened(comparison.run))
    for text in ("rank[0.1] > +0", "effective_rank > +0"):
        [violation] = judged(loose, text)
        assert not violation.breaches[0].certain
        assert violation.breaches[0].reading.doubt
    assert not judged(loose, "rank[0.1] > +60")


def test_tensors_that_one_run_lacks_are_not_passed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A rule on changes of tensors that speaks of one without a counterpart cannot be decided."""
    rng = np.random.default_rng(3)
    shared = {"a": rng.standard_normal((40, 3)).astype(np.float32)}
    old = write_store(tmp_path / "old.zarr", {**shared, "b.old": shared["a"]})
    new = write_store(tmp_path / "new.zarr", {**shared, "b.new": shared["a"]})
    assert main(["compare", str(old), str(new), "-q", "--fail-if", "kappa[linear] > +5% in b.*"]) == 3
    told = capfd.readouterr().err.rstrip()
    assert told.endswith(
        f"cannot be decided: b.old has no value, b.new has no value; only {old} has it: leave it out with "
        "--exclude"
    )
    assert main(["compare", str(old), str(new), "-q", "--fail-if", "kappa[linear] changed in *"]) == 3
    assert main(["compare", str(old), str(new), "-q", "--fail-if", "kappa[linear] changed in a"]) == 0
    rule = ["--exclude", "b.*", "--fail-if", "kappa[linear] changed in *"]
    assert main(["compare", str(old), str(new), "-q", *rule]) == 0
    capfd.readouterr()


def test_the_best_kappa_of_a_sketch_is_an_estimate(comparison: Comparison) -> None:
    """As any other kappa: a change within its standard error decides nothing."""

    def sketched(analysis: gradlog.Analysis) -> gradlog.Analysis:
        predictors = tuple(
            dataclasses.replace(
                p, path_length_error=1.0, kappa_error=0.1, scaled_kappa_error=0.1, scale_error=0.1
            )
            for p in analysis.total.predictors
        )
        total = dataclasses.replace(analysis.total, predictors=predictors, energy_error=1.0)
        return dataclasses.replace(analysis, total=total)

    found = gradlog.compare(sketched(comparison.baseline), sketched(comparison.run))
    for subject in ("kappa[best]", f"kappa[{found.total.best[1]}]"):
        change = found.total.change(subject)
        assert change is not None
        assert change.absolute is not None
        [violation] = judged(found, f"{subject} > {change.absolute + 0.1:+}")
        [breach] = violation.breaches
        assert not breach.certain
        assert "a sketch estimates it" in breach.reading.doubt
        assert not judged(comparison, f"{subject} > {change.absolute + 0.1:+}")


def test_rules_speak_of_what_all_runs_have() -> None:
    known = comparison_vocabulary(
        [Settings(), Settings(predictors=("ema:0.90", "linear"), epsilons=(0.05,), rank="none")]
    )
    assert tuple(known.predictors) == ("zero", "ema:0.9", "linear")
    assert tuple(known.epsilons) == (0.05,)
    assert (known.spectrum, known.baseline) == (False, True)


def test_on_the_command_line(capfd: pytest.CaptureFixture[str], logs: tuple[str, str, str]) -> None:
    rules = ["kappa[one-step] better", "kappa[one-step] < -10%", "kappa[one-step] > 3"]
    given = [word for rule in rules for word in ("--fail-if", rule)]
    assert main(["compare", *logs, "-q", *given]) == 3
    out, err = capfd.readouterr()
    assert "noise.zarr" in out
    told = err.splitlines()
    assert len(told) == 2
    for line, rule in zip(told, rules[:2], strict=True):
        assert line.startswith(f"gradmf: violated: {logs[2]}: {rule}: kappa[one-step] -")
        assert " from 1.9" in line or " from 2.0" in line
    assert main(["compare", logs[0], logs[2], "-q", "--fail-if", "kappa[one-step] worse"]) == 0
    capfd.readouterr()


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("better", "kappa[linear] {change} ({interval}) from {before} to {after}"),
        ("< -10%", "kappa[linear] {change} from {before} to {after}"),
        ("< -0", "kappa[linear] {absolute:+.4g} from {before} to {after}"),
    ],
)
def test_a_violation_says_a_change_as_the_table_does(
    capfd: pytest.CaptureFixture[str], logs: tuple[str, str, str], condition: str, told: str
) -> None:
    assert main(["compare", logs[0], logs[2], "-q", "--fail-if", f"kappa[linear] {condition}"]) == 3
    out, err = capfd.readouterr()
    row = next(line for line in out.splitlines() if line.startswith("kappa[linear]"))
    _, before, after, _, change, interval, _ = re.split(r" {2,}", row.strip())
    absolute = float(after) - float(before)
    told = told.format(change=change, interval=interval, before=before, after=after, absolute=absolute)
    assert change.startswith("/")
    assert err.rstrip().endswith(told)


def test_a_change_shows_on_which_side_of_the_limit_it_is() -> None:
    assert sided_text(0.0512, 0.05) == "+5.12%"
    assert sided_text(0.050004, 0.05) == "+5.0004%"
    assert sided_text(-0.9004, -0.9) == "/10.04"
    assert sided_text(18.34, 18.33) == "x19.34"
    assert sided_text(18.4, 0.05) == "x19.4"
    assert sided_text(-1.0, -0.5) == "-100%"
    assert sided_text(-1.6, 0.0) == "-160%"
    assert sided_text(0.1, math.nan) == "+10.0%"


def test_runs_without_gradients_decide_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    zero = write_store(tmp_path / "zero.zarr", {"a": np.zeros((30, 4), np.float32)})
    some = write_store(tmp_path / "some.zarr", {"a": np.ones((30, 4), np.float32)})
    rules = ["--fail-if", "kappa[best] worse", "--fail-if", "kappa[linear] > +5% in a"]
    assert main(["compare", str(some), str(zero), *rules, "--fail-if", "grad_norm < -50%"]) == 3
    out, err = capfd.readouterr()
    assert "All gradients of B are zero: there is nothing to compare." in out
    assert next(line for line in out.splitlines() if line.startswith("kappa[best]")).split()[1:3] == [
        "0.03333",
        "-",
    ]
    first, second, third = err.splitlines()
    assert first.endswith("cannot be decided: kappa[best] has no value; all gradients are zero")
    assert second.endswith("cannot be decided: a has no value; all gradients are zero")
    assert third.endswith("grad_norm -100% from 2.000 to 0")
    assert main(["compare", str(zero), str(some), "-q", "--fail-if", "grad_norm > +5%"]) == 3
    assert capfd.readouterr().err.endswith("grad_norm from 0 to 2.000\n")


@pytest.mark.parametrize(
    "rule",
    ["kapa[one-step] worse", "kappa[ema:0.7] > +5%", "participation_ratio higher", "residual[0.05] higher"],
)
def test_a_wrong_rule_is_told_before_anything_is_read(capfd: pytest.CaptureFixture[str], rule: str) -> None:
    assert main(["compare", "no-such", "nor-this", "--fail-if", rule]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "no-such" not in err
    assert err.splitlines()[1] == f"  {rule}"


def test_faults_of_data_win(capfd: pytest.CaptureFixture[str], logs: tuple[str, str, str]) -> None:
    assert main(["compare", logs[0], logs[2], f"{logs[0]}.none", "--fail-if", "energy > 0"]) == 1
    assert "violated" in capfd.readouterr().err
