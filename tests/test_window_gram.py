"""Gram matrices of windows against products of increments formed one by one, where digits could be lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sweeps import mostly_slow

from gradmf.kernels import window_gram, window_rows
from gradmf.kernels.window_rows import BOTH, FROM_GRADIENTS, FROM_INCREMENTS, WindowRows

Doubles = NDArray[np.float64]
ROWS, WIDTH = 70, 300


def white(rng: np.random.Generator) -> Doubles:
    return rng.standard_normal((ROWS, WIDTH))


def drifting(rng: np.random.Generator) -> Doubles:
    """A large mean that moves by a hundred-thousandth of itself."""
    return rng.standard_normal(WIDTH) + 1e-5 * white(rng)


def standing(rng: np.random.Generator) -> Doubles:
    """Some gradients are logged twice, the others independent."""
    return np.repeat(white(rng), 2, axis=0)[:ROWS]


def vanishing(rng: np.random.Generator) -> Doubles:
    """A smooth run with gradients of zero, and with one that is a millionth of the others."""
    gradients = drifting(rng)
    gradients[20:23] = 0.0
    gradients[41] *= 1e-6
    return gradients


def hidden(rng: np.random.Generator) -> Doubles:
    """The columns that are looked at say the opposite of all others."""
    gradients = 1e4 * rng.standard_normal(WIDTH) + 1e-3 * white(rng)
    gradients[:, :: WIDTH // window_rows.SAMPLE] = 1e-4 * white(rng)[:, :: WIDTH // window_rows.SAMPLE]
    return gradients


KINDS = {
    "white": (white, {FROM_GRADIENTS}),
    "drifting": (drifting, {FROM_INCREMENTS}),
    "standing": (standing, {BOTH}),
    "vanishing": (vanishing, {FROM_INCREMENTS, BOTH}),
    "hidden": (hidden, {BOTH}),
    "zero": (lambda rng: 0.0 * white(rng), {FROM_GRADIENTS}),
    "huge": (lambda rng: 1e200 * white(rng), {BOTH}),
}


def forms_of(patch: pytest.MonkeyPatch) -> list[str]:
    """The forms in which windows' products were taken, filled as they are."""
    forms = []
    checked = WindowRows.checked

    def noting(self: WindowRows, *given: Any) -> WindowRows:
        found = checked(self, *given)
        if found is self:
            forms.append(self.form)
        return found

    patch.setattr(WindowRows, "checked", noting)
    return forms


def products(a: Doubles, b: Doubles) -> Doubles:
    """(2, N, N) of all gradients and of all increments."""
    h = [np.concatenate([np.zeros((1, x.shape[1])), np.diff(x, axis=0)]) for x in (a, b)]
    return np.stack([a @ b.T, h[0] @ h[1].T])


def assert_digits(found: NDArray[Any], a: Doubles, b: Doubles, rows: slice, columns: slice) -> None:
    """To 1e-13 of the largest energies, and no row that is not zero to less than 1e-6 of its own."""
    expected = products(a, b)[:, rows, columns]
    height, width = expected.shape[1:]
    assert not found[:, height:].any()
    assert not found[:, :, width:].any()
    with np.errstate(over="ignore"):
        own = [np.sqrt(np.einsum("kii->ki", products(x, x))) for x in (a, b)]
    for kind in range(2):
        lengths = own[0][kind, rows, None], own[1][kind, None, columns]
        error = np.abs(found[kind, :height, :width] - expected[kind])
        assert (error <= 1e-13 * lengths[0].max() * lengths[1].max()).all()
        assert (error <= 1e-6 * (lengths[0] * lengths[1])).all()


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("window", mostly_slow([2, 16, 35, 64, 100], [16, 64]))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_digits_are_lost(kind: str, window: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, forms = KINDS[kind]
    if (kind, dtype) == ("huge", "float32"):
        pytest.skip("float32 has no such numbers")
    rng = np.random.default_rng([window, *map(ord, kind)])
    stored = make(rng).astype(dtype)
    a = stored.astype("f8")
    used = forms_of(monkeypatch)
    windows = -(-ROWS // window)
    whole = window_gram.window_grams(stored, 0, ROWS, window, 0, windows)
    if window == 16:
        assert forms <= set(used)
    if kind == "huge":  # energies are infinite, and nothing is made of them
        assert not np.isfinite(whole[0, 0, 0, 0, 0])
        return
    for number in range(windows):
        own = slice(number * window, min(ROWS, (number + 1) * window))
        assert_digits(whole[number, :, window_gram.WITHIN], a, a, own, own)
        if number:
            before = slice((number - 1) * window, number * window)
            assert_digits(whole[number, :, window_gram.ACROSS], a, a, before, own)
            # What is carried on from an earlier block changes no bit.
            start = max(0, (number - 1) * window - 1)
            later = window_gram.window_grams(stored[start:], start, ROWS, window, number, windows)
            assert later.tobytes() == whole[number:].tobytes()
    other = white(rng)
    paired = window_gram.paired_grams(stored, other, window)
    for number, found in enumerate(paired):
        own = slice(number * window, min(ROWS, (number + 1) * window))
        assert_digits(found[:, window_gram.FIRST], a, a, own, own)
        assert_digits(found[:, window_gram.SECOND], other, other, own, own)
        assert_digits(found[:, window_gram.BETWEEN], a, other, own, own)
