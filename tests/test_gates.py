"""Gates: the grammar of rules, every operator over values and bounds, and --fail-if on the command line."""

from __future__ import annotations

import dataclasses
import math
import operator
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_render_report import made_analysis

from conftest import write_store
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.cli.options.gates import violation_text
from gradmf.gradlog import Limit, Reading, Rule, RuleError, Settings, Vocabulary, parse_rule
from gradmf.gradlog.gates.gate_rule import OPERATORS, VERDICTS
from gradmf.gradlog.gates.gates import change, compare
from gradmf.gradlog.results.quantities import of_rules

PREDICTORS = ("zero", "one-step", "ema:0.5", "ema-debiased:0.9", "mean:5", "linear")
EPSILONS = (0.1, 0.05, 1e-05)
KNOWN = Vocabulary(PREDICTORS, EPSILONS, baseline=True, judged=("kappa", "path_length", "energy"))
ALONE = Vocabulary.of(Settings())
HOLDS = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt,
    "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip

numbers = st.floats(allow_nan=False, allow_infinity=False)
limits = st.builds(
    Limit, st.sampled_from(OPERATORS), numbers, st.sampled_from(("value", "difference", "percent"))
)
patterns = st.none() | st.text(min_size=1).map(str.strip).filter(bool)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    quantity = draw(st.sampled_from(sorted(of_rules())))
    argument = draw(st.sampled_from(KNOWN.arguments(of_rules()[quantity])))
    verdicts = VERDICTS if quantity in KNOWN.judged else ()
    if quantity != "kappa":
        verdicts = tuple(word for word in verdicts if word not in ("worse", "better"))
    if quantity == "kappa" and draw(st.booleans()):
        argument = "best"
    if quantity == "kappa" and argument == "zero":
        verdicts = ()
    condition = draw(limits | st.sampled_from(verdicts) if verdicts else limits)
    return Rule(quantity, argument, condition, draw(patterns))


@given(rules())
def test_a_rule_is_printed_as_it_is_read(rule: Rule) -> None:
    assert parse_rule(str(rule), KNOWN) == rule


@given(rules(), st.data())
def test_spaces_do_not_matter(rule: Rule, data: st.DataObject) -> None:
    text = str(dataclasses.replace(rule, pattern=None))
    spaces = data.draw(st.sampled_from(("", " ", "\t ")))
    for mark in ("[", "]", *(OPERATORS if isinstance(rule.condition, Limit) else ())):
        if mark not in (">", "<"):  # a part of >= and <=
            text = text.replace(mark, f"{spaces}{mark}{spaces}", 1)
    assert parse_rule(f"{spaces}{text}{spaces}", KNOWN) == dataclasses.replace(rule, pattern=None)


def assert_read_or_placed(text: str) -> None:
    """`text` is a rule that prints as it is read, or wrong at a place."""
    try:
        read = parse_rule(text, KNOWN)
    except RuleError as error:
        fault = error
    else:
        assert parse_rule(str(read), KNOWN) == read
        return
    assert 0 <= fault.position <= len(text)


@given(st.text())
def test_any_text_is_a_rule_or_an_error_with_its_place(text: str) -> None:
    assert_read_or_placed(text)


@given(rules(), st.data())
def test_a_damaged_rule_is_a_rule_or_an_error_with_its_place(rule: Rule, data: st.DataObject) -> None:
    text = str(rule)
    at = data.draw(st.integers(0, len(text)))
    assert_read_or_placed(
        text[:at] + data.draw(st.text(max_size=2)) + text[at + data.draw(st.integers(0, 3)) :]
    )


