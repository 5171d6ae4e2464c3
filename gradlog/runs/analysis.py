"""Analyze a log: open, check, plan, one pass, results."""

from __future__ import annotations

import os

from ..cluster.whole_runs import takes_whole_runs
from ..errors import UsageError
from ..logs.opening import Run
from ..progress import Progress
from ..results.result import Analysis, Settings
from ..sizes import DEFAULT_MEMORY
from .preparation import check_settings, prepare
from .prepared_pass import run_analysis
from .wanted import Wanted


@takes_whole_runs
def analyze(
    run: Run,
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    scratch: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    tensor_steps: bool = False,
    search: bool = False,
) -> Analysis:
    """Path lengths, kappas and predictable ranks of a run's gradients, from one pass over its log.

    Parameters
    ----------
    run : path of a store, a group or a store that was opened with zarr, or a log from `open_log`
    settings : everything that changes the numbers; `Settings()` by default
    threads : tiles in work at once; by default the processors this process may use. The numbers are the
        same to the last bit for any number of threads
    memory : bytes that the pass may take above the interpreter and its libraries
    scratch : a folder for scratch files, where chunks that are too tall for memory are decoded once if that
        is faster; nothing is left there
    progress : called with (bytes done, bytes in all) from the calling thread
    tensor_steps : keep the per-step sums of each tensor too, as `compare` needs them for intervals
    search : find the best predictors of each family too, as `bounds` needs them

    Raises
    ------
    UsageError : settings that make no sense, or that select nothing
    DataError : the log is at fault; the message names file, tensor and row
    MemoryLimitError : the work does not fit in `memory`; the message says how much it takes
    ScratchError : the scratch folder is lost, is not to be written to, or has no room
    """
    settings = settings or Settings()
    if settings.project is not None:
        if search:
            raise UsageError("--project: --search takes the gradients themselves")
        from .sketch_writer import analyze_projected

        check_settings(settings)
        return analyze_projected(
            run,
            settings,
            threads=threads,
            memory=memory,
            scratch=scratch,
            progress=progress,
            tensor_steps=tensor_steps,
        )
    wanted = Wanted(tensor_steps, search)
    ready = prepare(run, settings, threads, memory, wanted=wanted, scratch=scratch)
    return run_analysis(ready, progress)[0]
