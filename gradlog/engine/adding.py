"""States of parts are added up: all at once, or group by group in a tree, whose root gives the results.

A node takes the states of its group in the order of the parts and hands on one, of all of them together. What
is added to what follows from the tree alone, and so do the bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .measure import Accumulator, Measure, PassContext, RowSink
from .one_pass import WorkPool, start_all
from .state import HeldState, PartState


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


def add_part(accumulators: Mapping[str, Accumulator[Any]], part: PartState) -> None:
    """Add what a part holds to accumulators, by the name of their measure.

    Raises ValueError where its arrays don't fit each other, or those of the parts before.
    """
    for name, accumulator in accumulators.items():
        for piece in accumulator.pieces(part.of(name)):
            accumulator.merge(piece)


def add_states(measures: Sequence[Measure], context: PassContext, states: Iterable[HeldState]) -> HeldState:
    """The state of all these together: of neighbouring parts, in their order.

    measures : of the pass that the states are of, in its order; context : as of `adding`

    Raises ValueError as `add_part` does, and OverflowError where a spectrum's sums don't fit into their type.
    """
    accumulators = start_all(measures, context)
    held = np.zeros(len(context.names), dtype=np.int64)
    for state in states:
        add_part(accumulators, state)
        held += state.held
    return HeldState({name: each.state() for name, each in accumulators.items()}, held.tolist())


def results_of(
    measures: Sequence[Measure], context: PassContext, states: Iterable[PartState]
) -> dict[str, Any]:
    """What all parts amount to, by the name of the measure. Arguments and errors as of `add_states`.

    Raises TensorError, too, where a part of a tensor is missing.
    """
    accumulators = start_all(measures, context)
    for state in states:
        add_part(accumulators, state)
    return {name: each.result() for name, each in accumulators.items()}
