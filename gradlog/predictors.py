"""Predictors: what m_t is made of. Adding one takes one small function here; see CONTRIBUTING.md.

A predictor is a weighted sum of history vectors, `Lag(k)` for g_{t-k} and `Average(B)` for the
exponential average s_t = B s_{t-1} + (1 - B) g_{t-1}, s_0 = 0. A definition is a function of t (int64
array of steps, all >= 1) that returns the weights; m_0 is 0 for every predictor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError
from .quick_dataclass import dataclass

Steps = NDArray[np.int64]


@dataclass(frozen=True, order=True)
class Lag:
    """The gradient k steps ago, g_{t-k}, k >= 1; its weight must be 0 where t < k."""

    k: int


@dataclass(frozen=True, order=True)
class Average:
    """The exponential average s_t with decay B in [0, 1), of g_0 .. g_{t-1}."""

    decay: float


Weights = Mapping[Lag | Average, float | NDArray[np.float64]]


@dataclass(frozen=True)
class Predictor:
    """A predictor with its argument: `spec` is its name on the command line and in every output."""

    spec: str
    weights: Callable[[Steps], Weights]


@dataclass(frozen=True)
class _Family:
    definition: Callable[..., Weights]
    parse: Callable[[str], Any] | None
    shows: str


_FAMILIES: dict[str, _Family] = {}


def predictor(
    name: str, argument: Callable[[str], Any] | None = None, shows: str = ""
) -> Callable[[Callable[..., Weights]], Callable[..., Weights]]:
    """Register a definition as `name`, or as `name:ARGUMENT` with a parser that raises ValueError."""

    def register(definition: Callable[..., Weights]) -> Callable[..., Weights]:
        _FAMILIES[name] = _Family(definition, argument, f"{name}:{shows}" if argument else name)
        return definition

    return register


def decay(text: str) -> float:
    """A decay B, 0 <= B < 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1.0:
        raise ValueError("the decay must be a number of at least 0 and below 1")
    return value


def length(text: str) -> int:
    """A window length K >= 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("the length must be a whole number of at least 1")
    return int(text)


@predictor("zero")
def zero(t: Steps) -> Weights:
    """m_t = 0."""
    return {}


@predictor("one-step")
def one_step(t: Steps) -> Weights:
    """m_t = g_{t-1}."""
    return {Lag(1): 1.0}


@predictor("ema", decay, "B")
def ema(t: Steps, b: float) -> Weights:
    """m_t = s_t."""
    return {Average(b): 1.0}


@predictor("ema-debiased", decay, "B")
def ema_debiased(t: Steps, b: float) -> Weights:
    """m_t = s_t / (1 - B^t)."""
    # expm1 keeps 1 - B^t exact for B near 1, where 1 - B**t would cancel.
    return {Average(b): -1.0 / np.expm1(t * np.log(b)) if b > 0 else 1.0}


@predictor("mean", length, "K")
def mean(t: Steps, k: int) -> Weights:
    """m_t = mean of the last min(K, t) gradients."""
    share = 1.0 / np.minimum(t, k)
    longest = min(k, int(t.max(initial=1)))
    return {Lag(lag): np.where(t >= lag, share, 0.0) for lag in range(1, longest + 1)}


@predictor("linear")
def linear(t: Steps) -> Weights:
    """m_t = 2 g_{t-1} - g_{t-2}, and g_0 at t = 1."""
    return {Lag(1): np.where(t >= 2, 2.0, 1.0), Lag(2): np.where(t >= 2, -1.0, 0.0)}


def mixed_decays(text: str) -> tuple[float, float, float]:
    """Two decays and the share of the first, in [0, 1]."""
    words = text.split(",")
    if len(words) != 3:
        raise ValueError("give two decays and the share of the first, such as 0.5,0.99,0.3")
    try:
        share = float(words[2])
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise ValueError("the share must be a number from 0 to 1")
    return decay(words[0]), decay(words[1]), share


@predictor("mixture", mixed_decays, "B1,B2,SHARE")
def mixture(t: Steps, of: tuple[float, float, float]) -> Weights:
    """m_t = SHARE s_t + (1 - SHARE) s'_t, averages of decay B1 and B2."""
    first, second, share = of
    if first == second:
        return {Average(first): 1.0}
    return {Average(first): share, Average(second): 1.0 - share}


def lag_weights(text: str) -> tuple[float, ...]:
    """Finite numbers, separated by commas."""
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        found = (np.nan,)
    if not np.isfinite(found).all():
        raise ValueError("give the weights of the last gradients, such as 0.5,0.2,0.1")
    return found


