"""Kernels against naive float64 references, with the JIT and, in a process of its own, without it."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sweeps import sweep

import reference
from gradmf.gradlog.predictors import HistoryBank, parse_predictors
from gradmf.kernels import bfloat16, column_energies, fused_pass, gram, pass_layout, short_gram

SPECS = (
    "one-step",
    "ema:0.9",
    "ema-debiased:0.99",
    "mean:1",
    "mean:5",
    "mean:4",
    "linear",
    "ema:0.0",
    "lags:0.5,-0.2,0.1",
    "mixture:0.5,0.9,0.3",
)

USUAL = (
    "zero",
    "one-step",
    "ema:0.5",
    "ema:0.9",
    "ema:0.99",
    "mean:5",
    "linear",
    "lags:1,2,3,4,5",
    "lags:1,2",
    "ema:0.3",
    "ema-debiased:0.9",
    "mixture:0.5,0.9,0.3",
    "ema:0.9",
)
"""Kinds of predictors that the kernel sums at once, seconds of each kind, and such as weigh averages."""


def run_kernel(
    gradients: NDArray[np.floating], specs: tuple[str, ...], cuts: list[int], first: int, replace: bool
) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
    """`sums` and the block after the pass, with blocks of rows that end at `cuts`."""
    bank = HistoryBank.of(parse_predictors(specs), gradients.shape[0])
    width = gradients.shape[1] - first
    history = pass_layout.new_history(width, bank.lags, len(bank.decays))
    sums = np.zeros((gradients.shape[0], bank.sum_columns))
    done = gradients.copy()
    for start, stop in zip([0, *cuts], [*cuts, gradients.shape[0]], strict=True):
        if start == stop:
            continue
        block = np.ascontiguousarray(done[start:stop])
        # What is carried to the next block holds all that later rows need.
        carried = pass_layout.CarriedHistory.of(history, width, bank.lags, gradients.dtype)
        history = np.full_like(history, np.nan)
        carried.restore(history)
        fused_pass.fused_pass(
            block, first, gradients.shape[1], start, history, bank.lags, np.array(bank.decays),
            bank.weights(start, stop), sums[start:stop], replace,
        )  # fmt: skip
        done[start:stop] = block
    return sums, done


@settings(deadline=None, max_examples=sweep(100))
@given(
    rows=st.integers(1, 9),
    width=st.sampled_from([1, 7, 512, 700]),
    dtype=st.sampled_from([np.float32, np.float64]),
    specs=st.lists(st.sampled_from(SPECS), max_size=5) | st.permutations(USUAL).map(lambda specs: specs[:9]),
    replace=st.booleans(),
    data=st.data(),
)
def test_fused_pass(
    rows: int, width: int, dtype: type, specs: list[str], replace: bool, data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    first = data.draw(st.integers(0, width - 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=2)))
    gradients = np.random.default_rng(seed).standard_normal((rows, width)).astype(dtype)
    sums, block = run_kernel(gradients, tuple(specs), cuts, first, replace)
    part = gradients[:, first:].astype(np.float64)
    increments = np.diff(part, axis=0, prepend=part[:1])
    np.testing.assert_allclose(sums[:, pass_layout.ENERGY], (part**2).sum(1), rtol=1e-12)
    np.testing.assert_allclose(sums[:, pass_layout.INCREMENT], (increments**2).sum(1), rtol=1e-12)
    lagged = np.concatenate([[0.0], (part[1:] * part[:-1]).sum(1)])
    np.testing.assert_allclose(sums[:, pass_layout.LAG_PRODUCT], lagged, rtol=1e-9, atol=1e-12)
    assert not sums[:, pass_layout.NONFINITE].any()
    for p, predictor in enumerate(parse_predictors(specs)):
        m = reference.predictions(part, predictor.spec)
        columns = sums[:, pass_layout.PREDICTORS + 3 * p :][:, :3]
        expected = np.stack([((part - m) ** 2).sum(1), (part * m).sum(1), (m**2).sum(1)], axis=1)
        np.testing.assert_allclose(columns, expected, rtol=1e-9, atol=1e-11, err_msg=predictor.spec)
    np.testing.assert_array_equal(block[:, :first], gradients[:, :first])
    written = increments.astype(dtype) if replace else gradients[:, first:]
    np.testing.assert_array_equal(block[:, first:], written)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fused_pass_counts_nonfinite_entries(dtype: type) -> None:
    gradients = np.ones((4, 600), dtype)
    gradients[1, [3, 599]] = np.nan
    gradients[3, 512] = -np.inf
    sums, _ = run_kernel(gradients, ("ema:0.9",), [2], 0, False)
    assert sums[:, pass_layout.NONFINITE].tolist() == [0, 2, 0, 1]


def test_squares_past_float32_are_finite() -> None:
    sums, _ = run_kernel(np.full((2, 5), 7e37, np.float32), ("one-step",), [], 0, True)
    assert sums[:, pass_layout.ENERGY] == pytest.approx(5 * float(np.float32(7e37)) ** 2, rel=1e-12)
    assert not sums[:, pass_layout.NONFINITE].any()


def test_average_state_keeps_double_precision() -> None:
    """After g settles, ema:0.5 halves its residual every step, far below float32's rounding of the state."""
    gradients = np.ones((40, 3), np.float32)
    sums, _ = run_kernel(gradients, ("ema:0.5",), [17], 0, False)
    residual = sums[:, pass_layout.PREDICTORS + 3 + pass_layout.RESIDUAL]
    np.testing.assert_allclose(residual, 3 * 0.25 ** np.arange(40), rtol=1e-9)


