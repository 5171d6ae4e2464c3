"""Pages of reports, held to the results that they show; and what odd names and gaps make of them."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from stores import format1_store, walk
from test_plot import tensors_of, write

from documents import ROOT
from gradmf import gradlog
from gradmf.cli.main import main
from gradmf.gradlog.reports.figures import numbers, percent
from gradmf.gradlog.results.windows import ScopeWindows, Windows

pytestmark = pytest.mark.extras

LIMIT = 2_000_000
"""Bytes of a page."""
VOID = {"meta", "br", "hr", "input", "img", "link"}


class Elements(HTMLParser):
    """What a page is made of. Fails where elements are not closed in the order in which they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def section(page: str, name: str) -> str:
    """Its text, without markup."""
    held = page.partition(f'<section id="{name}"')[2].partition("</section>")[0]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<svg.*?</svg>|<[^>]*>", " ", held, flags=re.DOTALL)))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("logs")
    return [write(folder / f"{name}.zarr", tensors_of(seed)) for seed, name in ((1, "first"), (7, "second"))]


@pytest.fixture(scope="module")
def runs(logs: list[Path]) -> list[gradlog.ReportedRun]:
    return [gradlog.analyze_for_report(log) for log in logs]


@pytest.fixture(scope="module")
def page(runs: list[gradlog.ReportedRun]) -> str:
    return gradlog.report(runs[0])


def test_a_page_says_what_the_analysis_found(runs: list[gradlog.ReportedRun], page: str) -> None:
    analysis = runs[0].analysis
    best = analysis.total.best
    assert best is not None
    first = section(page, "run-1-verdict")
    assert f"leaves {percent(best.kappa)} of the gradient energy" in first
    assert f"the same forecast leaves {percent(best.reference)}" in first
    document = gradlog.analysis_document(analysis)
    tables = section(page, "run-1-tables")
    for found in document["total"]["predictors"]:
        assert found["predictor"] in tables
        assert numbers([found["kappa"]])[0] in tables
    for rank in document["total"]["spectrum"]["rank"]:
        assert f" {rank['rank']:,} " in tables
    for finding in gradlog.find(analysis):
        assert finding.tensor is not None or finding.text in section(page, "run-1-findings")
    tensors = section(page, "run-1-tensors")
    for tensor in document["tensors"]:
        assert tensor["name"] in tensors
        assert percent(tensor["energy"] / document["total"]["energy"]) in tensors
    bounds = section(page, "run-1-bounds")
    for row in gradlog.bounds(analysis).rows:
        assert numbers([row.value])[0] in bounds
    advice = section(page, "run-1-advice")
    for decision in runs[0].advice.of("change"):
        assert decision.text in advice


def test_a_page_is_one_file_that_fetches_nothing(page: str) -> None:
    elements = Elements(page)
    policy = elements.all("meta")[1]["content"]
    assert policy is not None
    assert policy.startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-"
    )
    for _, attributes in elements.found:
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:image/png;base64,")), target
    assert not elements.all("link")
    assert "http-equiv" in elements.all("meta")[1]
    assert "@import" not in page
    assert len(elements.all("script")) == 1
    identifiers = [a["id"] for _, a in elements.found if "id" in a]
    assert len(set(identifiers)) == len(identifiers)
    inside = {a["href"][1:] for a in elements.all("a") if a["href"]}
    assert inside <= set(identifiers)
    used = {*re.findall(r"url\(#([^)]*)\)", page), *re.findall(r'xlink:href="#([^"]*)"', page)}
    assert used <= set(identifiers)


def test_pictures_have_words(page: str) -> None:
    pictures = Elements(page).all("svg")
    assert len(pictures) == 4
    for picture in pictures:
        assert picture["role"] == "img"
        assert picture["aria-label"]
    assert page.count("<figcaption>") == 4
    assert "lies between" in str(pictures[0]["aria-label"])


