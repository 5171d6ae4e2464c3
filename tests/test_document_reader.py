"""Documents that are damaged, cut short, or made by hand: each is told in a line."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from conftest import write_store
from gradmf import gradlog


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
