"""Write analyses for other tools, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from ..errors import UsageError
from ..logs.places.finding import folder_to_write, place_of
from ..logs.whole_file import whole_folder
from ..quick_dataclass import dataclass
from ..results.result import Analysis
from . import event_files, parquet_file
from .csv_file import COMPRESSED, write_csv
from .event_files import write_events
from .exported_series import Series, left_out, series_of
from .parquet_file import write_parquet

TENSORBOARD, PARQUET, CSV = "tensorboard", "parquet", "csv"
TARGETS = (TENSORBOARD, PARQUET, CSV)


@dataclass(frozen=True)
class ExportSummary:
    """What was written to `path`: so many values of so many runs.

    left_out : what is not there, and why, for each run by its path; of all together by ""
    """

    path: str
    to: str
    runs: int
    values: int
    left_out: tuple[tuple[str, str], ...]


def export(runs: Analysis | Iterable[Analysis], path: str | os.PathLike[str], *, to: str) -> ExportSummary:
    """Write the series of one analysis, or of several, for other tools; whole or not at all.

    Figures of the run, of windows and of steps, of the whole model, of tensors and of groups, as far as the
    analyses hold them: `analyze(..., Settings(windows=8), tensor_steps=True)` gives all. docs/export.md lists
    columns and tags. The same analyses give the same bytes.

    Parameters
    ----------
    runs : analyses of `analyze` or `read_analyses`; an iterator is taken one by one, and none is kept
    path : the file to write, which replaces one that is there; for tensorboard a new folder
    to : "csv", gzip-compressed where `path` ends in .gz; "parquet", which needs pyarrow; "tensorboard", which
        needs tensorboard and holds float32

    Raises
    ------
    UsageError : another `to`, no runs, a library that is not there, a folder that is there already or has no
        place
    OSError : names `path`, where the system refuses
    """
    check_export(path, to)
    several = not isinstance(runs, Analysis)
    told: list[tuple[str, str]] = []
    count = 0

    def each() -> Iterator[tuple[str, Iterable[Series]]]:
        nonlocal count
        for analysis in runs if not isinstance(runs, Analysis) else (runs,):
            count += 1
            run = analysis.run.path
            told.extend((run, analysis.run.kind.say(text)) for text in left_out(analysis))
            yield run, series_of(analysis)
        if not count:
            raise UsageError(f"{os.fspath(path)}: no runs to export")

    if to == TENSORBOARD:
        with whole_folder(path) as folder:
            values, lost = write_events(each(), folder, several=several)
        if lost:
            told.append(("", f"{lost:,} {'value' if lost == 1 else 'values'} beyond float32"))
    else:
        with place_of(path).whole_file() as file:
            if to == PARQUET:
                values = write_parquet(each(), file)
            else:
                values = write_csv(each(), file, compress=os.fspath(path).endswith(COMPRESSED))
    return ExportSummary(os.fspath(path), to, count, values, tuple(told))


def check_export(path: str | os.PathLike[str], to: str) -> None:
    """Raise UsageError for what `export` would refuse, before anything is analyzed."""
    if to not in TARGETS:
        raise UsageError(f"export to {to!r}: known are {', '.join(TARGETS)}")
    if to == TENSORBOARD:
        event_files.load_writer()
        folder_to_write(path).check_free()
        return
    if to == PARQUET:
        parquet_file.load()
    place_of(path).check_file()
