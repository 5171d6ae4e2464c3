"""Split the ranges of a plan into parts that machines can take apart from each other."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..logs.log import Tensor
from ..quick_dataclass import dataclass
from .parameter_range import ParameterRange
from .plan import Plan


@dataclass(frozen=True)
class PartNumber:
    """Part `index` of `count`, counted from 1. Raises UsageError for what is none."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(f"part {self}: must be one of 1/{self.count} to {self.count}/{self.count}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class PartPlan:
    """The plan of a part.

    strips : how many strips each tensor is cut into, in all parts
    digest : what parts of the same plan have in common: they add up to the same sums in the same order
    """

    plan: Plan
    strips: Counter[int]
    digest: str


def part_of(plan: Plan, tensors: Sequence[Tensor], part: PartNumber) -> PartPlan:
    """The plan of a part. How the parameters are split follows from the whole plan alone.

    plan : that was made for so many parts
    """
    mine = split(plan, tensors, part.count)[part.index - 1]
    return PartPlan(mine, plan.strips, _digest(plan))


def split(plan: Plan, tensors: Sequence[Tensor], count: int) -> list[Plan]:
    """The plans of `count` parts of about as many bytes, in their order; a part may be left without ranges.

    Only a plan that was made for so many parts has ranges as narrow as that takes.
    """
    # Owners follow each other: each has the ranges between two borders.
    borders = np.searchsorted(_owners(plan.ranges.row_bytes(tensors), count), np.arange(count + 1)).tolist()
    mine = (plan.ranges[first:last] for first, last in itertools.pairwise(borders))
    return [
        replace(plan, ranges=ranges, decoded_bytes=plan.count * ranges.decoded_row_bytes(tensors))
        for ranges in mine
    ]


def _digest(plan: Plan) -> str:
    """Of how the parameters are read, in numbers: there may be hundreds of thousands of ranges."""
    import hashlib  # deferred: it loads OpenSSL, which few commands need

    found = hashlib.sha256(repr((plan.rows, plan.method, plan.span.name)).encode())
    for run in plan.ranges.runs:
        if isinstance(run, ParameterRange):
            found.update(repr(run).encode())
        else:
            found.update(repr((run.tensor, run.forms)).encode())
            found.update(run.starts.tobytes())
            found.update(run.kinds.tobytes())
    return found.hexdigest()


def _owners(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The part, from 0, that each of the items in a row belongs to: the one that its middle lies in."""
    ends = np.cumsum(sizes)
    owners: NDArray[np.int64] = (2 * ends - sizes) * count // (2 * sizes.sum())
    return owners
