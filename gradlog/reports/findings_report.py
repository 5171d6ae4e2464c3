"""What stands out in an analysis, in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .figures import count, counted

if TYPE_CHECKING:
    from ..findings.finding import Finding

MOST_LINES = 6


def finding_lines(findings: Sequence[Finding], most: int | None = MOST_LINES) -> tuple[str, ...]:
    """A line for each of the whole model, and one for what tensors have of a kind, which names the first.

    What tensors have at the step where the whole model has it is only counted. most : lines, None for all
    """
    lines: list[str] = []
    told = 0
    for group in _alike(findings):
        if len(lines) == most:
            break
        told += len(group)
        lines.append(_line(group))
    left = len(findings) - told
    return (*lines, f"{count(left)} more: --format json") if left else tuple(lines)


def _alike(findings: Sequence[Finding]) -> list[list[Finding]]:
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        of_model: tuple[object, ...] = (finding.code, finding.step)
        if finding.tensor is None:
            groups[of_model] = [finding]
        elif of_model in groups and finding.step is not None:
            groups[of_model].append(finding)
        else:
            groups.setdefault((finding.code,), []).append(finding)
    return list(groups.values())


def _line(group: Sequence[Finding]) -> str:
    first, *others = group
    where = "model" if first.tensor is None else first.tensor
    if first.tensor is None and others:
        where = f"model and {counted(len(others), 'tensor')}"
    elif others:
        names = len({finding.tensor for finding in others} - {first.tensor})
        where += f" and {counted(names, 'more tensor')}" if names else f" and {count(len(others))} more times"
    return f"{where}: {first.text}"
