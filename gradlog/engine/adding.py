"""Add up what parts gathered: states of accumulators, held in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .measure import Accumulator, Measure, PassContext
from .one_pass import start_all
from .state import State, Symmetric


class HeldState:
    """States of measures by name: a `PartState` that needs no file. held : strips of each tensor in them"""

    def __init__(self, states: Mapping[str, State], held: Mapping[int, int], measure: str = "") -> None:
        self._states, self._held, self._measure = states, held, measure

    @property
    def _state(self) -> State:
        return self._states.get(self._measure, {})

    def has(self, name: str) -> bool:
        """As of `PartState`."""
        return name in self._state

    def numbers(self, folder: str = "") -> list[int]:
        """As of `PartState`."""
        start = f"{folder}/" if folder else ""
        names = (name.removeprefix(start) for name in self._state if name.startswith(start))
        return sorted(int(name) for name in names if "/" not in name)

    def strips(self, tensor: int) -> int:
        """As of `PartState`."""
        return self._held.get(tensor, 0)

    def array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """As of `PartState`."""
        found = self._state[name]
        if isinstance(found, Symmetric) or len(found.shape) != len(shape):
            raise ValueError(f"{name} has another shape")
        return found

    def add_symmetric(self, name: str, matrix: NDArray[np.float64]) -> float:
        """As of `PartState`."""
        found = self._state[name]
        assert isinstance(found, Symmetric)
        for number, row in enumerate(found.rows(), 1):
            matrix[number - 1, :number] += row
        return float(found.matrix.trace())

    def of(self, measure: str) -> HeldState:
        """As of `PartState`."""
        return HeldState(self._states, self._held, measure)


def merge_state(accumulators: Mapping[str, Accumulator[Any]], state: HeldState) -> None:
    """Add a state to accumulators, by the name of their measure."""
    for name, accumulator in accumulators.items():
        for piece in accumulator.pieces(state.of(name)):
            accumulator.merge(piece)


def add_states(
    measures: Sequence[Measure],
    context: PassContext,
    parts: Iterable[tuple[Mapping[str, State], Mapping[int, int]]],
) -> tuple[dict[str, State], Counter[int]]:
    """The states of some neighbouring parts as one, and the strips that it holds of each tensor."""
    accumulators = start_all(measures, context)
    total: Counter[int] = Counter()
    for states, held in parts:
        merge_state(accumulators, HeldState(states, held))
        total.update(held)
    return {name: accumulator.state() for name, accumulator in accumulators.items()}, total
