"""The table of quantities: an entry is a column, a rule, in JSON, completed; all forms are judged alike."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.shell_completion import CompletionItem
from finished_runs import stores
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import sweep
from test_same_verdicts import from_json, from_json_lines, verdicts

from conftest import write_store
from gradmf import gradlog
from gradmf.cli.formats.as_csv import analysis_columns, write_analyses
from gradmf.cli.main import main
from gradmf.cli.options import columns, gates
from gradmf.gradlog import Analysis, PredictorResult, Settings, SpectrumResult, Vocabulary, parse_rule
from gradmf.gradlog.documents import document_reader
from gradmf.gradlog.gates.gate_rule import OPERATORS
from gradmf.gradlog.gates.gates import read_quantity
from gradmf.gradlog.results import quantities
from gradmf.gradlog.results.quantities import (
    HIGHER,
    NO_FIGURE,
    PREDICTOR,
    QUANTITIES,
    SPECTRUM,
    SUBSPACE,
    Quantity,
    Reading,
    Stored,
    add,
    of_comparisons,
    of_rules,
    spelled,
    stored_in,
)
from guide import python_blocks

(GUIDE,) = python_blocks("Adding a quantity")
PARTS = 3


@pytest.fixture
def table() -> Iterator[dict[str, Quantity]]:
    """The table, as it was again afterwards."""
    held = dict(QUANTITIES)
    yield QUANTITIES
    QUANTITIES.clear()
    QUANTITIES.update(held)


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Analysis]]:
    """Analyses, each with the same from JSON and JSON Lines, and merged from parts where there are some."""
    folder = tmp_path_factory.mktemp("forms")
    found = {}
    for name, path in stores(folder).items():
        if name == "long":
            continue
        for rank in ("exact", "none", "incremental", "sketch"):
            chosen = Settings(rank=rank, sketch_dim=64 if rank == "sketch" else None)
            analysis = gradlog.analyze(path, chosen)
            found[f"{name} {rank}"] = [analysis, from_json(analysis), from_json_lines(analysis)]
            if rank in ("exact", "none"):
                files = [folder / f"part.{index}" for index in range(1, PARTS + 1)]
                for index, file in enumerate(files, 1):
                    number = gradlog.PartNumber(index, PARTS)
                    gradlog.write_part(gradlog.analyze_part(path, number, chosen), file)
                merged = gradlog.merge_parts(files)
                found[f"{name} {rank}"] += [merged, from_json(merged)]
        gradlog.sketch_log(path, folder / f"{name} sketched.zarr", Settings(sketch_dim=64))
        analysis = gradlog.analyze(folder / f"{name} sketched.zarr")
        found[f"{name} sketched"] = [analysis, from_json(analysis), from_json_lines(analysis)]
    return found


anything = st.integers(0, 1 << 30)
"""Picks one of however many there are."""


@settings(max_examples=sweep(25), deadline=None)
@given(
    picks=st.tuples(anything, anything, anything, anything),
    near=st.none() | st.sampled_from((1 - 1e-4, 1.0, 1 + 1e-4)),
    far=st.floats(allow_nan=False, allow_infinity=False),
    everywhere=st.booleans(),
)
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", list(of_rules()))
def test_a_gate_says_the_same_of_every_form(
    forms: dict[str, list[Analysis]],
    name: str,
    operator: str,
    picks: tuple[int, int, int, int],
    near: float | None,
    far: float,
    everywhere: bool,
) -> None:
    """Of the log, its JSON, JSON Lines and merged parts; and what has no value passes in none of them.

    near : a limit at or beside an end of what is known in some scope; far : any other one
    """
    analysis, *others = list(forms.values())[picks[0] % len(forms)]
    known = Vocabulary.of(analysis.settings)
    subjects = [subject for subject in known.subjects() if subject.partition("[")[0] == name]
    if not subjects:  # without a spectrum there is no rank
        assert QUANTITIES[name].section.of_spectrum
        return
    subject = subjects[picks[1] % len(subjects)]
    scopes = (analysis.total, *analysis.tensors)
    rule = parse_rule(f"{subject} > 1", known)
    readings = [read_quantity(scope, rule, analysis.run.rows) for scope in scopes]
    reading = readings[picks[2] % len(scopes)]
    end = (reading.value, reading.lower, reading.upper)[picks[3] % 3]
    limit = far if near is None or end is None or not math.isfinite(end) else near * end
    # Sums in another order are off by rounding, which decides where a figure is the limit itself, or is small
    # against the energy that it is part of.
    least = 1e-9 * max(1.0, analysis.total.energy if QUANTITIES[name].unit else 0.0)
    if any(_is_near(reading, limit, least) for reading in readings):
        others = others[:2]
    number = f"(-{-limit!r})" if math.copysign(1, limit) < 0 else repr(limit)
    text = f"{subject} {operator} {number}{' in *' * everywhere}"
    of_log = verdicts(analysis, [text])
    for other in others:
        assert verdicts(other, [text]) == of_log, text
    unknown = [reading.value is None for reading in (readings[1:] if everywhere else readings[:1])]
    assert of_log or not any(unknown), text


def _is_near(reading: Reading, limit: float, least: float) -> bool:
    ends = (reading.value, reading.lower, reading.upper)
    return any(end is not None and math.isclose(end, limit, rel_tol=1e-6, abs_tol=least) for end in ends)


def header(analysis: Analysis) -> list[str]:
    return next(csv.reader("".join(write_analyses([analysis])).splitlines()))


def cells(analysis: Analysis, column: str) -> list[str]:
    return [row[column] for row in csv.DictReader("".join(write_analyses([analysis])).splitlines())]


def judged(analysis: Analysis, text: str) -> list[tuple[str | None, bool]]:
    return verdicts(analysis, [text]).get(text, [])


def completed(command: str, complete: Any, word: str, *arguments: str) -> list[str]:
    """What a shell is offered for a word of --fail-if or --columns."""
    from gradmf.cli.commands.group import gradmf

    with gradmf.make_context("gradmf", [command, *arguments], resilient_parsing=True) as outer:
        found = gradmf.get_command(outer, command)
        assert found is not None
        context = found.make_context(command, list(arguments), parent=outer, resilient_parsing=True)
        items: list[CompletionItem[str]] = complete(context, click.Option(["--any"]), word)
        return [item.value for item in items]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(5)
    tensors = {"a": rng.standard_normal((30, 20, 30)), "b": rng.standard_normal((30, 6))}
    return str(write_store(tmp_path_factory.mktemp("log") / "run.zarr", tensors))


def test_a_quantity_is_one_entry(
    log: str, tmp_path: Path, table: dict[str, Quantity], capfd: pytest.CaptureFixture[str]
) -> None:
    before = header(gradlog.analyze(log))
    exec(GUIDE, dict(vars(quantities)))
    assert list(table)[-1] == "mean_energy"
    analysis = gradlog.analyze(log)
    expected = analysis.total.energy / 30

    # A column, behind all others.
    known = Vocabulary.of(analysis.settings)
    assert header(analysis) == [*before, "mean_energy"]
    assert list(analysis_columns(known.predictors, known.epsilons)) == header(analysis)
    assert float(cells(analysis, "mean_energy")[0]) == expected
    assert main(["analyze", log, "--format", "csv", "--columns", "tensor,mean_energy"]) == 0
    assert capfd.readouterr().out.splitlines()[1] == f",{expected!r}"

    # The subject of rules, of logs, of JSON and in comparisons; it is listed, and misspelled.
    for factor, code in ((0.9, 3), (1.1, 0)):
        rule = f"mean_energy > {factor * expected!r}"
        assert main(["analyze", log, "-q", "--fail-if", rule]) == code
        assert bool(judged(from_json(analysis), rule)) == bool(judged(analysis, rule)) == bool(code)
        assert main(["compare", log, log, "-q", "--fail-if", rule]) == code
    assert main(["compare", log, log, "-q", "--fail-if", "mean_energy > +1%"]) == 0
    capfd.readouterr()
    assert main(["analyze", log, "--fail-if", "mean_enrgy > 1"]) == 2
    assert "did you mean mean_energy?); known are kappa[PREDICTOR], " in capfd.readouterr().err
    gradlog.sketch_log(log, tmp_path / "sketched.zarr", Settings(sketch_dim=64))
    sketched = gradlog.analyze(tmp_path / "sketched.zarr")
    assert judged(sketched, f"mean_energy > {sketched.total.energy / 30!r}") == [(None, False)]

    # Worked out: no field of JSON.
    assert "mean_energy" not in json.dumps(gradlog.analysis_document(analysis))

    # Completed by shells.
    assert completed("analyze", gates.complete, "mean_") == ["mean_energy"]
    assert completed("analyze", columns.complete, "run,mean_") == ["run,mean_energy"]


@dataclass(frozen=True)
class WithNorm(SpectrumResult):
    """A spectrum with a figure more."""

    nuclear_norm: float | None = None


@dataclass(frozen=True)
class WithShare(PredictorResult):
    """A predictor with a figure more, and its standard error."""

    share: float | None = None
    share_error: float | None = None


@pytest.mark.usefixtures("table")
def test_a_stored_figure_is_one_field_and_one_entry(log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = gradlog.analyze(log)
    earlier = gradlog.analysis_document(plain)
    add(Quantity("nuclear_norm", SPECTRUM, Stored("nuclear_norm"), least=0.0))
    monkeypatch.setattr(document_reader, "SpectrumResult", WithNorm)

    def with_norm(scope: Any, norm: float) -> Any:
        held = {
            field.name: getattr(scope.spectrum, field.name) for field in dataclasses.fields(SpectrumResult)
        }
        return dataclasses.replace(scope, spectrum=WithNorm(**held, nuclear_norm=norm))

    analysis = dataclasses.replace(
        plain, total=with_norm(plain.total, 7.5), tensors=tuple(with_norm(t, 2.5) for t in plain.tensors)
    )
    document = gradlog.analysis_document(analysis)
    assert document["total"]["spectrum"]["nuclear_norm"] == 7.5
    for found in (analysis, from_json(analysis), from_json_lines(analysis)):
        assert cells(found, "nuclear_norm") == ["7.5", "2.5", "2.5"]
        assert judged(found, "nuclear_norm > 7") == [(None, True)]
        assert not judged(found, "nuclear_norm > 8")
        assert judged(found, "nuclear_norm > 2 in *") == [("a", True), ("b", True)]
    assert completed("analyze", gates.complete, "nuc") == ["nuclear_norm"]
    assert not completed("analyze", gates.complete, "nuc", "--rank", "none")
    assert completed("merge", columns.complete, "nuc") == ["nuclear_norm"]

    # What an early document lacks is unknown, and passes nothing.
    (read,) = gradlog.read_analyses(json.dumps(earlier), "early.json")
    assert cells(read, "nuclear_norm") == ["", "", ""]
    for operator in OPERATORS:
        [violation] = gradlog.judge(
            read, [parse_rule(f"nuclear_norm {operator} 1", Vocabulary.of(read.settings))]
        )
        [breach] = violation.breaches
        assert (breach.certain, breach.reading.doubt) == (False, NO_FIGURE)

    # What cannot be is refused.
    for value, told in (
        (-1.0, "the spectrum of total has a negative nuclear_norm"),
        ("x", "nuclear_norm is 'x'"),
    ):
        damaged = json.loads(json.dumps(document))
        damaged["total"]["spectrum"]["nuclear_norm"] = value
        with pytest.raises(gradlog.DataError, match=re.escape(told)):
            gradlog.read_analyses(json.dumps(damaged), "x")

    # Where a spectrum is not exact, nothing is taken for certain.
    assert analysis.total.spectrum is not None
    loose = dataclasses.replace(analysis.total.spectrum, method="incremental")
    bounded = dataclasses.replace(analysis, total=dataclasses.replace(analysis.total, spectrum=loose))
    assert judged(bounded, "nuclear_norm > 8") == [(None, False)]


@pytest.mark.usefixtures("table")
def test_a_stored_figure_of_predictors_has_errors_and_a_direction(
    log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Quantity(
        "share", PREDICTOR, Stored("share", error="share_error"),
        least=0.0, most=1.0, better=HIGHER, compared=True,
    )  # fmt: skip
    add(share)
    assert share.verdicts == ("worse", "better")
    monkeypatch.setattr(document_reader, "PredictorResult", WithShare)
    plain = gradlog.analyze(log, Settings(predictors=("one-step",)))

    def with_share(value: float, error: float | None) -> Analysis:
        def held(scope: Any) -> Any:
            found = tuple(WithShare(**vars(p), share=value, share_error=error) for p in scope.predictors)
            return dataclasses.replace(scope, predictors=found)

        return dataclasses.replace(plain, total=held(plain.total), tensors=tuple(map(held, plain.tensors)))

    exact, sketched = with_share(0.25, None), with_share(0.25, 0.01)
    for found in (exact, from_json(exact)):
        assert cells(found, "share[one-step]")[0] == "0.25"
        assert not judged(found, "share[one-step] > 0.25")
        assert judged(found, "share[one-step] >= 0.25") == [(None, True)]
    held = gradlog.analysis_document(exact)["total"]["predictors"][1]
    assert list(held) == [
        "predictor", "path_length", "kappa", "scaled_kappa", "scale", "reference", "share",
    ]  # fmt: skip
    held = gradlog.analysis_document(sketched)["total"]["predictors"][1]
    assert (held["share_error"], list(held)[-1]) == (0.01, "share_error")

    for baseline, value, told in (
        (exact, exact, ("exact", "~")),
        (exact, with_share(0.5, None), (None, None)),
    ):
        change = gradlog.compare(baseline, value).total.change("share[one-step]")
        assert change is not None
        assert (change.basis, change.verdict) == told
    assert completed("analyze", gates.complete, "share[", "--predictor", "linear") == [
        "share[zero]", "share[linear]"
    ]  # fmt: skip


def test_the_worst_breaches_come_first_by_the_direction(table: dict[str, Quantity]) -> None:
    from gradmf.gradlog.gates.gates import Breach, worst_first

    breaches = [Breach(str(value), Reading.exact(value), certain=True) for value in (1.0, 3.0, 2.0)]
    table["kappa"] = dataclasses.replace(table["kappa"], better=HIGHER)
    for word, order in (("worse", "123"), ("better", "321"), ("higher", "321"), ("lower", "123")):
        found = worst_first(breaches, gradlog.Rule("kappa", "one-step", word))
        assert [breach.tensor[0] for breach in found if breach.tensor] == list(order), word
    table["kappa"] = dataclasses.replace(table["kappa"], better="lower")
    found = worst_first(breaches, gradlog.Rule("kappa", "one-step", "worse"))
    assert [breach.tensor for breach in found] == ["3.0", "2.0", "1.0"]


def test_the_table_is_of_the_fields_of_results() -> None:
    """Each stored figure is a field of its section's dataclass; each field that is a figure stands there."""
    from gradmf.gradlog import FoundPredictor, RankResult, ScopeResult, SubspaceMeasure, SubspaceWindow

    others = {
        ScopeResult: {"parameters", "predictors", "spectrum", "subspace"},
        PredictorResult: {"predictor"},
        RankResult: {"epsilon"},
        SpectrumResult: {
            "method", "confidence", "rank", "singular_values", "growth", "projection", "count_bounds"
        },
        SubspaceMeasure: {"windows"},
        SubspaceWindow: {"row"},
        FoundPredictor: {"family", "predictor"},
    }  # fmt: skip
    parts = {
        ScopeResult: quantities.SCOPE, PredictorResult: PREDICTOR, RankResult: quantities.RANK,
        SpectrumResult: SPECTRUM, SubspaceMeasure: SUBSPACE, SubspaceWindow: SUBSPACE,
        FoundPredictor: quantities.FOUND,
    }  # fmt: skip
    for kind, part in parts.items():
        held = {
            name
            for stored, _ in stored_in(part)
            for name in (stored.name, *stored.ends, stored.error, stored.freedom)
            if name
        }
        assert held | others[kind] == {field.name for field in dataclasses.fields(kind)}, kind


