"""Analyze a part of a log's parameters: sums for `merge_parts` to add up with those of the other parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..engine.request import Span
from ..engine.splitting import PartNumber
from ..engine.state import HeldState, State
from ..errors import DataError
from ..logs.opening import Run
from ..logs.store import codec_pipeline
from ..progress import Progress
from ..quick_dataclass import dataclass
from ..results.result import Cost, LogWarning, Settings
from ..results.selection import Selection
from ..sizes import DEFAULT_MEMORY
from ..version import __version__
from .preparation import Preparation, prepare
from .prepared_pass import nonfinite_text, take_pass, with_series
from .wanted import Wanted, band_width, sketch_dimension


@dataclass(frozen=True)
class PartialAnalysis:
    """What a pass over one part of the parameters gathered.

    selection, settings, method, span, plan, strips, tensor_steps, search : of the whole analysis, the same in
    all of its parts; `plan` is a digest of how the parameters are read and split, `strips` how many each
    tensor is cut into
    band, sketch_dim : those that memory allows for, where predictors are searched in a band of rows, and
    where ranks are a sketch's; the same in all parts too
    held : strips of each tensor that are in this part
    states : of each measure, by name: plain arrays, as of `Accumulator.state`
    """

    version: str
    part: PartNumber
    selection: Selection
    settings: Settings
    method: str
    span: Span
    plan: str
    strips: Sequence[int]
    held: Sequence[int]
    tensor_steps: bool
    search: bool
    band: int | None
    sketch_dim: int | None
    states: Mapping[str, State]
    warnings: tuple[LogWarning, ...]
    cost: Cost

    @property
    def state(self) -> HeldState:
        """What it gathered, to be added to that of other parts: see `engine.adding`."""
        return HeldState(self.states, self.held)


def analyze_part(
    run: Run,
    part: PartNumber,
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    progress: Progress | None = None,
    tensor_steps: bool = False,
    search: bool = False,
) -> PartialAnalysis:
    """What `analyze` would gather, of one part of the parameters only; arguments and errors as there.

    All parts of a run must be made with the same settings and `memory`, which decide how it is split. Rank
    "auto" is exact, and "incremental" has no parts. Rows that are not finite raise DataError with
    `nonfinite="drop"` too: the other parts would not know of them.
    """
    settings = settings or Settings()
    ready = prepare(run, settings, threads, memory, part, Wanted(tensor_steps, search))
    return take_part(ready, part, progress)


def take_part(ready: Preparation, part: PartNumber, progress: Progress | None = None) -> PartialAnalysis:
    """The pass over a part that was prepared. Errors as of `analyze_part`."""
    assert ready.part is not None
    with codec_pipeline(ready.workers):
        gathered = take_pass(ready, ready.keep, progress)
    selection = ready.selection(ready.keep)
    if gathered.nonfinite:
        raise DataError(
            f"{selection.path}: {nonfinite_text(ready, gathered.nonfinite)}; a part cannot drop steps, "
            "because the other parts would keep them: leave them out of all parts with "
            "--rows, or analyze in one run"
        )
    tensors, strips, held = range(len(ready.tensors)), ready.part.strips, ready.plan.strips
    selection, told = with_series(ready, selection, ready.keep)
    return PartialAnalysis(
        version=__version__,
        part=part,
        selection=selection,
        settings=ready.settings,
        method=ready.plan.method,
        span=ready.plan.span,
        plan=ready.part.digest,
        strips=[strips[tensor] for tensor in tensors],
        held=[held[tensor] for tensor in tensors],
        tensor_steps=ready.wanted.tensor_steps,
        search=ready.wanted.search,
        band=band_width(ready.plan.measures),
        sketch_dim=sketch_dimension(ready.plan.measures),
        states=gathered.states,
        warnings=(*ready.warnings, *told),
        cost=ready.cost(),
    )