@pytest.mark.parametrize(
    ("text", "at", "told"),
    [
        ("", "", "begins with a quantity: kappa[PREDICTOR]"),
        ("> 3", "> 3", "begins with a quantity"),
        ("  kapa[one-step] > 1", "kapa", "did you mean kappa?"),
        ("kappa > 1", "> 1", "such as kappa[one-step]"),
        ("kappa[one-step > 1", "[one", "not closed"),
        ("kappa[two-step] > 1", "two-step", "no predictor 'two-step'; known are zero, one-step"),
        ("kappa[ema:7] > 1", "ema:7", "below 1"),
        ("kappa[ema:0.7] > 1", "ema:0.7", "add --predictor ema:0.7"),
        ("rank[much] > 1", "much", "no epsilon; in use are 0.1, 0.05, 0.01"),
        ("rank[0.2] > 1", "0.2", "add --epsilon 0.2"),
        ("effective_rank[0.1] > 1", "[0.1]", "takes nothing"),
        ("rank[0.1]", "", "a comparison is missing"),
        ("rank[0.1] => 3", "=> 3", "a comparison is missing here (did you mean >=?)"),
        ("rank[0.1] = 3", "= 3", "did you mean ==?"),
        ("rank[0.1] \u2264 3", "\u2264 3", "did you mean <=?"),
        ("rank[0.1] ~ 3", "~ 3", "a comparison is missing here; write one of"),
        ("rank[0.1] > ", "", "a number is missing"),
        ("rank[0.1] > much", "much", "a number is missing"),
        ("rank[0.1] > 1e999", "1e999", "too large"),
        ("rank[0.1] > 5%", "5%", "only compare has one"),
        ("rank[0.1] > (-3", "", "closing )"),
        ("rank[0.1] > +3", "+3", "only compare has one"),
        ("kappa[linear] worse", "worse", "only compare has one"),
        ("kappa[linear] bad", "bad", "no condition"),
        ("rank[0.1] > 3 blocks.*", "blocks", "'in PATTERN'"),
        ("rank[0.1] > 3 in  ", "", "a glob on tensor names is missing"),
        ("rank[0.1] > 3 inside", "inside", "'in PATTERN'"),
    ],
)  # fmt: skip
def test_wrong_rules_are_told_with_their_place(text: str, at: str, told: str) -> None:
    with pytest.raises(RuleError, match=r".") as caught:
        parse_rule(text, ALONE)
    assert told in str(caught.value)
    assert text[caught.value.position :].startswith(at)
    assert not at or text.index(at) == caught.value.position
    assert at or caught.value.position == len(text)


def test_what_was_not_computed_is_no_quantity() -> None:
    known = Vocabulary.of(Settings(rank="none"))
    with pytest.raises(RuleError, match="leave --rank none away"):
        parse_rule("rank[0.1] > 3", known)
    assert parse_rule("kappa[zero] > 3", known).argument == "zero"
    with pytest.raises(RuleError, match="rank has no interval to judge by"):
        parse_rule("rank[0.1] higher", KNOWN)
    with pytest.raises(RuleError, match="energy is neither good nor bad; say higher or lower"):
        parse_rule("energy worse", KNOWN)
    with pytest.raises(RuleError, match="'best' goes with kappa alone"):
        parse_rule("scale[best] > 1", KNOWN)
    with pytest.raises(RuleError, match=r"kappa\[zero\] is 1 in every run"):
        parse_rule("kappa[zero] worse", KNOWN)
    with pytest.raises(RuleError, match=r"'wrose' is no condition \(did you mean worse\?\)"):
        parse_rule("kappa[best] wrose", KNOWN)
    with pytest.raises(RuleError, match="needs a sign"):
        parse_rule("kappa[best] > 5%", KNOWN)


def test_arguments_are_known_however_they_are_written() -> None:
    assert parse_rule("kappa[ ema:0.50 ]>1", ALONE) == parse_rule("kappa[ema:.5] > 1.0", ALONE)
    assert parse_rule("rank[5e-2] > 1", ALONE).subject == "rank[0.05]"


values = st.integers(-4, 4).map(float)


@given(values, values, values, st.sampled_from(OPERATORS))
def test_every_operator_over_bounds(first: float, second: float, number: float, symbol: str) -> None:
    """True where all values within the bounds say so, False where none does, None otherwise."""
    low, high = sorted((first, second))
    within = {low, (low + high) / 2, high, min(max(number, low), high)}
    said = {HOLDS[symbol](value, number) for value in within}
    expected = said.pop() if len(said) == 1 else None
    assert compare(Reading(low, low, high), Limit(symbol, number)) is expected


@given(numbers, numbers, st.sampled_from(OPERATORS))
def test_every_operator_over_values(value: float, number: float, symbol: str) -> None:
    assert compare(Reading.exact(value), Limit(symbol, number)) is HOLDS[symbol](value, number)


@given(numbers, st.sampled_from(OPERATORS))
def test_what_has_no_value_is_never_decided(number: float, symbol: str) -> None:
    assert compare(Reading.nothing("why"), Limit(symbol, number)) is None