def test_several_runs_are_compared_first(runs: list[gradlog.ReportedRun]) -> None:
    text = gradlog.report(runs)
    elements = Elements(text)
    sections = [attributes["id"] for attributes in elements.all("section")]
    assert sections[:3] == ["comparison", "words", "run-1-verdict"]
    assert "run-2-advice" in sections
    compared = gradlog.compare(runs[0].analysis, runs[1].analysis)
    change = compared.total.change("kappa[best]")
    assert change is not None
    told = section(text, "comparison")
    assert percent(change.baseline) in told
    assert percent(change.value) in told
    assert "A: first" in told
    assert "B: second" in told


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>&\"'{{ 7 * 7 }}"
    log = gradlog.open_log(write(tmp_path / "run.zarr", {"a": walk(40, (4, 3), 1), "b": walk(40, (5,), 2)}))
    analysis = gradlog.analyze(log, gradlog.Settings(windows=4))
    analysis = dataclasses.replace(
        analysis,
        run=dataclasses.replace(analysis.run, path=f"runs/{bad}\x00\ud800.zarr"),
        tensors=(dataclasses.replace(analysis.tensors[0], name=bad), *analysis.tensors[1:]),
        warnings=(gradlog.LogWarning("made-up", bad),),
    )
    text = gradlog.report(analysis)
    text.encode()
    assert len(Elements(text).all("script")) == 1
    assert "<script>alert" not in text
    assert "\x00" not in text
    assert "runs/" in text
    assert html.escape("{{ 7 * 7 }}") in text
    assert bad in section(text, "run-1-tensors")
    gradlog.report([analysis, analysis])


GAPS = [
    ("no loss", {"w": walk(60, (8, 5), 1), "v": walk(60, (4,), 2)}, {}, ["the log holds no series `loss`"]),
    ("one row", {"w": np.ones((1, 4), np.float32)}, {}, ["One row has no past"]),
    (
        "all zero",
        {"w": np.zeros((30, 4), np.float32), "v": np.zeros((30, 2), np.float32)},
        {},
        ["all gradients are zero", "All gradients are zero: there is nothing to predict."],
    ),
    (
        "no spectrum",
        {"w": walk(60, (8, 5), 1), "v": walk(60, (4,), 2)},
        {"rank": "none"},
        ["Cumulative spectrum of the increments: "],
    ),
    (
        "sketch",
        {"w": walk(60, (40, 5), 1), "v": walk(60, (4,), 2)},
        {"project": 64},
        ["Its figures are estimates from a sketch."],
    ),
]


@pytest.mark.parametrize(("tensors", "settings", "told"), [g[1:] for g in GAPS], ids=[g[0] for g in GAPS])
def test_what_is_missing_says_why_in_its_place(
    tensors: dict[str, np.ndarray], settings: dict[str, object], told: list[str], tmp_path: Path
) -> None:
    log = write(tmp_path / "run.zarr", tensors, loss=False)
    text = gradlog.report(gradlog.analyze_for_report(log, gradlog.Settings(**settings)))  # type: ignore[arg-type]
    Elements(text)
    for line in told:
        assert line in html.unescape(text)
    assert (
        "nan" not in re.sub(r"<svg.*?</svg>|<script>.*?</script>", "", text, flags=re.DOTALL).lower().split()
    )


def test_finished_results_say_what_they_lack(logs: list[Path], tmp_path: Path) -> None:
    place = tmp_path / "run.json"
    assert main(["analyze", str(logs[0]), "--format", "json", "-o", str(place)]) == 0
    out = tmp_path / "report.html"
    assert main(["report", "-q", str(place), "-o", str(out)]) == 0
    text = out.read_text()
    assert "analyze --search" in section(text, "run-1-bounds")
    assert "Give the log itself." in section(text, "run-1-advice")
    assert "the analysis holds no windows of training" in section(text, "run-1-figures")
    assert str(tmp_path) not in text.replace(str(logs[0]), "")


def test_runs_that_cannot_be_compared_say_why(runs: list[gradlog.ReportedRun]) -> None:
    first = runs[0].analysis
    other = dataclasses.replace(
        first,
        run=dataclasses.replace(first.run, path="u.zarr", attributes={"gradlog": {"kind": "updates"}}),
    )
    told = section(gradlog.report([first, other]), "comparison")
    assert "cannot be compared" in told
    assert "a log of updates" in told


