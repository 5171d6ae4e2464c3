"""Split the ranges of a plan into parts that machines can take apart from each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import UsageError
from ..logs.log import Tensor
from .measure import Measure
from .plan import Plan, Way, make_plan
from .ranges import ParameterRange, decoded_row_bytes, strips_of_tensors
from .request import Request


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
    """The plan of a part, and the `ranges` of the whole plan that it is a part of."""

    plan: Plan
    ranges: tuple[ParameterRange, ...]

    @property
    def strips(self) -> Counter[int]:
        """How many strips each tensor is cut into, in all parts."""
        return strips_of_tensors(self.ranges)

    @property
    def digest(self) -> str:
        """What parts of the same plan have in common: they add up to the same sums in the same order."""
        import hashlib  # deferred: it loads OpenSSL, which few commands need

        described = repr((self.plan.rows, self.plan.method, self.plan.span.name, self.ranges))
        return hashlib.sha256(described.encode()).hexdigest()


def plan_part(
    request: Request, measures: Sequence[Measure], ways: Sequence[Way], part: PartNumber
) -> PartPlan:
    """Plan a part. How the parameters are split follows from the log, measures and memory alone.

    Raises MemoryLimitError where the plan does not fit.
    """
    # Machines may differ in their cores, which do not move the borders of ranges.
    plan = make_plan(request, measures, ways)
    sizes = [_bytes(request.tensors, item) for item in plan.ranges]
    mine = tuple(
        item
        for item, owner in zip(plan.ranges, _owners(sizes, part.count), strict=True)
        if owner == part.index
    )
    decoded = request.count * decoded_row_bytes(request.tensors, mine)
    return PartPlan(replace(plan, ranges=mine, decoded_bytes=decoded), plan.ranges)


def _bytes(tensors: Sequence[Tensor], item: ParameterRange) -> int:
    """Bytes that one row of the range's gradients takes in the store."""
    return sum(segment.width * tensors[segment.tensor].entry_bytes for segment in item.segments)


def _owners(sizes: Sequence[int], count: int) -> list[int]:
    """The part, from 1, that each of the items in a row belongs to: the one that its middle lies in."""
    total, begun, owners = sum(sizes), 0, []
    for size in sizes:
        owners.append((2 * begun + size) * count // (2 * total) + 1)
        begun += size
    return owners