@given(numbers, st.sampled_from(OPERATORS))
def test_what_is_no_number_is_never_decided(number: float, symbol: str) -> None:
    """NaN compares false with everything: it must not pass for that."""
    nan = math.nan
    for reading in (
        Reading.exact(nan), Reading(nan, nan, nan), Reading(1.0, nan, 2.0), Reading(1.0, 0.0, nan),
        Reading(nan, 0.0, 1.0), Reading.exact(math.inf), Reading.exact(-math.inf),
    ):  # fmt: skip
        assert compare(reading, Limit(symbol, number)) is None
        for kind in ("difference", "percent"):
            for ends in ((reading, Reading.exact(1.0)), (Reading.exact(1.0), reading)):
                moved = change(*ends, kind)
                assert compare(moved, Limit(symbol, number)) is None
                assert moved.doubt


@given(values, values, values, st.sampled_from(OPERATORS))
def test_bounds_alone_pass_nothing(first: float, second: float, number: float, symbol: str) -> None:
    """What has no value may be known to violate a limit, and is never said not to."""
    low, high = sorted((first, second))
    with_value = compare(Reading(low, low, high), Limit(symbol, number))
    assert compare(Reading(None, low, high), Limit(symbol, number)) is (with_value or None)


bounds = st.tuples(st.integers(1, 50), st.integers(0, 50)).map(
    lambda pair: Reading(float(pair[0]), float(pair[0]), float(sum(pair)), "open")
)


@given(bounds, bounds, st.sampled_from(("difference", "percent")))
def test_a_change_has_the_bounds_of_its_ends(before: Reading, after: Reading, kind: str) -> None:
    found = change(before, after, kind)
    changes = []
    for old in (before.lower, before.upper):
        for new in (after.lower, after.upper):
            changes.append(new - old if kind == "difference" else 100 * (new - old) / old)
    assert (found.lower, found.upper) == pytest.approx((min(changes), max(changes)))


@given(numbers, numbers)
def test_a_change_of_figures_is_a_figure(before: float, after: float) -> None:
    assume(abs(before) < 1e150 and abs(after) < 1e150)
    found = change(Reading.exact(before), Reading.exact(after), "percent")
    assert found.lower == found.value == found.upper
    if before == after:
        assert found.value == 0
    elif before == 0:
        assert found.value == math.copysign(math.inf, after)
    elif abs(before) > 1e-150:
        assert found.value == pytest.approx(100 * (after - before) / abs(before))


def test_a_change_needs_both_ends() -> None:
    found = change(Reading.nothing("all gradients are zero"), Reading.exact(1.0), "difference")
    assert (found.value, found.doubt) == (None, "all gradients are zero")


def judged(analysis: gradlog.Analysis, text: str) -> tuple[gradlog.Violation, ...]:
    return gradlog.judge(analysis, [parse_rule(text, Vocabulary.of(analysis.settings))])


def test_every_quantity_is_the_one_of_the_result() -> None:
    analysis = made_analysis()
    analysis = dataclasses.replace(analysis, total=dataclasses.replace(analysis.total, effective_rows=33.5))
    spectrum = analysis.total.spectrum
    assert spectrum is not None
    [predictor] = [p for p in analysis.total.predictors if p.predictor == "one-step"]
    [rank] = [r for r in spectrum.rank if r.epsilon == 0.05]
    expected: dict[str, Any] = {
        "kappa[one-step]": predictor.kappa, "scaled_kappa[one-step]": predictor.scaled_kappa,
        "scale[one-step]": predictor.scale, "path_length[one-step]": predictor.path_length,
        "rank[0.05]": rank.rank, "residual[0.05]": rank.residual, "effective_rank": spectrum.effective_rank,
        "stable_rank": spectrum.stable_rank, "participation_ratio": spectrum.participation_ratio,
        "increment_energy": spectrum.energy, "energy": analysis.total.energy, "effective_rows": 33.5,
        "grad_norm": math.sqrt(analysis.total.energy / analysis.run.rows),
        "kappa[best]": min(p.kappa for p in analysis.total.predictors if p.predictor != "zero"),
    }  # fmt: skip
    assert {subject.partition("[")[0] for subject in expected} == set(of_rules())
    for subject, value in expected.items():
        number = f"(-{-value!r})" if value < 0 else repr(value)
        assert not judged(analysis, f"{subject} != {number}"), subject
        [violation] = judged(analysis, f"{subject} == {number}")
        [breach] = violation.breaches
        assert (breach.tensor, breach.certain, breach.reading.value) == (None, True, value)


