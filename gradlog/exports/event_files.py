"""Series as scalars of TensorBoard: a folder with a file of events for the run, its windows and its steps."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..libraries import load_library
from .exported_series import GROUP, RUN, STEP, TENSOR, TOTAL, WINDOW, Series, Spans

FILE = "events.out.tfevents.0000000000.gradmf"
"""TensorBoard takes any name with `tfevents`; the usual time and host would differ from call to call."""
PLURALS = {TENSOR: "tensors", GROUP: "groups"}
VALUES = 1 << 12
"""Of one event at most."""
Doubles = NDArray[np.float64]


def load(name: str) -> Any:
    """A module of tensorboard. Raises UsageError, which names the extra, where it cannot be loaded."""
    return load_library(name, "event files need", "pip install 'gradmf[tensorboard]'")


def load_writer() -> tuple[Any, Any]:
    """The modules of protocol buffers of events, and of files of records."""
    load("tensorboard")
    return load("tensorboard.compat.proto.event_pb2"), load("tensorboard.summary.writer.record_writer")


def tag_of(scope: str, name: str | None, quantity: str, argument: str) -> str:
    """The tag of a series: QUANTITY[/ARGUMENT]/total, or .../tensors/NAME, .../groups/NAME."""
    place = TOTAL if name is None else f"{PLURALS[scope]}/{name}"
    words = (quantity, argument, place) if argument else (quantity, place)
    return "/".join(words).encode("utf-8", "backslashreplace").decode()


def write_events(
    runs: Iterable[tuple[str, Iterable[Series]]], folder: Path, *, several: bool
) -> tuple[int, int]:
    """Write run/, window/ and step/ in `folder`; of several runs in a folder of each below it.

    The number of values, and of those left out as float32 cannot hold them.
    """
    written, lost = 0, 0
    taken: set[str] = set()
    for run, series in runs:
        place = folder
        if several:
            place = folder / _free_name(run, taken)
            place.mkdir()
        by_level: dict[str, list[Series]] = {RUN: [], WINDOW: [], STEP: []}
        for each in series:
            by_level[each.spans.per].append(each)
        for level, held in by_level.items():
            if held:
                (place / level).mkdir()
                counts = _write_file(place / level / FILE, held)
                written, lost = written + counts[0], lost + counts[1]
    return written, lost


def _free_name(run: str, taken: set[str]) -> str:
    """A name of a folder for a run: the last part of its path, and a number where that is taken."""
    last = PurePath(run).name.removesuffix(".zarr")
    name = re.sub(r"[^\w.+=@-]", "_", last, flags=re.ASCII)[:100].strip(".") or "run"
    free = next(
        n for n in itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2))) if n not in taken
    )
    taken.add(free)
    return free


def _write_file(path: Path, held: list[Series]) -> tuple[int, int]:
    events, records = load_writer()
    written, lost = 0, 0
    with path.open("wb") as file:
        writer = records.RecordWriter(file)
        writer.write(events.Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
        # Series of the same rows stand together: one event holds their values of a step.
        for spans, together in itertools.groupby(held, lambda series: series.spans):
            for columns in _chunks(list(_columns(together))):
                beyond = np.zeros(len(spans.rows), dtype=np.int64)
                for at, step, wall_time in _places(spans):
                    event = events.Event(wall_time=wall_time, step=step)
                    for tag, values, narrow in columns:
                        if np.isfinite(narrow[at]):
                            event.summary.value.add(tag=tag, simple_value=narrow[at])
                        elif np.isfinite(values[at]):
                            beyond[at] += 1
                    if event.summary.value:
                        written += len(event.summary.value)
                        writer.write(event.SerializeToString())
                lost += int(beyond.sum())
    return written, lost


def _columns(together: Iterable[Series]) -> Iterator[tuple[str, Doubles, NDArray[np.float32]]]:
    """The tag of each column of values, these, and as float32."""
    for series in together:
        for end, values in (("", series.values), ("_lower", series.lower), ("_upper", series.upper)):
            if values is not None:
                tag = tag_of(series.scope, series.name, series.quantity + end, series.argument)
                with np.errstate(over="ignore"):
                    yield tag, values, values.astype(np.float32)


def _chunks(columns: list[Any]) -> Iterator[list[Any]]:
    return (columns[first : first + VALUES] for first in range(0, len(columns), VALUES))


def _places(spans: Spans) -> Iterator[tuple[int, int, float]]:
    """Number, step and time of each value: the last training step and row of what it is of.

    Rows stand for steps and for seconds where these are not known: logs have no clock.
    """
    rows = spans.rows[:, 1].tolist()
    steps = rows if spans.steps is None else spans.steps[:, 1].tolist()
    return ((at, step, float(row)) for at, (step, row) in enumerate(zip(steps, rows, strict=True)))
