"""Everything that the program makes of finished results, in one call: for tests that feed it odd ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from gradmf import gradlog
from gradmf.cli.formats import as_csv, as_json
from gradmf.cli.formats.as_markdown import draw_markdown
from gradmf.cli.formats.as_table import draw_table
from gradmf.cli.options.gates import violation_text
from gradmf.cli.terminal.terminal import Terminal
from gradmf.gradlog import Analysis, Comparison, GradmfError, Vocabulary, parse_rule
from gradmf.gradlog.reports.advice_report import advice_report
from gradmf.gradlog.reports.analysis_report import analysis_report
from gradmf.gradlog.reports.bounds_report import bounds_report
from gradmf.gradlog.reports.comparison_report import comparison_report
from gradmf.gradlog.reports.report import Report
from gradmf.gradlog.results.quantities import BY_EPSILON, BY_PREDICTOR, BY_ROWS, of_rules, spelled

CHANGES = (
    "kappa[best] worse", "kappa[best] > +5%", "energy > +1", "rank[0.1] < -5%", "residual[0.1] > +5%",
    "scale[one-step] > +5%", "kappa[one-step] changed in *", "grad_norm higher", "stable_rank > +1 in *",
    "increment_energy > -5%",
)  # fmt: skip
BOUNDS: tuple[dict[str, float], ...] = (
    {},
    {"radius": 1e300, "lr": 0.1, "floor": -1e308},
    {"radius": 1e-300, "smoothness": 2.0},
)
LONGEST = 2000
"""Characters of a message: names and specs that it repeats may be long."""

_R = TypeVar("_R")


def told(error: GradmfError) -> str:
    """The message of an error, which must be one or two lines."""
    text = str(error)
    assert text
    assert text.count("\n") <= 1, text
    assert len(text) < LONGEST, text[:LONGEST]
    return text


def use(analysis: Analysis, baseline: Analysis) -> None:
    """Every command, rule and format on a result: only errors of gradmf may come out, of a line or two."""
    _write([gradlog.analysis_document(analysis)])
    list(as_csv.write_analyses([analysis]))
    if analysis.steps.grad_norm.size:  # only logs come to this report, and they have steps
        _draw(analysis_report(analysis))
    for options in BOUNDS:
        _use_bounds(analysis, options)
    _use_advice(analysis)
    known = _or_told(lambda: Vocabulary.of(analysis.settings))
    if known is not None:
        _gate(_rules(), known, lambda rule: gradlog.judge(analysis, [rule]))
    for align in _alignments(baseline, analysis):
        _use_comparison(baseline, analysis, align)
    for pair in ((analysis, baseline), (analysis, analysis)):
        _use_comparison(*pair, None)


def _or_told(make: Callable[[], _R]) -> _R | None:
    try:
        return make()
    except GradmfError as error:
        told(error)
        return None


def _write(documents: Iterable[dict[str, Any]]) -> None:
    for document in documents:
        line = "".join(as_json.write_json_lines([document], "utf-8"))
        assert json.loads(line) == json.loads("".join(as_json.write_json([document], "ascii", several=False)))


def _draw(report: Report) -> None:
    for width, rules in ((60, True), (160, False)):
        draw_table(report, Terminal(width=width, rules=rules))
    draw_markdown(report)


def _use_bounds(analysis: Analysis, options: dict[str, float]) -> None:
    found = _or_told(lambda: gradlog.bounds(analysis, **options))
    if found is None:
        return
    for row in found.rows:
        assert row.value is not None or row.why
        assert all(value is None or math.isfinite(value) for value in (row.value, row.worst))
    _write(gradlog.bounds_document(found, curves=curves) for curves in (True, False))
    _draw(bounds_report(found))
    list(as_csv.write_bounds([found]))
    list(as_csv.write_curves([found]))


def _use_advice(analysis: Analysis) -> None:
    found = _or_told(lambda: gradlog.advise(analysis))
    if found is None:
        return
    _write([gradlog.advice_document(found)])
    _draw(advice_report(found))
    list(as_csv.write_advice([found]))
    if found.schedule is not None:
        list(as_csv.write_schedule(found.schedule))


def _use_comparison(baseline: Analysis, run: Analysis, align: str | None) -> None:
    found = _or_told(lambda: gradlog.compare(baseline, run, align=align))
    if found is None:
        return
    _write([gradlog.comparison_document(found)])
    _draw(comparison_report(found))
    list(as_csv.write_comparisons([found]))
    _gate_comparison(found)


def _alignments(baseline: Analysis, run: Analysis) -> list[str | None]:
    """By step only where both span the same ones, as the command line sees to."""
    runs = (baseline, run)
    if all(side.steps.step.size for side in runs):
        shared = _or_told(lambda: gradlog.shared_rows([side.steps.step for side in runs], ["a", "b"]))
        if shared == [(0, side.run.rows) for side in runs]:
            return [None, "fraction", "step"]
    return [None, "fraction"]


def _gate_comparison(found: Comparison) -> None:
    known = gradlog.comparison_vocabulary([found.baseline.settings, found.run.settings])
    _gate((*CHANGES, *_rules()), known, lambda rule: gradlog.judge_comparison(found, [rule]))


def _rules() -> Iterator[str]:
    arguments = {
        BY_PREDICTOR: ("zero", "one-step"), BY_EPSILON: ("0.1", "0.01"), BY_ROWS: ("gradients",), "": ("",)
    }  # fmt: skip
    for name, quantity in of_rules().items():
        for argument in arguments[quantity.argument]:
            for condition in ("> 1", "< 0.001", "!= 3 in *"):
                yield f"{spelled(name, argument)} {condition}"
    yield "kappa[best] > 1"


def _gate(
    texts: Iterable[str],
    known: Vocabulary,
    judge: Callable[[gradlog.Rule], Iterable[gradlog.Violation]],
) -> None:
    for text in texts:
        rule = _or_told(lambda text=text: parse_rule(text, known))  # type: ignore[misc]
        for violation in () if rule is None else judge(rule):
            line = violation_text(violation)
            assert "\n" not in line
            assert "nan" not in line
