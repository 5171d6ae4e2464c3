"""Documents that are damaged, cut short, or made by hand: each is told in a line."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import write_store
from gradmf import gradlog
from gradmf.gradlog import FoundPredictor


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    tensors = {"a": rng.standard_normal((40, 3)), "b": rng.standard_normal((40, 2, 2))}
    path = write_store(tmp_path_factory.mktemp("run") / "run.zarr", tensors)
    analysis = gradlog.analyze(path, gradlog.Settings(subspace=2), tensor_steps=True)
    return json.loads(json.dumps(gradlog.analysis_document(analysis)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("run.rows", 0),
        ("run.tensors", 1.5),
        ("run.attributes", []),
        ("settings.predictors.0", 3),
        ("settings.epsilons", ""),
        ("settings.strict", "no"),
        ("total.energy", -1.0),
        ("total.energy", 1e999),
        ("total.predictors.0.predictor", [1]),
        ("total.predictors.1.kappa", "low"),
        ("total.predictors.1.kappa", -1.0),
        ("total.predictors.1.scale", True),
        ("total.spectrum.rank.0.upper", {}),
        ("total.spectrum.rank.0.upper", 0),
        ("total.spectrum.rank.0.rank", 2000),
        ("total.spectrum.rank.0.epsilon", None),
        ("total.spectrum.effective_rank", "two"),
        ("total.subspace.window", 1e999),
        ("tensors.0.predictors.1.path_length", [None]),
        ("tensors.0.predictors.1.predictor", "quadratic"),
        ("tensors.0.shape", [None]),
        ("steps.step", []),
        ("steps.grad_norm", [[1.0]] * 40),
        ("tensor_steps.edges.1", 1 << 70),
        ("tensor_steps.edges.2", 1),
        ("tensor_steps.tensors.0.product", {}),
        # of another kind, which Python would take for the right one
        ("run.rows", 40.0),
        ("run.rows", True),
        ("run.dtypes", "float32"),
        ("run.path", "half \ud800 of a character"),
        ("run.attributes", json.loads("[" * 70 + "]" * 70)),
        ("total.parameters", "7"),
        ("total.energy", "1.0"),
        ("total.spectrum.singular_values.0", "3.0"),
        ("steps.step.3", 3.5),
        ("steps.grad_norm.3", None),
        ("steps.grad_norm.3", "1.0"),
        ("steps.path_length.linear.3", True),
        ("tensor_steps.tensors.0.energy.3", None),
        ("total.spectrum.confidence", 10**400),
        # that don't fit together
        ("run.tensors", 3),
        ("run.parameters", 8),
        ("run.rows", 41),
        ("settings.epsilons", [0.05, 0.1, 0.01]),
        ("settings.epsilons", [0.1, 0.05]),
        ("settings.predictors.1", "ema:0.6"),
        ("settings.predictors.1", "quadratic"),
        ("settings.rank", "none"),
        ("settings.subspace", 3),
        ("total.predictors.1.kappa", None),
        ("total.predictors.1.kappa", 0.5),
        ("total.predictors.2.predictor", "one-step"),
        ("total.spectrum", None),
        ("total.spectrum.method", "other"),
        ("total.spectrum.rank.1.epsilon", 0.04),
        ("total.spectrum.rank.0.residual", -1.0),
        ("total.spectrum.rank.0.residual", 1e6),
        ("total.spectrum.stable_rank", None),
        ("total.spectrum.effective_rank", 1e6),
        ("total.spectrum.singular_values", [1.0]),
        ("total.spectrum.singular_values.0", 1e200),
        ("tensors.1.name", "a"),
        ("tensors.0.shape", [4]),
        ("tensors.0.predictors.1.path_length", 0.0),
        ("steps.cosine", []),
        ("steps.kappa.linear", []),
        ("steps.kappa", {}),
        ("steps.path_length", {}),
        ("steps.grad_norm.3", 99.0),
        ("steps.grad_norm.3", -1.0),
        ("steps.path_length.linear.3", 99.0),
        ("steps.product.linear.3", 1e300),
        ("tensor_steps.edges", [0, 40]),
        ("tensor_steps.tensors.1.name", "a"),
        ("tensor_steps.tensors.0.energy.3", 99.0),
        ("tensor_steps.tensors.0.energy", []),
    ],
)
def test_values_that_cannot_be_are_told(document: dict[str, Any], place: str, value: object) -> None:
    damaged = copy.deepcopy(document)
    *inner, last = (int(word) if word.isdigit() else word for word in place.split("."))
    holder: Any = damaged
    for word in inner:
        holder = holder[word]
    holder[last] = value
    text = json.dumps(damaged).replace("Infinity", "1e999")
    with pytest.raises(gradlog.DataError, match=r"^x\.json: a damaged result of gradmf analyze: .*anew$"):
        gradlog.read_analyses(text, "x.json")


OPTIONAL = {
    "subspace", "inside", "effective_rows", "effective_parameters",
    "top_row", "top_row_share", "quiet_row", "quiet_level",
}  # fmt: skip
"""Fields that documents of earlier versions, or of other settings, don't have."""


