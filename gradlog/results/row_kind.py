"""What the rows of a log are: gradients of training steps, or updates, the differences of checkpoints.

All that is told of a run takes its nouns from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..errors import DataError, UsageError
from ..quick_dataclass import dataclass

GRADIENTS, UPDATES = "gradients", "updates"


@dataclass(frozen=True)
class RowKind:
    """What each row of a log is.

    name : "gradients" or "updates": what the root of a log says, and what text calls several of them
    every : training steps that an update spans, at least 1; None of gradients, and where updates span
    differently many or nothing says how many
    """

    name: str
    every: int | None = None

    @property
    def noun(self) -> str:
        """What text calls one of them."""
        return self.name.removesuffix("s")

    @property
    def of_updates(self) -> bool:
        """Whether rows are differences of checkpoints, which are no gradients."""
        return self.name == UPDATES

    @property
    def dead(self) -> str:
        """What text calls a tensor that has none."""
        return "unmoved" if self.of_updates else "dead"

    def say(self, text: str) -> str:
        """A text about rows of any kind, with their nouns for `{gradient}` and `{gradients}` in it."""
        return text.replace("{gradients}", self.name).replace("{gradient}", self.noun)


OF_GRADIENTS = RowKind(GRADIENTS)


class Rows(Protocol):
    """A log, or what a result says of one."""

    @property
    def path(self) -> str: ...
    @property
    def kind(self) -> RowKind: ...


def row_kind(attributes: Mapping[str, Any]) -> RowKind:
    """What the rows of a log with these attributes of its root are: gradients, where nothing is said.

    Raises DataError, without the log's name, for kinds that this gradmf does not know.
    """
    declared = attributes.get("gradlog")
    if not isinstance(declared, Mapping) or "kind" not in declared:
        return OF_GRADIENTS
    kind, every = declared["kind"], declared.get("every")
    if kind not in (GRADIENTS, UPDATES):
        raise DataError(
            f"a log of {str(kind)[:60]!r}: this gradmf knows logs of {GRADIENTS} and of {UPDATES}: update "
            "gradmf, or mend `kind` in the `gradlog` attribute"
        )
    if kind == GRADIENTS:
        return OF_GRADIENTS
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise DataError(
            f"updates of every {str(every)[:60]!r} training steps, which is no number of steps: mend `every` "
            "in the `gradlog` attribute"
        )
    return RowKind(UPDATES, every)


def said_of_rows(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What the attribute `gradlog` says of the rows: it holds for any log that is made of these."""
    declared = attributes.get("gradlog")
    held = declared if isinstance(declared, Mapping) else {}
    return {word: held[word] for word in ("kind", "every", "rounding") if word in held}


def check_same_kind(baseline: Rows, run: Rows) -> None:
    """Raise UsageError where one holds updates and the other gradients: no figure of theirs is comparable."""
    if baseline.kind.name != run.kind.name:
        raise UsageError(
            f"{run.path}: a log of {run.kind.name}, and {baseline.path} one of {baseline.kind.name}: compare "
            "logs of the same kind"
        )