def test_bounds_and_estimates_are_not_taken_for_figures() -> None:
    analysis = made_analysis()
    spectrum = analysis.total.spectrum
    assert spectrum is not None
    ranks = tuple(dataclasses.replace(r, rank=20, lower=12, upper=45) for r in spectrum.rank)
    loose = dataclasses.replace(spectrum, method="incremental", rank=ranks)
    analysis = dataclasses.replace(analysis, total=dataclasses.replace(analysis.total, spectrum=loose))
    for text, certain in [
        ("rank[0.1] > 11", True), ("rank[0.1] > 12", False), ("rank[0.1] >= 45", False),
        ("rank[0.1] == 20", False), ("rank[0.1] != 20", False), ("rank[0.1] != 50", True),
        ("effective_rank > 2", False), ("effective_rank >= 1", True), ("residual[0.1] >= 0", True),
        ("residual[0.1] > 0", False),
    ]:  # fmt: skip
        [violation] = judged(analysis, text)
        assert violation.breaches[0].certain is certain, text
        assert certain or violation.breaches[0].reading.doubt
    for text in ("rank[0.1] > 45", "rank[0.1] < 12", "rank[0.1] == 50", "stable_rank < 1"):
        assert not judged(analysis, text), text


def test_figures_that_are_missing_pass_nothing() -> None:
    """Whatever is None or NaN in a result: no rule about it is passed, and what to do is said."""
    analysis = made_analysis()
    spectrum = analysis.total.spectrum
    assert spectrum is not None
    for nothing in (None, math.nan):
        predictors = tuple(
            dataclasses.replace(p, kappa=nothing, scaled_kappa=nothing, scale=nothing)
            for p in analysis.total.predictors
        )
        missing: Any = dataclasses.replace(
            spectrum, stable_rank=nothing, effective_rank=nothing, participation_ratio=nothing,
            energy=math.nan,
            rank=tuple(dataclasses.replace(r, residual=nothing) for r in spectrum.rank),
        )  # fmt: skip
        total = dataclasses.replace(analysis.total, energy=math.nan, predictors=predictors, spectrum=missing)
        damaged = dataclasses.replace(analysis, total=total)
        for subject in (
            "kappa[one-step]", "scaled_kappa[linear]", "scale[one-step]", "residual[0.05]", "stable_rank",
            "effective_rank", "participation_ratio", "increment_energy", "energy", "grad_norm",
        ):  # fmt: skip
            for symbol in OPERATORS:
                [violation] = judged(damaged, f"{subject} {symbol} 1")
                [breach] = violation.breaches
                assert not breach.certain
                assert breach.reading.doubt


def test_a_rank_without_an_upper_end_is_told_by_its_lower_one() -> None:
    analysis = made_analysis(width=3)
    spectrum = analysis.total.spectrum
    assert spectrum is not None
    ranks = tuple(
        dataclasses.replace(r, rank=None, lower=12, upper=511, residual=None) for r in spectrum.rank
    )
    total = dataclasses.replace(analysis.total, spectrum=dataclasses.replace(spectrum, rank=ranks))
    refused = dataclasses.replace(analysis, total=total)
    for text, told in (
        ("rank[0.1] > 11", "rank[0.1] > 11: rank[0.1] is at least 12"),
        ("rank[0.1] > 12", "rank[0.1] > 12 cannot be decided: rank[0.1] is at least 12; the sketch method"),
        ("rank[0.1] > 511", "rank[0.1] > 511 cannot be decided: rank[0.1] is at least 12; the sketch method"),
    ):
        [violation] = judged(refused, text)
        assert violation_text(violation).startswith(told)


def test_a_pattern_finds_the_worst_tensor_first() -> None:
    analysis = made_analysis()
    [violation] = judged(analysis, "energy > 0 in *")
    energies = {tensor.name: tensor.energy for tensor in analysis.tensors}
    names = [breach.tensor for breach in violation.breaches]
    assert names == sorted(energies, key=lambda name: -energies[name])
    [nowhere] = judged(analysis, "energy > 0 in nothing.*")
    assert (nowhere.breaches, nowhere.unmatched) == ((), tuple(energies))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(11)
    tensors = {
        "a.weight": rng.standard_normal((30, 4, 5)).astype(np.float32),
        "b.weight": rng.standard_normal((30, 6)).astype(np.float32),
        "frozen": np.zeros((30, 3), np.float32),
    }
    return str(write_store(tmp_path_factory.mktemp("logs") / "noise.zarr", tensors))


def gated(
    capfd: pytest.CaptureFixture[str], *arguments: str | Path, rules: list[str]
) -> tuple[int, str, list[str]]:
    given = [word for rule in rules for word in ("--fail-if", rule)]
    code = main(["analyze", *map(str, arguments), *given])
    out, err = capfd.readouterr()
    return code, out, err.splitlines()


