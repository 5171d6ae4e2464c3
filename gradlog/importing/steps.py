"""Training steps of snapshots: what they say themselves, or the number in their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from ..errors import UsageError
from ..naming import shown
from .snapshot import Snapshot

ORDER = "order"
"""In place of an expression: steps are counted in the order of the sources."""
_CURE = f"--step-from says where it stands: a regular expression with one group, or {ORDER!r} to count"
_NUMBER = re.compile(r"\d+")
_WORDS = ("step", "steps", "iter", "iters", "iteration", "checkpoint", "ckpt")
"""Before the number, the first of them that a name has."""


def step_numbers(
    snapshots: Sequence[Snapshot], recorded: Sequence[int | None], step_from: str | None
) -> list[int]:
    """The training step of each snapshot.

    recorded : what each says itself, None where it says nothing
    step_from : a regular expression whose group is the number, searched in each path; "order" counts
        from 0; None takes what is recorded, else the number in the name

    Raises UsageError for an expression that is none, a snapshot without a number, and two of one number.
    """
    if step_from == ORDER:
        return list(range(len(snapshots)))
    if step_from is not None:
        steps = [_searched(_expression(step_from), snapshot) for snapshot in snapshots]
    elif any(step is None for step in recorded):
        named = _named(snapshots)
        steps = [own if own is not None else name for own, name in zip(recorded, named, strict=True)]
    else:
        steps = [step for step in recorded if step is not None]
    first: dict[int, Snapshot] = {}
    for snapshot, step in zip(snapshots, steps, strict=True):
        if step in first:
            raise UsageError(
                f"{snapshot.place}: step {step}, as {first[step].place} is: leave one out, or {_CURE}"
            )
        first[step] = snapshot
    return steps


def naturally(name: str) -> list[tuple[int, int | str]]:
    """A key that sorts names with their numbers as numbers: checkpoint-2 before checkpoint-10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _expression(text: str) -> re.Pattern[str]:
    try:
        found = re.compile(text)
    except re.error as error:
        raise UsageError(f"{text!r} is no regular expression: {error}") from None
    if found.groups != 1:
        raise UsageError(f"{text!r} has {found.groups} groups; the one group of the expression is the step")
    return found


def _searched(expression: re.Pattern[str], snapshot: Snapshot) -> int:
    found = expression.search(snapshot.label)
    if found is None or not (found[1] or "").isdecimal():
        what = "does not match" if found is None else f"finds {found[1]!r}, which is no number, in"
        raise UsageError(f"{snapshot.place}: {expression.pattern!r} {what} {snapshot.label!r}")
    return int(found[1])


def _named(snapshots: Sequence[Snapshot]) -> list[int]:
    """The number in each name, or in that of the folder where no name has one."""
    stems = [_stem(snapshot.label) for snapshot in snapshots]
    if not any(map(_NUMBER.search, stems)):
        stems = [PurePath(snapshot.label).parent.name for snapshot in snapshots]
    for snapshot, stem in zip(snapshots, stems, strict=True):
        if not _NUMBER.search(stem):
            raise UsageError(f"{snapshot.place}: no training step in its name: {_CURE}")
    by_word = [_after_word(stem) for stem in stems]
    if None not in by_word:
        return [step for step in by_word if step is not None]
    frames = [_NUMBER.sub("#", stem) for stem in stems]
    odd = next((at for at, frame in enumerate(frames) if frame != frames[0]), None)
    if odd is not None:
        raise UsageError(
            f"{snapshots[odd].place}: its name is not like that of {snapshots[0].place}, and which number is "
            f"the training step, is not clear: {_CURE}"
        )
    columns = list(zip(*(map(int, _NUMBER.findall(stem)) for stem in stems), strict=True))
    if len(columns) > 1:
        columns = [column for column in columns if len(set(column)) > 1]
    if len(columns) != 1:
        numbers = shown([str(number) for number in _NUMBER.findall(stems[0])], 4)
        raise UsageError(f"{snapshots[0].place}: which of {numbers} is the training step? {_CURE}")
    return list(columns[0])


def _stem(label: str) -> str:
    """The last part of a path without its ending."""
    name = PurePath(label).name
    return re.sub(r"\.[A-Za-z][A-Za-z0-9]*$", "", name)


def _after_word(stem: str) -> int | None:
    """The only number behind a word that names steps."""
    for word in _WORDS:
        found = re.findall(rf"(?<![a-z]){word}[-_=. ]*(\d+)", stem.lower())
        if found:
            return int(found[0]) if len(found) == 1 else None
    return None