@pytest.mark.parametrize("decay", ["0.0", "0.001", "0.3", "0.5", "0.6"])
def test_averages_forget_rows_that_were_far_larger(decay: str) -> None:
    """Beside the usual predictors too, where averages are moved on in another way."""
    rng = np.random.default_rng(3)
    gradients = rng.standard_normal((40, 700)) * np.repeat([1.0, 1e14, 1e-4, 1e-7], 10)[:, None]
    averages = (f"ema:{decay}", "ema:0.9", "ema:0.99")
    specs = (*averages, "mean:5", "linear", "one-step")
    sums, _ = run_kernel(gradients, specs, [25], 0, False)
    part = gradients.astype(np.longdouble)
    for p, predictor in enumerate(parse_predictors(specs)):
        if predictor.spec not in averages:
            continue
        keep = np.longdouble(float(predictor.spec.partition(":")[2]))
        m = np.zeros_like(part)
        for t in range(1, len(part)):
            m[t] = keep * m[t - 1] + (1 - keep) * part[t - 1]
        columns = sums[:, pass_layout.PREDICTORS + 3 * p :][:, :3]
        expected = np.stack([((part - m) ** 2).sum(1), (m**2).sum(1)], axis=1).astype(np.float64)
        np.testing.assert_allclose(columns[:, [0, 2]], expected, rtol=2e-13, err_msg=predictor.spec)


@settings(deadline=None, max_examples=sweep(30))
@given(rows=st.integers(1, 30), width=st.integers(1, 40), single=st.booleans(), seed=st.integers(0, 999))
def test_gram(rows: int, width: int, single: bool, seed: int) -> None:
    increments = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    doubles = increments.astype(np.float64)
    found = gram.row_gram(increments, (doubles**2).sum(1), single)
    np.testing.assert_allclose(found, doubles @ doubles.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gram.column_gram(increments), doubles.T @ doubles, rtol=1e-12, atol=1e-12)
    sigma = np.linalg.svd(doubles, compute_uv=False)
    squares = gram.squared_singular_values(gram.column_gram(increments))
    np.testing.assert_allclose(squares[: sigma.size], sigma**2, rtol=0, atol=1e-12 * squares[0])


@settings(deadline=None, max_examples=sweep(60))
@given(
    rows=st.integers(1, short_gram.MOST_ROWS),
    width=st.sampled_from([1, 7, 130, 1500]),
    dtype=st.sampled_from([np.float32, np.float64]),
    data=st.data(),
)
def test_gram_of_few_rows(rows: int, width: int, dtype: type, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, rows))
    first = data.draw(st.integers(0, width - 1))
    last = data.draw(st.integers(first + 1, width))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    block = (rng.standard_normal((rows, width)) * 10 ** rng.uniform(-3, 3, (rows, 1))).astype(dtype)
    before = block.copy()
    found = gram.few_rows_gram(block, row, first, last)
    doubles = block[row:, first:last].astype(np.float64)
    expected = doubles @ doubles.T
    scale = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    assert found.shape == (rows - row, rows - row)
    assert np.all(np.abs(found - expected) <= 1e-13 * scale)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(block, before)