def test_what_is_swapped_or_lost_is_told(document: dict[str, Any]) -> None:
    """Figures of the right kind at the wrong place: they would be read as others than were computed."""

    def refused(damaged: dict[str, Any]) -> None:
        with pytest.raises(gradlog.DataError, match=r"^x: a damaged result of gradmf analyze: .*anew$"):
            gradlog.read_analyses(json.dumps(damaged), "x")

    for place in ("steps", "tensor_steps"):
        damaged = copy.deepcopy(document)
        held = damaged[place] if place == "steps" else damaged[place]["tensors"][0]
        lengths = held["path_length"]
        lengths["linear"], lengths["one-step"] = lengths["one-step"], lengths["linear"]
        refused(damaged)
    damaged = copy.deepcopy(document)
    first, second = damaged["tensors"]
    first["spectrum"], second["spectrum"] = second["spectrum"], first["spectrum"]
    first["predictors"], second["predictors"] = second["predictors"], first["predictors"]
    refused(damaged)
    for scope in ("total", "steps", "run"):
        for lost in document[scope]:
            damaged = copy.deepcopy(document)
            del damaged[scope][lost]
            if lost not in OPTIONAL:
                refused(damaged)


def test_fields_of_a_later_version_are_no_damage(document: dict[str, Any]) -> None:
    later = copy.deepcopy(document)
    for place in (
        later, later["run"], later["settings"], later["steps"], later["tensors"][0], later["total"],
        later["total"]["predictors"][0], later["total"]["spectrum"], later["total"]["spectrum"]["rank"][0],
    ):  # fmt: skip
        place["of a later version"] = {"any": [1]}
    assert gradlog.read_analyses(json.dumps(later), "x") is not None
    (read,) = gradlog.read_analyses(json.dumps(later), "x")
    assert json.loads(json.dumps(gradlog.analysis_document(read))) == document


def test_ranks_hold_their_residual(document: dict[str, Any]) -> None:
    (read,) = gradlog.read_analyses(json.dumps(document), "x")
    for scope, held in ((read.total, document["total"]), (read.tensors[1], document["tensors"][1])):
        assert scope.spectrum is not None
        residuals = [rank.residual for rank in scope.spectrum.rank]
        assert residuals == [rank["residual"] for rank in held["spectrum"]["rank"]]
        assert None not in residuals


def test_names_may_hold_what_ends_a_line_elsewhere(document: dict[str, Any]) -> None:
    named = copy.deepcopy(document)
    named["run"]["path"] = "a\u2028b\x85c\x0cd"
    line = json.dumps(named, ensure_ascii=False)
    paths = [read.run.path for read in gradlog.read_analyses(f"{line}\r\n\r\n{line}\n", "x")]
    assert paths == [named["run"]["path"]] * 2


def test_an_interval_without_an_end_is_one(tmp_path: Path) -> None:
    """Infinity is null in JSON: what is no more than noise must not become what cannot be said."""
    found = FoundPredictor("ema", "ema:0.9", 2.0, 2.0, 1.0, None, 2.0, 0.7, math.inf)
    path = write_store(tmp_path / "run.zarr", {"a": np.ones((4, 2))})
    analysis = gradlog.analyze(path, search=True)
    assert analysis.search is not None
    held = dataclasses.replace(analysis.search.tensors[0], found=(found,))
    search = dataclasses.replace(analysis.search, tensors=(held,))
    text = json.dumps(gradlog.analysis_document(dataclasses.replace(analysis, search=search)))
    (read,) = gradlog.read_analyses(text, "x")
    assert read.search is not None
    [again] = read.search.tensors[0].found
    assert (again, again.predicts, found.predicts) == (found, False, False)


def test_what_is_no_json_is_told_where_it_ends(document: dict[str, Any]) -> None:
    pretty, line = json.dumps(document, indent=2), json.dumps(document)
    for text, told in (
        (pretty[:900], r"^x, line \d+: no JSON, or cut short"),
        (f"{line}\n{line[:-9]}", r"^x, line 2: no JSON, or cut short"),
        (
            f"{line}\n{line.replace(': 1.0', ': NaN', 1)}",
            r"^x, line 2: no JSON, or cut short: NaN is no number",
        ),
        (line.replace(": 1.0", ": Infinity", 1), r"^x: no JSON, or cut short: Infinity is no number"),
        ("[" * 100_000, r"^x: no JSON, or cut short: lists within lists"),
    ):
        with pytest.raises(gradlog.DataError, match=told) as caught:
            gradlog.read_analyses(text, "x")
        assert "\n" not in str(caught.value)


def test_the_document_itself_reads(document: dict[str, Any]) -> None:
    (analysis,) = gradlog.read_analyses(json.dumps(document), "x")
    assert json.loads(json.dumps(gradlog.analysis_document(analysis))) == document