def test_a_violated_rule_is_exit_code_3_and_a_line(capfd: pytest.CaptureFixture[str], log: str) -> None:
    code, out, err = gated(capfd, log, "-q", rules=["kappa[one-step] > 1.5", "rank[0.1] > 29", "energy < 0"])
    assert code == 3
    assert "Path length" in out
    [line] = err
    assert line.startswith(f"gradmf: violated: {log}: kappa[one-step] > 1.5: kappa[one-step] is 1.")
    assert gated(capfd, log, rules=["kappa[one-step] > 5"])[0::2] == (0, [])


def test_tensors_are_named(capfd: pytest.CaptureFixture[str], log: str) -> None:
    code, _, [line] = gated(capfd, log, rules=["kappa[one-step] > 1.2 in *.weight"])
    assert code == 3
    assert "a.weight is " in line
    assert "b.weight is " in line
    code, _, [line] = gated(capfd, log, rules=["kappa[one-step] > 5 in *"])
    assert (code, line.partition(" in *")[2]) == (
        3, " cannot be decided: frozen has no value; all gradients are zero"
    )  # fmt: skip
    code, _, [line] = gated(capfd, log, rules=["energy < 0 in c.*"])
    assert code == 3
    assert line.endswith("no tensor matches 'c.*'; there are a.weight, b.weight, frozen")


def test_every_run_is_held_to_every_rule(capfd: pytest.CaptureFixture[str], log: str) -> None:
    code, out, err = gated(
        capfd, log, log, "--format", "csv", rules=["rank[0.1] > 1", "rank[0.1] > 1", "energy>0"]
    )
    assert (code, len(err), len(out.splitlines())) == (3, 4, 9)


def test_faults_of_data_win_over_rules(capfd: pytest.CaptureFixture[str], log: str, tmp_path: Path) -> None:
    code, _, err = gated(capfd, log, tmp_path / "none", rules=["energy > 0"])
    assert (code, len(err)) == (1, 2)


@pytest.mark.parametrize("rule", ["kapa[one-step] > 1", "kappa[ema:0.7] > 1", "rank[0.05] worse"])
def test_a_wrong_rule_is_pointed_at_before_anything_is_read(
    capfd: pytest.CaptureFixture[str], rule: str
) -> None:
    code, out, err = gated(capfd, "no-such-run", rules=["energy > 1", rule])
    assert (code, out, len(err)) == (2, "", 4)
    assert err[0].startswith("gradmf: error: --fail-if: ")
    assert err[1] == f"  {rule}"
    assert err[2].strip() == "^"
    place = err[2].index("^")
    assert err[1][place:].startswith(("kapa", "ema:0.7", "worse"))


def test_a_rule_with_control_characters_is_pointed_at(capfd: pytest.CaptureFixture[str]) -> None:
    _, _, err = gated(capfd, "no-such-run", rules=["\x1b rank"])
    assert err[1:3] == [r"  \x1b rank", "  ^"]
    _, _, err = gated(capfd, "no-such-run", rules=["energy > 1\x1b"])
    assert err[1:3] == [r"  energy > 1\x1b", "            ^"]


def test_a_plan_has_nothing_to_gate(capfd: pytest.CaptureFixture[str], log: str) -> None:
    code, _, [line, *_] = gated(capfd, log, "--plan", rules=["energy > 0"])
    assert code == 2
    assert "--plan stops before" in line


def test_figures_show_which_side_of_the_limit_they_are_on(
    capfd: pytest.CaptureFixture[str], log: str
) -> None:
    kappa = gradlog.analyze(log).total.predictors[1].kappa
    assert kappa is not None
    limit = float(f"{kappa:.4g}")
    symbol = ">" if kappa > limit else "<"
    _, _, [line] = gated(capfd, log, rules=[f"kappa[one-step] {symbol} {limit!r}"])
    shown = float(line.rpartition(" ")[2])
    assert HOLDS[symbol](shown, limit)


def test_a_closed_pipe_does_not_open_the_gate(log: str) -> None:
    command = [sys.executable, "-m", "gradmf", "analyze", log, log]
    for rule, code in (("energy > 0", 3), ("energy < 0", 0)):
        process = subprocess.Popen(
            [*command, "--fail-if", rule], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        with process.stderr:
            told = process.stderr.read()
        assert process.wait(60) == code
        assert told.count("violated") == (2 if code else 0)
        assert "Traceback" not in told
