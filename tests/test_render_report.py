"""Reports of hand-made results as text and Markdown: what a person sees."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from gradmf.cli.formats.as_markdown import draw_markdown
from gradmf.cli.formats.as_table import draw_table
from gradmf.cli.terminal.terminal import Terminal
from gradmf.gradlog import (
    Analysis,
    Cost,
    LogDescription,
    PredictorResult,
    RankResult,
    RunInfo,
    ScopeResult,
    Settings,
    SpectrumResult,
    Steps,
    TensorDescription,
    TensorResult,
)
from gradmf.gradlog.reports.analysis_report import analysis_report
from gradmf.gradlog.reports.info_report import info_report
from gradmf.gradlog.results.projection import Projection

PREDICTORS = ("zero", "one-step", "ema:0.5", "ema:0.9", "ema:0.99", "mean:5", "linear")
KAPPAS = (1.0, 1.9623, 1.2345, 1.0481, 0.9712, 1.1934, 5.7312)
NAMES = (
    "transformer.blocks.0.attention.query_projection.weight",
    "transformer.blocks.0.attention.key_projection.weight",
    "transformer.blocks.1.attention.query_projection.weight",
    "embedding.weight",
    "scale",
)


def made_spectrum(energy: float, rank: int, width: int = 0, noise: int | None = None) -> SpectrumResult:
    """Ranks around `rank`, with bounds `width` apart."""
    ranks = tuple(
        RankResult(e, rank + i, rank + i, rank + i + width, e * energy * 0.93, noise)
        for i, e in enumerate(Settings().epsilons)
    )
    method, confidence = ("sketch", 0.95) if width else ("exact", 1.0)
    projection = Projection(1024, 7) if width else None
    return SpectrumResult(
        method, confidence, energy, ranks, 8.314159, 123.456, 45.25, np.array([3.0, 2.0, 1.0]),
        projection=projection,
    )  # fmt: skip


def made_scope(
    energy: float,
    kappas: tuple[float, ...] = KAPPAS,
    rank: int = 12,
    width: int = 0,
    noise: int | None = None,
) -> Any:
    """Fields of a scope. noise : r* of noise, where it is known"""
    return {
        "energy": energy,
        "predictors": tuple(
            PredictorResult(
                name,
                kappa * energy,
                kappa,
                min(kappa, 1.0) * 0.98,
                None if name == "zero" else -0.1234,
                1.9 if noise else None,
            )
            for name, kappa in zip(PREDICTORS, kappas, strict=True)
        ),
        "spectrum": made_spectrum(2 * energy, rank, width, noise),
    }


def made_analysis(
    *,
    path: str = "runs/mlp.zarr",
    names: tuple[str, ...] = NAMES,
    kappas: tuple[float, ...] = KAPPAS,
    rows: int = 512,
    rank: int = 12,
    width: int = 0,
    noise: int | None = None,
) -> Analysis:
    """An analysis with numbers of everyday sizes."""
    energies = [10.0 * (position + 1) for position in range(len(names))]
    shapes = [(512, 64), (64,), (16, 3, 3, 3), (1024, 512), ()][: len(names)]
    tensors = tuple(
        TensorResult(
            parameters=int(np.prod(shape)),
            name=name,
            shape=shape,
            **made_scope(energy, kappas, rank, width, noise),
        )
        for name, shape, energy in zip(names, shapes, energies, strict=True)
    )
    parameters = sum(tensor.parameters for tensor in tensors)
    series = {
        name: np.full(rows, kappa) + np.linspace(0, 0.1, rows)
        for name, kappa in zip(PREDICTORS, kappas, strict=True)
    }
    steps = Steps(10 * np.arange(rows), np.ones(rows), np.full(rows, np.nan), series)
    return Analysis(
        "0.1.0",
        RunInfo(path, rows, parameters, len(names), ("float32",), {"model": "mlp"}),
        Settings(),
        ScopeResult(parameters=parameters, **made_scope(sum(energies), kappas, rank, width, noise)),
        tensors,
        steps,
        (),
        Cost(2.314, 1_073_741_824, "zarrs"),
    )


def made_description(shards: tuple[int, ...] | None = None, **changed: Any) -> LogDescription:
    """A description of a log of two tensors."""
    tensors = tuple(
        TensorDescription(
            name, shape, "float32", 100, int(np.prod(shape)), (64, *shape), shards, ("bytes", "crc32c"),
            "zarrs", 8, 0, 1_234_567, 2_000_000,
        )
        for name, shape in (("layer.weight", (64, 32)), ("scale", ()))
    )  # fmt: skip
    fields: dict[str, Any] = {
        "path": "runs/mlp.zarr",
        "format_version": 1,
        "zarr_format": 3,
        "rows": 100,
        "steps": (0, 990),
        "parameters": 2049,
        "tensors": tensors,
        "series": ("loss", "lr"),
        "attributes": {"model": "mlp", "optimizer": {"name": "sgd", "lr": 0.1}},
        "stored_bytes": 2_469_134,
        "raw_bytes": 4_000_000,
        "warnings": (),
    }
    return LogDescription(**{**fields, **changed})


def drawn(analysis: Analysis, terminal: Terminal = Terminal(), *, quiet: bool = False) -> str:  # noqa: B008
    return draw_table(analysis_report(analysis, quiet=quiet), terminal)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("width", [48, 72, 80, 100, 120, 160, 240])
@pytest.mark.parametrize("color", [False, True])
def test_nothing_is_wider_than_the_terminal(width: int, color: bool) -> None:
    terminal = Terminal(width=width, color=color, rules=True)
    for analysis in (made_analysis(), made_analysis(path="very/" * 60 + "long.zarr", width=3, rank=1000)):
        for line in plain(drawn(analysis, terminal)).splitlines():
            assert cell_len(line) <= width
    info = draw_table(info_report(made_description(shards=(64, 64, 32))), terminal)
    assert all(cell_len(line) <= width for line in plain(info).splitlines())


def test_a_terminal_of_80_columns_shows_one_epsilon_and_160_show_all() -> None:
    narrow, wide = (drawn(made_analysis(), Terminal(width=width)) for width in (80, 160))
    assert "r*(0.05)" in narrow
    assert "r*(0.1)" not in narrow.partition("Left out")[0]
    assert all(f"r*({epsilon})" in wide for epsilon in ("0.1", "0.05", "0.01"))
    assert all(name in wide for name in NAMES)
    told = next(line for line in narrow.splitlines() if line.startswith("Left out to fit 80 columns: "))
    assert "r*(0.1), r*(0.01)" in told
    assert "Left out" not in wide


def test_shortened_names_stay_apart() -> None:
    lines = drawn(made_analysis(), Terminal(width=80)).splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("tensor "))
    names = [line.split("  ")[0] for line in lines[start + 1 : start + 6]]
    assert any("…" in name for name in names)
    assert len(set(names)) == 5


def test_nothing_is_shortened_or_coloured_in_a_pipe() -> None:
    long_name = ".".join(["module"] * 100)
    text = drawn(made_analysis(path="x" * 500, names=(long_name, "b")))
    assert long_name in text
    assert "x" * 500 in text
    assert "\x1b" not in text
    assert "─" not in text
    assert "…" not in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_without_colour_there_is_no_control_sequence() -> None:
    assert "\x1b" not in drawn(made_analysis(), Terminal(width=80, color=False, rules=True))
    assert "\x1b[" in drawn(made_analysis(), Terminal(width=80, color=True, rules=True))


def test_without_unicode_all_is_ascii() -> None:
    assert drawn(made_analysis(), Terminal(width=80, rules=True, unicode=False)).isascii()
    assert drawn(made_analysis(), Terminal(unicode=False)).isascii()
    assert draw_markdown(analysis_report(made_analysis()), unicode=False).isascii()


def test_the_best_predictor_is_marked() -> None:
    [line] = [line for line in drawn(made_analysis()).splitlines() if line.endswith("best")]
    assert line.split() == ["ema:0.99", "145.7", "0.9712", "0.9518", "-0.1234", "best"]


def test_decimal_points_stand_under_one_another() -> None:
    lines = drawn(made_analysis()).splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("predictor"))
    rows = lines[start + 1 : start + 8]
    for value in range(3):  # P, kappa, scaled kappa
        points = {[at for at, character in enumerate(row[10:]) if character == "."][value] for row in rows}
        assert len(points) == 1


def test_tensors_are_sorted_by_share_of_energy() -> None:
    text = drawn(made_analysis())
    order = [text.index(name) for name in reversed(NAMES)]
    assert order == sorted(order)
    assert "33.3%" in text


def test_the_wide_layout_puts_two_tables_side_by_side() -> None:
    lines = drawn(made_analysis(), Terminal(width=160)).splitlines()
    assert any("Path length" in line and "Predictable rank of 511 increments" in line for line in lines)


def test_bounds_on_a_rank_show_as_an_interval() -> None:
    text = drawn(made_analysis(width=2))
    assert "12-14" in text
    assert "sketch of dimension 1,024, seed 7, intervals with 95% confidence" in text
    assert "12-14" not in drawn(made_analysis())


def test_one_row_and_zero_tensors_show_dashes() -> None:
    ones = (1.0,) * len(PREDICTORS)
    text = drawn(made_analysis(rows=1, kappas=ones))
    assert "Predictable rank of 0 increments" in text
    assert "step 0)" in text
    assert "best\n" not in text
    assert "Kappa of" not in text
    base = made_analysis()
    nothing = tuple(PredictorResult(name, 0.0, None, None, None) for name in PREDICTORS)
    no_ranks = tuple(RankResult(epsilon, 0, 0, 0, 0.0) for epsilon in Settings().epsilons)
    empty = SpectrumResult("exact", 1.0, 0.0, no_ranks, None, None, None, np.zeros(0))
    dead = dataclasses.replace(base.tensors[0], energy=0.0, predictors=nothing, spectrum=empty)
    text = drawn(dataclasses.replace(base, tensors=(dead, *base.tensors[1:])))
    [line] = [line for line in text.splitlines() if line.startswith(dead.name)]
    assert line.split()[3:] == ["-"] * 8
    total = dataclasses.replace(base.total, energy=0.0, predictors=nothing, spectrum=empty)
    assert "All gradients are zero" in drawn(dataclasses.replace(base, total=total, tensors=(dead,)))


def test_without_rank_there_is_no_rank_table() -> None:
    base = made_analysis()
    total = dataclasses.replace(base.total, spectrum=None)
    tensors = tuple(dataclasses.replace(tensor, spectrum=None) for tensor in base.tensors)
    text = drawn(dataclasses.replace(base, total=total, tensors=tensors))
    assert "Path length" in text
    assert "r*" not in text
    assert "rank" not in text


def test_quiet_leaves_the_words_out() -> None:
    assert "possible directions" in drawn(made_analysis())
    assert "possible directions" not in drawn(made_analysis(), quiet=True)


@pytest.mark.parametrize(
    ("one_step", "best", "said"),
    [
        (
            1.97,
            1.01,
            "No predictor tried beats predicting nothing (kappa 1); one-step kappa 1.970 is about what",
        ),
        (1.02, 0.97, "near 1: the last gradient says little"),
        (
            3.2,
            0.7,
            "Partly predictable: ema:0.99 leaves 70.0% of the gradient energy; one-step kappa 3.200 is above",
        ),
        (
            1.5,
            0.3,
            "ema:0.99 leaves 30.0% of the gradient energy; one-step kappa 1.500 lies between",
        ),
        (0.0004, 0.01, "Near-perfect tracking: one-step leaves <0.1% of the gradient energy."),
    ],
)
def test_words_follow_the_numbers(one_step: float, best: float, said: str) -> None:
    kappas = (1.0, one_step, 4.0, 4.0, best, 4.0, 4.0)
    assert said in drawn(made_analysis(kappas=kappas))


@pytest.mark.parametrize(
    ("rank", "rows", "said"),
    [
        (
            9,
            512,
            "10 of 511 possible directions hold 95% of the increments' energy, far fewer than the 400 of",
        ),
        (250, 512, "energy, fewer than the 400 of noise with these norms."),
        (380, 512, "energy, about as many as the 400 of noise with these norms."),
        (450, 512, "energy, more than the 400 of noise with these norms: slow change takes many, too."),
        (2, 6, "of so few this says little"),
    ],
)
def test_words_on_rank_follow_the_numbers(rank: int, rows: int, said: str) -> None:
    assert said in drawn(made_analysis(rank=rank, rows=rows, noise=400))


def test_noise_stands_beside_kappas_and_ranks_where_it_is_known() -> None:
    known, unknown = drawn(made_analysis(noise=400)), drawn(made_analysis())
    assert known.count("noise ") >= 4
    assert " noise " not in unknown.partition("Hardly")[0]
    [line] = [line for line in known.splitlines() if line.startswith("one-step")]
    assert line.split()[:4] == ["one-step", "294.3", "1.962", "1.900"]
    [line] = [line for line in known.splitlines() if line.startswith("0.05 ")]
    assert line.split()[:3] == ["0.05", "13", "400"]
    narrow = drawn(made_analysis(noise=400), Terminal(width=90))
    tensors = narrow.partition("Tensors by share")[2].splitlines()[1]
    assert tensors.split() == ["tensor", "share", "best", "kappa", "noise", "r*(0.05)", "noise"]


def test_names_cannot_break_the_layout_or_command_the_terminal() -> None:
    names = ("a\x1b[31m\nb", "[bold]c[/bold]", "重み", "d|e_*`f`", "\udcff")
    for terminal in (Terminal(), Terminal(width=80, color=True)):
        text = plain(drawn(made_analysis(names=names), terminal))
        assert "\x1b" not in text
        assert r"a\x1b[31m\nb" in text
        assert "[bold]c[/bold]" in text
        assert "重み" in text
    markdown = draw_markdown(analysis_report(made_analysis(names=names)))
    assert r"d\|e\_\*\`f\`" in markdown


def test_markdown_has_whole_tables() -> None:
    text = draw_markdown(analysis_report(made_analysis()))
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert len({re.sub(r"\\\|", "", line).count("|") for line in table}) == 1
        assert len({len(line) for line in table}) == 1
        assert re.fullmatch(r"\|( -+:? \|)+", table[1])
    assert "**ema:0.99**" in text
    assert all(name in text for name in NAMES)


def test_info_shows_what_stands_out_at_any_width() -> None:
    plain_log = draw_table(info_report(made_description()), Terminal(width=160))
    assert "shards" not in plain_log
    assert "(61.7%)" in plain_log
    assert "loss, lr" in plain_log
    assert '{"name": "sgd", "lr": 0.1}' in plain_log
    tensors = tuple(
        dataclasses.replace(tensor, absent_chunks=3, name="module." * 12 + tensor.name)
        for tensor in made_description().tensors
    )
    for width in (80, 160, None):
        text = draw_table(info_report(made_description(tensors=tensors)), Terminal(width=width))
        assert "3 of 8" in text
        assert "6 absent" in text
    without = [dataclasses.replace(tensors[0], absent_rows=((0, 2), (50, 50)))]
    without.append(dataclasses.replace(tensors[1], absent_rows=((0, 80),), absent_rows_merged=True))
    assert "no gradient" not in plain_log
    for width in (80, 160, None):
        text = draw_table(info_report(made_description(tensors=tuple(without))), Terminal(width=width))
        assert "no gradient" in text
        assert "4 of 100 rows" in text
        assert "at most 81 of 100 rows" in text