def long_run(folder: Path, tensors: int, windows: int, rows: int) -> gradlog.Analysis:
    """As JSON has one: figures of a few tensors for many, under other names."""
    names = {f"w{number}": walk(rows, (4, 3), number) for number in range(5)}
    log = format1_store(folder / "run.zarr", names)
    few = gradlog.analyze(log, gradlog.Settings(windows=windows))
    assert few.windows is not None
    held: list[ScopeWindows] = [few.windows.tensors[number % 5] for number in range(tensors)]
    share = 5 / tensors
    named = tuple(
        dataclasses.replace(
            few.tensors[number % 5],
            name=f"transformer.layers.{number // 6}.block.{number % 6}.weight",
            energy=few.tensors[number % 5].energy * share,
        )
        for number in range(tensors)
    )
    return dataclasses.replace(
        few,
        tensors=named,
        windows=Windows(few.windows.rows, few.windows.step, few.windows.total, held),
        run=dataclasses.replace(few.run, tensors=tensors),
    )


def test_many_tensors_and_windows_make_a_small_page_soon(tmp_path: Path) -> None:
    analysis = long_run(tmp_path, 150, 100, 1000)
    gradlog.report(gradlog.analyze(ROOT / "sample_logs" / "mlp-gd.zarr"))  # loads what draws
    began = time.process_time()
    text = gradlog.report(analysis)
    # Tests are not timed: a page that takes several times as long as it should is a mistake.
    assert time.process_time() - began < 15
    assert len(text.encode()) < LIMIT
    assert text.count('<th scope="row"') > 150


def test_a_page_is_written_whole_or_not_at_all(page: str, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("before")
    gradlog.save_report(page, out)
    assert out.read_text() == page
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(gradlog.UsageError, match=r"is written to \.html"):
        gradlog.save_report(page, tmp_path / "report.txt")


def test_labels_and_runs_are_checked(runs: list[gradlog.ReportedRun]) -> None:
    with pytest.raises(gradlog.UsageError, match="no runs"):
        gradlog.report([])
    with pytest.raises(gradlog.UsageError, match="1 labels for 2 runs"):
        gradlog.report(runs, labels=["a"])
    assert "A: mine" in gradlog.report(runs, labels=["mine", "yours"])


def test_the_same_run_gives_the_same_page(logs: list[Path], page: str) -> None:
    assert gradlog.report(gradlog.analyze_for_report(logs[0])) == page


def test_the_command_that_a_page_names_makes_it_again(
    logs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "--windows",
        "4",
        "--predictor",
        "one-step",
        "--rows",
        "5:",
        "--epsilon",
        "0.1",
        "--exclude",
        "*b",
    ]
    assert main(["report", "-q", str(logs[0]), *words, "-o", "report.html"]) == 0
    text = Path("report.html").read_text()
    command = html.unescape(re.search(r"<pre[^>]*>(.*?)</pre>", text, re.DOTALL)[1])  # type: ignore[index]
    import shlex

    again = shlex.split(command)
    assert again[:2] == ["gradmf", "report"]
    assert main([*again[1:], "-q"]) == 0
    assert Path("report.html").read_text() == text


def test_the_report_of_the_documents_is_of_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for drawings, which other versions of matplotlib draw otherwise, and the versions themselves."""
    monkeypatch.chdir(ROOT)

    def told(text: str) -> str:
        text = re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
        return text.partition("<h3>This page</h3>")[0]

    samples = [f"sample_logs/{name}.zarr" for name in ("mlp-gd", "mlp-sgd")]
    made = gradlog.report([gradlog.analyze_for_report(sample) for sample in samples])
    held = (ROOT / "docs" / "report.html").read_text()
    assert told(made) == told(held), "make docs writes it anew"
    assert json.dumps(str(ROOT)) not in json.dumps(held)
