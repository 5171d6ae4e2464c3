"""JSON and CSV of hand-made results: full precision, no NaN, one shape for every run."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math

import numpy as np
from test_render_report import NAMES, made_analysis, made_description

from gradmf.cli.formats import as_csv, as_json
from gradmf.gradlog import Analysis, PredictorResult, analysis_document, description_document


def rows_of(*analyses: Analysis) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(as_csv.write_analyses(analyses)))))


def test_csv_has_a_row_a_scope_in_full_precision() -> None:
    analysis = made_analysis(path='odd, "path"\n.zarr')
    total, *tensors = rows_of(analysis)
    assert total["run"] == analysis.run.path
    assert (total["scope"], total["tensor"], total["shape"]) == ("total", "", "")
    assert [row["tensor"] for row in tensors] == list(NAMES)
    assert tensors[0]["shape"] == "512x64"
    for row, scope in zip((total, *tensors), (analysis.total, *analysis.tensors), strict=True):
        assert float(row["energy"]) == scope.energy
        for result in scope.predictors:
            assert float(row[f"path_length[{result.predictor}]"]) == result.path_length
            assert float(row[f"scaled_kappa[{result.predictor}]"]) == result.scaled_kappa
        assert scope.spectrum is not None
        for rank in scope.spectrum.rank:
            assert int(row[f"rank[{rank.epsilon}]"]) == rank.rank
            assert float(row[f"residual[{rank.epsilon}]"]) == rank.residual
    assert total["scale[zero]"] == ""


def test_csv_has_one_header_and_one_set_of_columns() -> None:
    base = made_analysis()
    ranked = made_analysis(path="b")
    plain = dataclasses.replace(
        base,
        total=dataclasses.replace(base.total, spectrum=None),
        tensors=tuple(dataclasses.replace(tensor, spectrum=None) for tensor in base.tensors),
    )
    text = "".join(as_csv.write_analyses([plain, ranked]))
    assert text.count("run,scope,tensor") == 1
    assert len({len(row) for row in csv.reader(io.StringIO(text))}) == 1
    assert rows_of(plain)[0]["rank[0.1]"] == ""
    assert "".join(as_csv.write_analyses([])) == ""


def test_csv_and_json_have_no_nan() -> None:
    base = made_analysis()
    broken = PredictorResult("one-step", math.inf, math.nan, None, None)
    predictors = (base.total.predictors[0], broken)
    total = dataclasses.replace(base.total, predictors=predictors)
    analysis = dataclasses.replace(base, total=total, tensors=())
    text = "".join(as_csv.write_analyses([analysis]))
    assert "nan" not in text
    assert ",inf" not in text
    [line] = as_json.write_json_lines([analysis_document(analysis)], "utf-8")
    assert "NaN" not in line
    assert "Infinity" not in line
    assert json.loads(line)["total"]["predictors"][1]["kappa"] is None


def test_numpy_scalars_are_written_as_numbers() -> None:
    base = made_analysis()
    analysis = dataclasses.replace(
        base, total=dataclasses.replace(base.total, energy=np.float64(0.1)), tensors=()
    )
    assert rows_of(analysis)[0]["energy"] == "0.1"


def test_json_is_one_object_or_a_list() -> None:
    documents = [analysis_document(made_analysis(path=path)) for path in ("a", "b")]
    alone = json.loads("".join(as_json.write_json(documents[:1], "utf-8", several=False)))
    assert alone == documents[0]
    for count in range(3):
        text = "".join(as_json.write_json(documents[:count], "utf-8", several=True))
        assert json.loads(text) == documents[:count]
        assert text.endswith("]\n")


def test_json_is_indented_as_the_standard_encoder_does() -> None:
    """Which the writer does by itself, in pieces: a long series takes little memory."""
    series: list[float | None] = [None, 0.1, 3, -1e-300]
    document = {
        "empty": [[], {}], "mixed": [1, "x, y", True, {"é": None}], "matrix": [[1.5], [2]], "series": series,
        "floats": [None, 0.1, 3.0, -1e-300, 0.0, 2.5e5],
    }  # fmt: skip
    for encoding, escaped in (("utf-8", False), ("ascii", True)):
        (text, _) = as_json.write_json([document], encoding, several=False)
        assert text == json.dumps(document, indent=2, ensure_ascii=escaped)
    long = [{"a": {"series": series * 100_000}, "b": series}]
    pieces = list(as_json.write_json(long, "utf-8", several=True))
    assert len(pieces) > 3
    assert "".join(pieces).replace(" ", "") == json.dumps(long, indent=2).replace(" ", "") + "\n"


def test_json_escapes_only_what_the_encoding_lacks() -> None:
    document = {"path": "läufe/\udcff重み"}
    [fits] = as_json.write_json_lines([{"path": "läufe"}], "utf-8")
    assert "läufe" in fits
    for encoding in ("utf-8", "ascii", "latin-1", "no such encoding"):
        [line] = as_json.write_json_lines([document], encoding)
        assert line.isascii()
        assert json.loads(line) == document


def test_json_lines_are_lines() -> None:
    lines = list(as_json.write_json_lines([{"a": "x\ny"}, {"b": 1}], "utf-8"))
    assert lines == ['{"a":"x\\ny"}\n', '{"b":1}\n']


def test_info_in_csv_and_json() -> None:
    log = made_description(shards=(64, 64, 32))
    rows = list(csv.DictReader(io.StringIO("".join(as_csv.write_descriptions([log, log])))))
    assert len(rows) == 4
    assert rows[0]["chunks"] == "64x64x32"
    assert rows[0]["codecs"] == "bytes crc32c"
    assert rows[1]["shape"] == ""
    [line] = as_json.write_json_lines([description_document(log)], "utf-8")
    assert json.loads(line)["schema"] == "gradmf.info/1"
