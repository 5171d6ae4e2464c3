"""What an import is asked for, what it will read and write, and the snapshots in the order of their steps."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..errors import UsageError
from ..logs.row_values import BFLOAT16
from ..naming import shown
from ..quick_dataclass import dataclass
from ..results.result import LogWarning
from ..results.row_kind import UPDATES
from ..sizes import DEFAULT_MEMORY
from .checkpoint import learning_rate
from .choosing import Chosen, check_same, choose
from .libraries import library
from .names_table import NamedVector, NamesTable
from .snapshot import Kind, Snapshot
from .sources import Sources, find_sources
from .steps import step_numbers
from .updates import update_dtype

FilePath: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True)
class ImportSettings:
    """What is taken of the sources.

    updates : sources are checkpoints of weights, and rows the differences of one to the next
    step_from : where a path has the number of the step, a regular expression with one group; "order" counts
        sources from 0; None takes what the source says, else the number in its name
    names : table of the tensors in sources that are one vector a step, JSON or CSV: name, shape, offset
    include, exclude : globs on names of tensors, all without any
    allow_rounding : take updates most of whose energy is rounding of 16-bit weights
    """

    updates: bool = False
    step_from: str | None = None
    names: FilePath | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    allow_rounding: bool = False


@dataclass(frozen=True)
class ImportedStep:
    """A source of one step. bytes : of its tensors that are taken"""

    place: str
    step: int
    bytes: int


@dataclass(frozen=True)
class ImportedTensor:
    """dtype : as stored in the log; source_dtype : in the sources"""

    name: str
    shape: tuple[int, ...]
    dtype: str
    source_dtype: str

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class ImportPlan:
    """What an import reads and writes.

    updates : rows are differences of weights; the first of `steps` is then what the second is held against
    every : steps from one checkpoint to the next, None where that differs, and for gradients
    series : names of the scalar series; taken : what of the sources is taken, in words
    left_out : why other things are no tensors or series, by name
    bytes_read, bytes_written : of tensors
    """

    updates: bool
    every: int | None
    steps: tuple[ImportedStep, ...]
    tensors: tuple[ImportedTensor, ...]
    series: tuple[str, ...]
    taken: str
    left_out: Mapping[str, str]
    bytes_read: int
    bytes_written: int
    warnings: tuple[LogWarning, ...]

    @property
    def rows(self) -> int:
        """Rows of the log."""
        return len(self.steps) - self.updates


def plan_import(
    sources: FilePath | Sequence[FilePath],
    settings: ImportSettings | None = None,
    *,
    memory: int = DEFAULT_MEMORY,
) -> ImportPlan:
    """What `import_log` would read and write, from headers alone. Raises what it raises before it writes."""
    return prepare(sources, settings or ImportSettings(), memory).plan


@dataclass(frozen=True)
class Ready:
    """Snapshots in the order of their steps, and what is to be written of each.

    series : by name, a value a row
    """

    plan: ImportPlan
    snapshots: tuple[Snapshot, ...]
    chosen: Chosen
    series: Mapping[str, Sequence[float]]
    attributes: Mapping[str, Any]
    declared: Mapping[str, Any]

    def series_of(self, row: int) -> dict[str, float]:
        return {name: values[row] for name, values in self.series.items()}


def prepare(sources: FilePath | Sequence[FilePath], settings: ImportSettings, memory: int) -> Ready:
    paths = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    found = find_sources(
        [os.fspath(path) for path in paths],
        updates=settings.updates,
        room=memory // 2,
        include=settings.include,
        exclude=settings.exclude,
    )
    snapshots = found.snapshots
    if settings.names is not None:
        table = NamesTable.read(os.fspath(settings.names))
        snapshots = tuple(NamedVector(snapshot, table) for snapshot in snapshots)
    survey = _Survey(settings)
    for snapshot in snapshots:
        survey.add(snapshot)
    steps = step_numbers(snapshots, survey.steps, settings.step_from)
    if settings.updates and len(snapshots) < 2:
        raise UsageError(f"{snapshots[0].place}: updates need at least two checkpoints")
    if settings.updates and found.declared.get("kind") == UPDATES:
        raise UsageError(f"{snapshots[0].place}: holds updates already, and no weights")
    order = sorted(range(len(steps)), key=steps.__getitem__)
    return _ready(settings, found, survey, order, steps, [snapshots[at] for at in order])


class _Survey:
    """The headers of all snapshots, held against the first."""

    def __init__(self, settings: ImportSettings) -> None:
        self._settings = settings
        self._first: tuple[Snapshot, Chosen] | None = None
        self._seen: Mapping[str, Kind] | None = None
        self.taken = ""
        self.left_out: dict[str, str] = {}
        self.steps: list[int | None] = []
        self.series: list[Mapping[str, float]] = []

    def add(self, snapshot: Snapshot) -> None:
        """Take in the next. Raises DataError where it is damaged, or holds other tensors."""
        contents = snapshot.contents()
        self.steps.append(contents.step)
        self.series.append(contents.series)
        if contents.tensors is self._seen:  # another row of the same arrays
            return
        self._seen = contents.tensors
        chosen = choose(
            snapshot, contents, self._settings.include, self._settings.exclude, updates=self._settings.updates
        )
        if self._first is None:
            self._first = (snapshot, chosen)
            self.taken, self.left_out = contents.taken, dict(chosen.left_out)
        else:
            check_same(self._first, (snapshot, chosen))

    @property
    def chosen(self) -> Chosen:
        """The tensors that all hold."""
        assert self._first is not None
        return self._first[1]


def _ready(
    settings: ImportSettings,
    found: Sources,
    survey: _Survey,
    order: Sequence[int],
    steps: Sequence[int],
    snapshots: Sequence[Snapshot],
) -> Ready:
    chosen = survey.chosen
    rows = len(order) - settings.updates
    told = [survey.series[at] for at in order]
    rates: list[Mapping[str, float]] = [{}] * rows
    left_out = dict(survey.left_out)
    if settings.updates:
        told = told[1:]
        rates, why = _rates(snapshots[:-1])
        if why:
            left_out["lr"] = why
    by_row = [{**one, **rate} for one, rate in zip(told, rates, strict=True)]
    series = {}
    for name in sorted({name for row in by_row for name in row}):
        having = sum(name in row for row in by_row)
        if having == rows:
            series[name] = [row[name] for row in by_row]
        else:
            left_out.setdefault(name, f"a series of {having} of {rows} rows alone")
    dtypes = {
        name: update_dtype(kind).name if settings.updates else kind.dtype
        for name, kind in chosen.tensors.items()
    }
    if BFLOAT16 in dtypes.values():
        bfloat16()
    written = sum(Kind(kind.shape, dtypes[name]).nbytes for name, kind in chosen.tensors.items())
    warnings = _left_out_warnings(left_out)
    for log in found.logs:
        warnings += log.warnings(set(chosen.tensors))
    declared = dict(found.declared)
    every = None
    if settings.updates:
        apart = {int(gap) for gap in np.diff([steps[at] for at in order])}
        every = apart.pop() if len(apart) == 1 else None
        declared = {"kind": UPDATES, "every": every}
    plan = ImportPlan(
        updates=settings.updates,
        every=every,
        steps=tuple(
            ImportedStep(snapshot.place, steps[at], chosen.nbytes)
            for at, snapshot in zip(order, snapshots, strict=True)
        ),
        tensors=tuple(
            ImportedTensor(name, kind.shape, dtypes[name], kind.dtype)
            for name, kind in chosen.tensors.items()
        ),
        series=tuple(series),
        taken=survey.taken,
        left_out=left_out,
        bytes_read=chosen.nbytes * len(order),
        bytes_written=written * rows,
        warnings=tuple(warnings),
    )
    return Ready(plan, tuple(snapshots), chosen, series, found.attributes, declared)


def _rates(snapshots: Sequence[Snapshot]) -> tuple[list[Mapping[str, float]], str]:
    """The rate that the first step behind each checkpoint was taken with, and why one has none."""
    rates: list[Mapping[str, float]] = []
    why = ""
    for snapshot in snapshots:
        rate, told = learning_rate(snapshot)
        rates.append({} if rate is None else {"lr": rate})
        why = why or told
    return rates, why


def _left_out_warnings(left_out: Mapping[str, str]) -> list[LogWarning]:
    reasons: dict[str, list[str]] = {}
    for name, why in left_out.items():
        reasons.setdefault(why, []).append(name)
    told = "; ".join(f"{shown(names, 4)} ({why})" for why, names in reasons.items())
    return [LogWarning("left-out", f"left out: {told}")] if told else []


def bfloat16() -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(library("ml_dtypes", "writing bfloat16").bfloat16)
    return dtype
