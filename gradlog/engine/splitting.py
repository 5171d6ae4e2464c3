"""Split the ranges of a plan into parts that machines can take apart from each other."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import UsageError
from ..logs.log import Tensor
from .plan import Plan
from .ranges import ParameterRange, decoded_row_bytes


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
    mine: list[list[ParameterRange]] = [[] for _ in range(count)]
    sizes = [_bytes(tensors, item) for item in plan.ranges]
    for item, owner in zip(plan.ranges, _owners(sizes, count), strict=True):
        mine[owner].append(item)
    return [
        replace(plan, ranges=tuple(ranges), decoded_bytes=plan.count * decoded_row_bytes(tensors, ranges))
        for ranges in mine
    ]


def _digest(plan: Plan) -> str:
    """Of how the parameters are read, in numbers: there may be hundreds of thousands of ranges."""
    import hashlib  # deferred: it loads OpenSSL, which few commands need

    blocks: dict[object, int] = {}
    numbers = array("q")
    for item in plan.ranges:
        rows = blocks.setdefault((item.row_blocks, item.cut), len(blocks))
        numbers.extend((rows, item.tile or 0, item.decodes, len(item.segments)))
        for segment in item.segments:
            numbers.append(segment.tensor)
            for part in segment.box:
                numbers.extend((part.start, part.stop))
    found = hashlib.sha256(repr((plan.rows, plan.method, plan.span.name, list(blocks))).encode())
    found.update(numbers.tobytes())
    return found.hexdigest()


def _bytes(tensors: Sequence[Tensor], item: ParameterRange) -> int:
    """Bytes that one row of the range's gradients takes in the store."""
    return sum(segment.width * tensors[segment.tensor].entry_bytes for segment in item.segments)


def _owners(sizes: Sequence[int], count: int) -> list[int]:
    """The part, from 0, that each of the items in a row belongs to: the one that its middle lies in."""
    total, begun, owners = sum(sizes), 0, []
    for size in sizes:
        owners.append((2 * begun + size) * count // (2 * total))
        begun += size
    return owners
