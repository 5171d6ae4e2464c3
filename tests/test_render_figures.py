"""Numbers, sizes, shortened names and sparklines."""

from __future__ import annotations

import math

import pytest
from rich.cells import cell_len

from gradmf.cli.formats.shortening import shorten, shorten_all
from gradmf.gradlog.reports.figures import data_size, duration, numbers, percent, significant
from gradmf.gradlog.reports.sparkline import ASCII, BLOCKS, draw_sparkline
from gradmf.gradlog.sizes import extents


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "-"),
        (0.0, "0"),
        (1.0, "1.000"),
        (0.99996, "1.000"),
        (9.9996, "10.00"),
        (-0.12345, "-0.1235"),
        (0.00012346, "0.0001235"),
        (0.000012345, "1.234e-05"),
        (1234.5, "1,234"),
        (332421.7, "332,422"),
        (12345678.0, "1.235e+07"),
        (7e37, "7.000e+37"),
    ],
)
def test_four_significant_digits(value: float | None, shown: str) -> None:
    assert significant(value) == shown


def test_a_column_with_large_numbers_is_all_powers_of_ten() -> None:
    assert numbers([1e8, 25.0, None]) == ["1.000e+08", "2.500e+01", "-"]


def test_percent() -> None:
    assert [percent(x) for x in (None, 0.0, 0.0004, 0.1234, 1.0)] == ["-", "0.0%", "<0.1%", "12.3%", "100.0%"]
    assert percent(0.00987, 2) == "0.99%"


def test_sizes_and_times() -> None:
    sizes = [0, 999, 1000, 99_960, 999_600, 1_073_741_824, 10**18]
    assert [data_size(size) for size in sizes] == [
        "0 bytes", "999 bytes", "1.00 kB", "100 kB", "1.00 MB", "1.07 GB", "1000 PB"
    ]  # fmt: skip
    assert [duration(s) for s in (0.123, 9.996, 61.2, 119.6, 7322)] == [
        "0.12 s", "10.0 s", "61.2 s", "2 min 00 s", "2 h 02 min"
    ]  # fmt: skip
    assert extents((64, 3, 3)) == "64x3x3"


def test_shortening_keeps_both_ends_and_the_width() -> None:
    assert shorten("short", 10, unicode=True) == "short"
    assert shorten("transformer.weight", 9, unicode=True) == "tran…ight"
    assert shorten("transformer.weight", 9, unicode=False) == "tra...ght"
    for width in range(1, 18):
        assert cell_len(shorten("重みの勾配テンソル", width, unicode=True)) <= width


def test_shortening_looks_for_a_cut_that_tells_names_apart() -> None:
    names = [f"model.layers.{layer}.feed_forward.weight" for layer in range(12)]
    assert len(set(shorten_all(names, 26, unicode=True))) == 12


def test_sparkline_means_over_bins() -> None:
    drawn = draw_sparkline([0.0, 2.0, 3.0, 5.0, 8.0, 8.0], 3)
    assert drawn is not None
    assert (drawn.text[0], drawn.text[-1]) == (BLOCKS[0], BLOCKS[-1])
    assert (drawn.low, drawn.high, drawn.bin, len(drawn.text)) == (1.0, 8.0, 2, 3)
    assert drawn.caption() == "from 1.000 to 8.000, mean of 2 steps a character"


def test_sparkline_takes_nan_flat_and_empty_series() -> None:
    assert draw_sparkline([], 10) is None
    assert draw_sparkline([math.nan, math.nan], 10) is None
    gap = draw_sparkline([1.0, math.nan, 2.0], 10)
    assert gap is not None
    assert gap.text == f"{BLOCKS[0]} {BLOCKS[-1]}"
    flat = draw_sparkline([0.5] * 7, 10)
    assert flat is not None
    assert len(set(flat.text)) == 1
    zero = draw_sparkline([0.0, 0.0], 10, ASCII)
    assert zero is not None
    assert len(zero.text) == 2


def test_sparkline_over_decades_is_logarithmic() -> None:
    drawn = draw_sparkline([10.0**-exponent for exponent in range(8)], 8)
    assert drawn is not None
    assert drawn.text == BLOCKS[::-1]
    assert "log scale" in drawn.caption()
