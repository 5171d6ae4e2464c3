"""A log that is a sketch: which tensors were projected, and what can be asked of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..engine.plan import Plan
from ..engine.range_table import Ranges
from ..errors import DataError, UsageError
from ..logs.log import GradientLog, Tensor, projection_of, sketch_of
from ..measures.sketch.sketch_choice import SketchChoice
from ..measures.sketch.sketch_groups import by_groups
from ..quick_dataclass import dataclass
from ..results.projection import Projection
from ..results.result import Settings
from ..results.selection import Selection


@dataclass(frozen=True)
class Sketched:
    """parameters : of each tensor that was projected, by its number, before it was"""

    projection: Projection
    parameters: Mapping[int, int]

    @classmethod
    def of(cls, log: GradientLog, tensors: Sequence[Tensor]) -> Sketched | None:
        """None for a log of gradients. Raises DataError where the log contradicts itself."""
        projection = sketch_of(log)
        if projection is None:
            return None
        parameters = {}
        for index, tensor in enumerate(tensors):
            if tensor.made_of is None:
                continue
            if tensor.shape != (projection.groups, projection.width):
                raise DataError(
                    f"{log.path}: tensor '{tensor.name}' has shape {list(tensor.shape)}; a sketch of "
                    f"dimension {projection.dim} has {[projection.groups, projection.width]}"
                )
            parameters[index] = math.prod(tensor.made_of)
        return cls(projection, parameters)

    @classmethod
    def of_selection(cls, selection: Selection) -> Sketched | None:
        """As of `of`, from what was selected of a log."""
        projection = projection_of(selection.attributes, selection.path)
        if projection is None:
            return None
        made = {n: tensor.parameters for n, tensor in enumerate(selection.tensors) if tensor.sums is not None}
        return cls(projection, made)

    @property
    def choice(self) -> SketchChoice:
        """How its tensors were projected."""
        made = self.projection
        return SketchChoice(made.dim, made.seed, self.parameters, made.kind)

    def check(self, log: GradientLog, settings: Settings, *, search: bool) -> None:
        """Raise UsageError for what a sketch cannot answer."""
        path = log.path
        if settings.rank not in ("auto", "sketch", "none"):
            raise UsageError(f"{path}: a sketch: its ranks are estimates, --rank {settings.rank} has none")
        if settings.sketch_dim not in (None, self.projection.dim) or settings.seed not in (
            0,
            self.projection.seed,
        ):
            raise UsageError(
                f"{path}: a sketch of dimension {self.projection.dim} with seed {self.projection.seed}: "
                "leave --sketch-dim and --seed away"
            )
        if settings.subspace is not None or search:
            what = "--search" if search else "--subspace"
            raise UsageError(f"{path}: a sketch: {what} takes logs of {log.kind.name}")

    def cut(self, plan: Plan, tensors: Sequence[Tensor]) -> Plan:
        """The plan with a strip for each group of sums."""
        ranges = Ranges(by_groups(item, tensors, self.parameters, self.projection) for item in plan.ranges)
        return replace(plan, ranges=ranges)
