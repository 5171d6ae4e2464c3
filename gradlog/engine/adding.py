"""States of parts are added up: all at once, or group by group in a tree, whose root gives the results.

A node takes the states of its group in the order of the parts and hands on one, of all of them together. What
is added to what follows from the tree alone, and so do the bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .measure import Accumulator, Measure, PassContext, RowSink
from .one_pass import WorkPool, start_all
from .state import HeldState


@contextlib.contextmanager
def adding(
    names: Sequence[str],
    parameters: Sequence[int],
    rows: int,
    strips: Sequence[int],
    workers: int = 1,
    sink: RowSink | None = None,
) -> Iterator[PassContext]:
    """The context of accumulators that parts are added up in, as long as its threads are there.

    strips : how many each tensor is cut into in the whole plan; workers : spectra that are sought at once,
    each beside the matrices that are added to; otherwise as of `PassContext`
    """
    from ...kernels.gram import one_blas_thread  # deferred: BLAS is loaded by what adds only

    with (
        one_blas_thread(),
        np.errstate(over="ignore", invalid="ignore"),
        WorkPool(workers, "gradmf-spectra") as pool,
    ):
        yield PassContext(
            names=names,
            parameters=parameters,
            rows=rows,
            strips={tensor: count for tensor, count in enumerate(strips) if count},
            pool=pool,
            workers=workers,
            sink=sink,
        )


class Addend(Protocol):
    """What is added: a state, or what holds one. held : how many of each tensor's strips it is of"""

    @property
    def held(self) -> Sequence[int]: ...

    def merge_into(self, accumulators: Mapping[str, Accumulator[Any]]) -> None:
        """Add all of it to accumulators, by the name of their measure."""


def add_states(measures: Sequence[Measure], context: PassContext, states: Iterable[Addend]) -> HeldState:
    """The state of all these together: of neighbouring parts, in their order.

    measures : of the pass that the states are of, in its order; context : as of `adding`

    Raises ValueError as `add_part` does, and OverflowError where a spectrum's sums don't fit into their type.
    """
    accumulators, held = _added(measures, context, states)
    return HeldState({name: each.state() for name, each in accumulators.items()}, held.tolist())


def results_of(measures: Sequence[Measure], context: PassContext, states: Iterable[Addend]) -> dict[str, Any]:
    """What all parts amount to, by the name of the measure. Arguments and errors as of `add_states`.

    Raises TensorError, too, where a part of a tensor is missing.
    """
    accumulators, _ = _added(measures, context, states)
    return {name: each.result() for name, each in accumulators.items()}


def _added(
    measures: Sequence[Measure], context: PassContext, states: Iterable[Addend]
) -> tuple[dict[str, Accumulator[Any]], NDArray[np.int64]]:
    accumulators, held = start_all(measures, context), np.zeros(len(context.names), dtype=np.int64)
    for state in states:
        state.merge_into(accumulators)
        held += state.held
    return accumulators, held
