"""A gate says the same of a log, its JSON, JSON Lines and merged parts; what is not known passes none."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from finished_runs import finished_runs, stores
from sweeps import part_of

from gradmf import gradlog
from gradmf.cli.formats.as_csv import analysis_columns, write_analyses
from gradmf.cli.main import main
from gradmf.gradlog import Analysis, Settings, Vocabulary, parse_rule
from gradmf.gradlog.gates.gate_rule import OPERATORS
from gradmf.gradlog.gates.gates import read_quantity
from gradmf.gradlog.results.quantities import NO_RESIDUAL

_FIGURE = re.compile(r"-?[\d.]+(e[+-]?\d+)?")
_AT_A_LIMIT = re.compile(r" (0\.0|1\.0)( |$)")
Verdicts = dict[str, list[tuple[str | None, bool]]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Analysis]:
    return finished_runs(tmp_path_factory.mktemp("runs"))


def from_json(analysis: Analysis) -> Analysis:
    text = json.dumps(gradlog.analysis_document(analysis), allow_nan=False)
    (read,) = gradlog.read_analyses(text, "x.json")
    return read


def from_json_lines(analysis: Analysis) -> Analysis:
    line = json.dumps(gradlog.analysis_document(analysis, steps=False), allow_nan=False)
    return gradlog.read_analyses(f"{line}\n{line}\n", "x.jsonl")[1]


def rules_on(analysis: Analysis) -> Iterator[str]:
    """Rules with limits at, beside and far from each figure, of the whole model and of tensors."""
    known = Vocabulary.of(analysis.settings)
    for subject in known.subjects():
        rule = parse_rule(f"{subject} > 1", known)
        limits = {0.0, 1.0, 1e300}
        for scope in (analysis.total, analysis.tensors[0]):
            value = read_quantity(scope, rule, analysis.run.rows).value
            if value is not None:
                limits |= {value * factor for factor in (0.999, 1.001)}
        for limit in sorted(limits):
            for operator in OPERATORS:
                number = f"(-{-limit!r})" if limit < 0 else repr(limit)
                yield f"{subject} {operator} {number}"
                yield f"{subject} {operator} {number} in *"


def verdicts(analysis: Analysis, rules: Sequence[str]) -> Verdicts:
    """For each rule that is violated: where, and whether that is certain."""
    known = Vocabulary.of(analysis.settings)
    found: Verdicts = {}
    for text in rules:
        for violation in gradlog.judge(analysis, [parse_rule(text, known)]):
            found[text] = sorted(((breach.tensor, breach.certain) for breach in violation.breaches), key=str)
    return found


@pytest.mark.parametrize("way", [from_json, from_json_lines], ids=["json", "jsonl"])
def test_json_is_judged_as_the_log(runs: dict[str, Analysis], way: Callable[[Analysis], Analysis]) -> None:
    for name, analysis in runs.items():
        rules = part_of(list(rules_on(analysis)), 7)
        of_log = verdicts(analysis, rules)
        assert 0 < len(of_log) < len(rules)
        assert verdicts(way(analysis), rules) == of_log, name


def test_merged_parts_are_judged_as_the_log(tmp_path: Path) -> None:
    for name, path in stores(tmp_path).items():
        if name == "long":
            continue
        for rank in ("exact", "none"):
            analysis = gradlog.analyze(path, Settings(rank=rank))
            files = [tmp_path / f"part.{index}" for index in (1, 2, 3)]
            for index, file in enumerate(files, 1):
                part = gradlog.PartNumber(index, 3)
                gradlog.write_part(gradlog.analyze_part(path, part, Settings(rank=rank)), file)
            merged = gradlog.merge_parts(files)
            # Sums in another order are off by rounding, which decides where a figure is the limit itself.
            rules = part_of([rule for rule in rules_on(analysis) if not _AT_A_LIMIT.search(rule)], 7)
            assert len(rules) > 30
            of_log = verdicts(analysis, rules)
            for found in (merged, from_json(merged)):
                assert verdicts(found, rules) == of_log, (name, rank)


def cells(analysis: Analysis, columns: tuple[str, ...]) -> list[dict[str, str | float]]:
    """The rows of CSV, with figures as numbers."""
    rows = csv.DictReader("".join(write_analyses([analysis], columns)).splitlines())
    return [
        {name: float(cell) if _FIGURE.fullmatch(cell) else cell for name, cell in row.items()} for row in rows
    ]


def test_every_column_and_quantity_comes_back(runs: dict[str, Analysis]) -> None:
    """CSV of what was read is that of the log, and each reading of a gate is the same."""
    for name, analysis in runs.items():
        read = from_json(analysis)
        known = Vocabulary.of(analysis.settings)
        columns = analysis_columns(
            known.predictors, known.epsilons, subspace=analysis.settings.subspace is not None
        )
        assert cells(read, columns) == cells(analysis, columns), name
        for subject in known.subjects():
            rule = parse_rule(f"{subject} > 1", known)
            for mine, other in zip(
                (analysis.total, *analysis.tensors), (read.total, *read.tensors), strict=True
            ):
                rows = analysis.run.rows
                assert read_quantity(other, rule, rows) == read_quantity(mine, rule, rows), (name, subject)


def early(analysis: Analysis) -> Any:
    """The document as it was before ranks held their residual."""
    document = json.loads(json.dumps(gradlog.analysis_document(analysis)))
    for scope in (document["total"], *document["tensors"]):
        for rank in scope["spectrum"]["rank"]:
            del rank["residual"]
    return document


def test_early_documents_are_read_and_pass_no_residual(runs: dict[str, Analysis]) -> None:
    for name in ("network exact", "wide sketch", "long incremental"):
        analysis = runs[name]
        (read,) = gradlog.read_analyses(json.dumps(early(analysis)), "early.json")
        assert read.total.spectrum is not None
        assert all(rank.residual is None for rank in read.total.spectrum.rank)
        rules = [rule for rule in rules_on(analysis) if rule.startswith("residual[")]
        known = Vocabulary.of(read.settings)
        for text in rules:
            of_log = gradlog.judge(analysis, [parse_rule(text, known)])
            of_document = gradlog.judge(read, [parse_rule(text, known)])
            assert of_document or not of_log, text
            if name != "long incremental":  # whose bounds follow from r* alone
                [violation] = of_document
                assert all(breach.reading.doubt for breach in violation.breaches if not breach.certain)
    (read,) = gradlog.read_analyses(json.dumps(early(runs["network exact"])), "early.json")
    [violation] = gradlog.judge(read, [parse_rule("residual[0.05] > 1e300", known)])
    [breach] = violation.breaches
    assert (breach.certain, breach.reading.value, breach.reading.doubt) == (False, None, NO_RESIDUAL)


def test_compare_stops_at_results_as_at_logs(
    tmp_path: Path, runs: dict[str, Analysis], capfd: pytest.CaptureFixture[str]
) -> None:
    log = runs["network exact"].run.path
    whole, old = tmp_path / "whole.json", tmp_path / "early.json"
    whole.write_text(json.dumps(gradlog.analysis_document(gradlog.analyze(log))))
    old.write_text(json.dumps(early(gradlog.analyze(log))))
    spectrum = gradlog.analyze(log).total.spectrum
    assert spectrum is not None
    [residual] = [rank.residual for rank in spectrum.rank if rank.epsilon == 0.05]
    assert residual is not None
    for factor, code in ((0.9, 3), (1.1, 0)):
        rule = f"residual[0.05] > {factor * residual!r}"
        for run in (log, str(whole)):
            assert main(["compare", run, run, "-q", "--fail-if", rule]) == code
        assert main(["compare", str(old), str(old), "-q", "--fail-if", rule]) == 3
    told = capfd.readouterr().err.splitlines()[-1]
    assert told.endswith(
        "cannot be decided: residual[0.05] has no value; the result holds no residual, as those of an early "
        "gradmf: write it anew with analyze --format json, or give the store"
    )
    for rule in ("residual[0.05] > +5%", "residual[0.05] < -5%", "residual[0.05] != +0"):
        assert main(["compare", log, str(whole), "-q", "--fail-if", rule]) == 0
        assert main(["compare", log, str(old), "-q", "--fail-if", rule]) == 3


def test_estimates_are_not_taken_for_figures(runs: dict[str, Analysis]) -> None:
    analysis = runs["sketched"]
    energy, error = analysis.total.energy, analysis.total.energy_error
    assert error is not None
    for text, certain in (
        (f"energy > {energy + error}", False), (f"energy > {energy - error}", False),
        (f"energy > {energy - 3 * error}", True), (f"grad_norm > {math.sqrt(energy / 50)}", False),
        ("increment_energy > 1e300", False), ("residual[0.1] > 1e300", False),
    ):  # fmt: skip
        for found in (analysis, from_json(analysis), from_json_lines(analysis)):
            [violation] = gradlog.judge(found, [parse_rule(text, Vocabulary.of(found.settings))])
            assert violation.breaches[0].certain is certain, text
            assert certain or violation.breaches[0].reading.doubt
    assert not verdicts(analysis, [f"energy > {energy + 3 * error}"])


def test_an_error_that_is_not_known_decides_nothing(runs: dict[str, Analysis]) -> None:
    total = runs["sketched"].total
    predictors = tuple(
        dataclasses.replace(p, kappa_error=None, path_length_error=None) for p in total.predictors
    )
    for error in (math.nan, math.inf):
        unsure = dataclasses.replace(
            runs["sketched"], total=dataclasses.replace(total, predictors=predictors, energy_error=error)
        )
        rules = ["energy > 1e300", "energy < 0", "kappa[one-step] > 1e300", "grad_norm > 1e300"]
        assert list(verdicts(unsure, rules)) == rules
        assert verdicts(from_json(unsure), rules) == verdicts(unsure, rules)