def test_names_are_listed_in_the_order_that_messages_have() -> None:
    assert list(of_rules()) == [
        "kappa", "scaled_kappa", "scale", "path_length", "rank", "residual", "effective_rank", "stable_rank",
        "participation_ratio", "increment_energy", "energy", "grad_norm", "effective_rows",
    ]  # fmt: skip
    assert [quantity.name for quantity in of_comparisons()] == [
        "kappa", "scaled_kappa", "path_length", "grad_norm", "rank", "effective_rank", "stable_rank",
    ]  # fmt: skip
    places = [quantity.told for quantity in of_rules().values()]
    assert len(set(places)) == len(places)


def test_rules_and_columns_are_completed_by_what_the_line_asks_for() -> None:
    known = Vocabulary.of(Settings())
    assert completed("analyze", gates.complete, "") == list(known.subjects())
    assert completed("analyze", gates.complete, "ka")[:3] == ["kappa[best]", "kappa[zero]", "kappa[one-step]"]
    assert completed("compare", gates.complete, "rank", "--epsilon", "0.2") == ["rank[0.2]"]
    assert completed("analyze", gates.complete, "scale[", "--predictor", "ema:0.70", "x") == [
        "scale[zero]", "scale[ema:0.7]"
    ]  # fmt: skip
    assert completed("analyze", gates.complete, "no") == []
    assert completed("analyze", gates.complete, "grad", "--predictor", "nonsense") == ["grad_norm"]
    every = analysis_columns(known.predictors, known.epsilons)
    assert completed("analyze", columns.complete, "") == list(every)
    assert completed("merge", columns.complete, "run, ro") == ["run,rows"]
    assert completed("analyze", columns.complete, "run,run") == []
    assert completed("analyze", columns.complete, "subspace_f") == []
    assert completed("analyze", columns.complete, "subspace_f", "--subspace", "2") == [
        f"subspace_fraction[{rows}]" for rows in ("gradients", "increments")
    ]
    for command, column in (
        ("compare", "baseline"),
        ("info", "codecs"),
        ("advise", "weight"),
        ("bounds", "ratio"),
    ):
        assert completed(command, columns.complete, column)[0] == column
    assert completed("bounds", columns.complete, "curve", "--curves") == ["curve"]


def test_a_fixed_argument_is_told_where_it_is_wrong(table: dict[str, Quantity]) -> None:
    table["subspace_fraction"] = dataclasses.replace(table["subspace_fraction"], in_rules=True)
    known = Vocabulary.of(Settings())
    assert parse_rule("subspace_fraction[gradients] > 1", known).argument == "gradients"
    with pytest.raises(gradlog.RuleError, match="no rows 'columns'; known are gradients, increments"):
        parse_rule("subspace_fraction[columns] > 1", known)
    assert spelled("subspace_fraction", "gradients") in set(known.subjects())