@predictor("lags", lag_weights, "A1,A2,...")
def lags(t: Steps, weights: tuple[float, ...]) -> Weights:
    """m_t = A1 g_{t-1} + A2 g_{t-2} + ..., of the gradients that there are."""
    return {Lag(k): np.where(t >= k, weight, 0.0) for k, weight in enumerate(weights, 1)}


DEFAULT_PREDICTORS = ("one-step", "ema:0.5", "ema:0.9", "ema:0.99", "mean:5", "linear")


def known_predictors() -> list[str]:
    """The forms of spec strings that `parse_predictor` takes."""
    return [family.shows for family in _FAMILIES.values()]


def parse_predictor(spec: str) -> Predictor:
    """The predictor named by `spec`, such as ``ema:0.9``. Raises UsageError with the known forms."""
    name, colon, text = spec.strip().partition(":")
    family = _FAMILIES.get(name)
    if family is None or bool(colon) != (family.parse is not None):
        raise UsageError(f"no predictor {spec!r}; known are {', '.join(known_predictors())}")
    definition = family.definition
    if family.parse is None:
        return Predictor(name, definition)
    try:
        argument = family.parse(text)
    except ValueError as error:
        raise UsageError(f"predictor {spec!r}: {error}") from None
    told = ",".join(map(str, argument)) if isinstance(argument, tuple) else argument
    return Predictor(f"{name}:{told}", lambda t: definition(t, argument))


def parse_predictors(specs: Sequence[str]) -> tuple[Predictor, ...]:
    """The predictors named, `zero` first and each once."""
    parsed = [parse_predictor(spec) for spec in ("zero", *specs)]
    return tuple({p.spec: p for p in parsed}.values())


def memory_rows(spec: str, rows: int) -> float:
    """Rows that a predictor looks back on: its longest lag, or 2 / (1 - B) for an average of decay B."""
    vectors = parse_predictor(spec).weights(np.array([1, max(1, rows - 1)]))
    lags = [float(vector.k) for vector in vectors if isinstance(vector, Lag)]
    averages = [2 / (1 - vector.decay) for vector in vectors if isinstance(vector, Average)]
    return max([1.0, *lags, *averages])


def is_average(spec: str) -> bool:
    """Whether a predictor is a multiple of one exponential average."""
    vectors = list(parse_predictor(spec).weights(np.array([1, 2])))
    return len(vectors) == 1 and isinstance(vectors[0], Average)


@dataclass(frozen=True)
class HistoryBank:
    """The history vectors that a set of predictors needs, shared among them."""

    predictors: tuple[Predictor, ...]
    lags: int
    decays: tuple[float, ...]

    @classmethod
    def of(cls, predictors: Sequence[Predictor], rows: int) -> HistoryBank:
        """The smallest bank that serves `predictors` over `rows` rows."""
        steps = np.array([1, max(1, rows - 1)])
        vectors = {vector for p in predictors for vector in p.weights(steps)}
        lags = max([1, *(v.k for v in vectors if isinstance(v, Lag))])
        decays = sorted(v.decay for v in vectors if isinstance(v, Average))
        return cls(tuple(predictors), lags, tuple(decays))

    @property
    def specs(self) -> tuple[str, ...]:
        """Of the predictors, in the order of their sums."""
        return tuple(predictor.spec for predictor in self.predictors)

    @property
    def history_rows(self) -> int:
        """float64 values that the fused pass keeps for each parameter."""
        return self.lags + len(self.decays) + 2

    @property
    def weight_columns(self) -> int:
        """float64 weights for each row."""
        return len(self.predictors) * (self.lags + len(self.decays))

    @property
    def sum_columns(self) -> int:
        """float64 values that the fused pass gathers for each row."""
        return 5 + 3 * len(self.predictors)

    def weights(self, start: int, stop: int) -> NDArray[np.float64]:
        """(P, stop - start, L + E) float64: weights of g_{t-1} .. g_{t-L} and of each average at each t."""
        table = np.zeros((len(self.predictors), stop - start, self.lags + len(self.decays)))
        t = np.arange(max(start, 1), stop)
        skipped = (stop - start) - t.size
        for p, predictor in enumerate(self.predictors):
            for vector, weight in predictor.weights(t).items():
                if isinstance(vector, Lag):
                    column = vector.k - 1
                else:
                    column = self.lags + self.decays.index(vector.decay)
                table[p, skipped:, column] = weight
        return table