def test_gram_of_few_rows_that_are_too_far_apart() -> None:
    block = np.array([[1.0, 2.0], [np.inf, 0.0]], np.float32)
    with pytest.raises(OverflowError, match="largest float32"):
        gram.few_rows_gram(block, 0, 0, 2)
    assert gram.few_rows_gram(block, 0, 1, 2).tolist() == [[4.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("width", [1024, 1025, 5000])
def test_one_history_serves_all_columns_of_a_block_with_all_rows(width: int) -> None:
    """The sums are the same bits as with a history of their own, which is carried on."""
    gradients = np.random.default_rng(3).standard_normal((9, width)).astype(np.float32)
    bank = HistoryBank.of(parse_predictors(SPECS), 9)
    found = []
    for columns in (width, 1):
        block, sums = gradients.copy(), np.zeros((9, bank.sum_columns))
        fused_pass.fused_pass(
            block, 0, width, 0, pass_layout.new_history(columns, bank.lags, len(bank.decays)), bank.lags,
            np.array(bank.decays), bank.weights(0, 9), sums, True,
        )  # fmt: skip
        found.append((block, sums))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_a_history_that_is_too_short_is_refused() -> None:
    bank = HistoryBank.of(parse_predictors(("ema:0.5",)), 4)
    history = pass_layout.new_history(1, bank.lags, len(bank.decays))
    if fused_pass.WITHOUT_JIT:
        pytest.skip("checked where memory is handed to C")
    with pytest.raises(ValueError, match="a history of 1 panels"):
        fused_pass.fused_pass(
            np.zeros((2, 5000), np.float32), 0, 5000, 2, history, bank.lags, np.array(bank.decays),
            bank.weights(2, 4), np.zeros((2, bank.sum_columns)), False,
        )  # fmt: skip


@pytest.mark.parametrize("scale", [1e-30, 1e-19, 1.0, 3e37])
def test_single_precision_gram_survives_any_scale(scale: float) -> None:
    """Products that float32 would lose or overflow are formed in float64."""
    increments = (np.random.default_rng(0).standard_normal((5, 4000)) * scale).astype(np.float32)
    doubles = increments.astype(np.float64)
    found = gram.row_gram(increments, (doubles**2).sum(1), True)
    np.testing.assert_allclose(found, doubles @ doubles.T, rtol=1e-5, atol=1e-5 * 4000 * scale**2)


def test_single_precision_gram_is_checked() -> None:
    """Equal entries round the same way at every addition: float32 sums drift, and the check sees it."""
    increments = np.full((3, 4096), np.float32(1.2345678e-3))
    increments *= np.array([[1.0], [0.7], [0.3]], np.float32)
    doubles = increments.astype(np.float64)
    exact = doubles @ doubles.T
    assert np.abs((increments @ increments.T) / exact - 1).max() > 1e-6
    found = gram.row_gram(increments, (doubles**2).sum(1), True)
    np.testing.assert_allclose(found, exact, rtol=1e-6)


def test_bfloat16_is_widened_exactly() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = bfloat16.widen(bits)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide.view(np.uint32), bits.astype(np.uint32) << 16)
    finite = bits[np.isfinite(wide)]
    for rows, columns in ((1, finite.size), (finite.size, 1), (finite.size // 7, 7), (3, 70_000)):
        some = np.resize(finite, (rows, columns))
        for dtype in (np.float32, np.float64):
            wider = np.full((rows, columns + 3), 7.0, dtype)
            bfloat16.widen_into(some, wider[:, 1:-2])
            np.testing.assert_array_equal(wider[:, 1:-2], bfloat16.widen(some))
            assert np.all(wider[:, [0, -2, -1]] == 7)


def test_kernels_without_jit() -> None:
    """The same tests with NUMBA_DISABLE_JIT: what Numba compiles is what Python runs."""
    here = Path(__file__)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        str(here),
        "-k",
        "not without_jit",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(command, env=environment, cwd=here.parent.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25, 1e-150, 1e150])
def test_eigenvalues_take_no_matrix_beside_lapacks(scale: float) -> None:
    matrix = np.random.default_rng(2).standard_normal((200, 300))
    product = (scale * matrix) @ (scale * matrix).T
    tracemalloc.start()
    np.linalg.eigvalsh(product)
    lapacks = tracemalloc.get_traced_memory()[1]  # NumPy tells of it from 2.5 on
    tracemalloc.reset_peak()
    found = gram.squared_singular_values(product)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - lapacks < product.nbytes / 2 or scale in (1e-150, 1e150)
    wanted = np.linalg.svd(matrix, compute_uv=False) ** 2
    np.testing.assert_allclose(found / scale / scale, wanted, rtol=1e-10)


@settings(deadline=None, max_examples=sweep(60))
@given(
    rows=st.integers(0, 70),
    width=st.sampled_from([1, 2, 3, 7, 64, 1023, 1025, 3000]),
    dtype=st.sampled_from([np.float32, np.float64]),
    data=st.data(),
)
def test_energies_of_columns(rows: int, width: int, dtype: type, data: st.DataObject) -> None:
    """Bit for bit the same whatever lies beside a column, and wherever blocks of rows end."""
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    block = (rng.standard_normal((rows, width)) * 10 ** rng.uniform(-30, 15, (1, width))).astype(dtype)
    block[:, ::5] = 0.0
    expected = np.zeros(width)
    for row in block.astype(np.float64):
        expected += row * row
    first = data.draw(st.integers(0, width - 1))
    last = data.draw(st.integers(first + 1, width))
    cut = data.draw(st.integers(0, rows))
    found = np.zeros(last - first)
    column_energies.add_column_energies(block[:cut, first:last], found)
    column_energies.add_column_energies(block[cut:, first:last], found)
    np.testing.assert_array_equal(found, expected[first:last])


def test_energies_of_columns_refuse_other_shapes() -> None:
    with pytest.raises(ValueError, match="energies of shape"):
        column_energies.add_column_energies(np.zeros((3, 4), np.float32), np.zeros(3))
    with pytest.raises(ValueError, match="rows in pieces"):
        column_energies.add_column_energies(np.zeros((3, 8), np.float32)[:, ::2], np.zeros(4))
