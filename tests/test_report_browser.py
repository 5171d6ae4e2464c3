"""Reports as a browser shows them: widths, colours, keyboard, no scripts, no network, what axe-core finds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_plot import tensors_of, write

from gradmf import gradlog

pytestmark = pytest.mark.extras

WIDTHS = (360, 900, 1600)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    places = (
        os.environ.get("CHROMIUM"),
        *map(shutil.which, ("chromium", "chromium-browser", "google-chrome")),
    )
    place = next(filter(None, places), None)
    if place is None:
        pytest.skip("no Chromium: put one on the PATH, or name it in CHROMIUM")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of one run, one of two, and one of a run that has gaps."""
    folder = tmp_path_factory.mktemp("pages")
    logs = [write(folder / f"{name}.zarr", tensors_of(seed)) for seed, name in ((1, "first"), (7, "second"))]
    runs = [gradlog.analyze_for_report(log) for log in logs]
    bare = gradlog.analyze(
        write(folder / "bare.zarr", tensors_of(3), loss=False), gradlog.Settings(rank="none")
    )
    held = {"one": runs[0], "two": runs, "bare": bare}
    for name, of in held.items():
        gradlog.save_report(gradlog.report(of), folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in held}


@pytest.fixture(scope="module")
def axe() -> str:
    package = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    (script,) = Path(next(iter(package.__path__))).glob("**/axe.min.js")
    return script.read_text()


def opened(
    browser: Any, path: Path, width: int = 900, scheme: str = "light", **how: Any
) -> tuple[Any, list[str]]:
    """A page, and what went wrong on it: errors, warnings, and requests for anything but the file itself."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **how)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def request(sent: Any) -> None:
        if sent.url != path.as_uri() and not sent.url.startswith("data:"):
            wrong.append(sent.url)

    page.on("request", request)
    page.goto(path.as_uri())
    return page, wrong


@pytest.mark.parametrize("name", ["one", "two", "bare"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_pages_fit_and_axe_finds_nothing(
    browser: Any, pages: dict[str, Path], axe: str, name: str, scheme: str
) -> None:
    page, wrong = opened(browser, pages[name], WIDTHS[0], scheme)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(axe)
    for width in (WIDTHS[0], WIDTHS[-1]):
        page.set_viewport_size({"width": width, "height": 900})
        found = page.evaluate("axe.run()")["violations"]
        told = [(each["id"], [node["target"] for node in each["nodes"]][:3]) for each in found]
        assert not told, json.dumps(told, indent=1)
    assert not wrong
    page.close()


def cells(page: Any, column: int) -> list[str]:
    script = "(at) => [...document.querySelectorAll('#run-1-table tbody tr')].filter(r => !r.hidden).map("
    return list(page.evaluate(f"{script}r => r.cells[at].textContent.trim())", column))


def test_the_table_of_tensors_is_sorted_and_filtered_by_keyboard(
    browser: Any, pages: dict[str, Path]
) -> None:
    page, wrong = opened(browser, pages["one"])
    headings = [text.strip() for text in page.locator("#run-1-table thead th").all_text_contents()]
    names, shares = cells(page, 0), cells(page, headings.index("share"))
    assert shares == sorted(shares, key=lambda text: -float(text.rstrip("%")))
    button = page.locator("#run-1-table thead button").nth(0)
    button.focus()
    page.keyboard.press("Enter")
    assert cells(page, 0) == ["h.2.b", "h.2.w", "h.10.w"]  # numbers by value
    assert page.locator("#run-1-table thead th").nth(0).get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert cells(page, 0) == ["h.10.w", "h.2.w", "h.2.b"]
    parameters = headings.index("parameters")
    page.locator("#run-1-table thead button").nth(parameters).focus()
    page.keyboard.press("Enter")
    assert cells(page, parameters) == ["240", "120", "6"]
    assert page.locator("#run-1-table [aria-sort]").count() == 1
    page.locator("#run-1-table-filter").focus()
    page.keyboard.type("2. W")
    assert cells(page, 0) == ["h.2.w"]
    assert page.locator("output").text_content() == "1 of 3 tensors"
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    assert sorted(cells(page, 0)) == sorted(names)
    assert not wrong
    page.close()


def test_a_page_is_whole_without_scripts(browser: Any, pages: dict[str, Path]) -> None:
    page, wrong = opened(browser, pages["one"], java_script_enabled=False)
    assert page.locator("#run-1-table tbody tr:visible").count() == 3
    assert page.locator("button").count() == 0
    assert not page.locator("#run-1-table-filter").is_visible()
    assert page.locator("figure svg:visible").count() == 4
    assert page.locator(".answer:visible").count() == 5
    assert not wrong
    page.close()


def test_what_is_to_be_known_first_stands_first(browser: Any, pages: dict[str, Path]) -> None:
    """On a usual screen nobody needs to scroll for the answers."""
    page, _ = opened(browser, pages["one"], 1600)
    for question in page.locator(".answer h3").all():
        box = question.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 900
    page.close()


@pytest.mark.parametrize("name", ["one", "two", "bare"])
def test_nothing_is_cut_on_paper(browser: Any, pages: dict[str, Path], name: str) -> None:
    """A4 less its margins is 182 mm wide: no table, figure or command is wider."""
    page, _ = opened(browser, pages[name], 688)
    page.emulate_media(media="print")
    script = "[...document.querySelectorAll('table, figure, pre')].map((each) => each.scrollWidth)"
    assert max(page.evaluate(script)) <= 688
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    heights = "[...document.querySelectorAll('figure')].map((each) => each.offsetHeight)"
    assert max(page.evaluate(heights)) < 1017  # of a page
    page.close()


def test_a_page_prints(browser: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    page, _ = opened(browser, pages["one"], scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    # A box of its own would not be shown again at the top of each page.
    boxes = "[...document.querySelectorAll('thead button')].map((b) => getComputedStyle(b).display)"
    assert set(page.evaluate(boxes)) == {"contents"}
    assert not page.locator(".filter").is_visible()
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 20_000
    page.close()
