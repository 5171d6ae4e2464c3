"""What an analysis would do, in numbers and words, without reading gradients: the data behind `--plan`."""

from __future__ import annotations

import os

from ..cluster.cluster import Cluster, taken_by
from ..cluster.estimate import NETWORK_RATE, ClusterEstimate, estimate_cluster
from ..cluster.workers import ThisProcess
from ..engine.costs import FUSED_RATE
from ..engine.parameter_range import ParameterRange
from ..engine.plan import AFFORDABLE_SECONDS, Plan
from ..errors import UsageError
from ..logs.opening import Run
from ..measures.incremental.incremental_spectra import BASIS_LEAST, IncrementalRank
from ..measures.sketch.sketch_limits import SMALL_SHARE
from ..measures.spectra.costs import exact_seconds, incremental_seconds
from ..measures.spectra.exact_spectrum import ExactOverColumns
from ..quick_dataclass import dataclass
from ..results.projection import CHOSEN_DIMENSIONS
from ..results.result import LogWarning, Settings
from ..sizes import DEFAULT_MEMORY, format_size
from .preparation import Preparation, check_settings, prepare

BOTTLENECKS = {
    "network": "reading over the network: more workers shorten it, and so does every k-th step",
    "reading": "decoding and sums: more workers shorten them",
    "products": "the products of all pairs of rows, which grow with the square of their number: more workers "
    "shorten them, every k-th step does twice, and --rank none goes without",
    "spectra": "the spectra of tensors, which grow with the cube of the number of rows, each on one core: no "
    "more workers shorten them than there are tensors",
    "adding": "adding what parts hand on, which grows with the square of the number of rows: no number of "
    "workers shortens it",
    "at_end": "the spectrum of the whole model, which the client finds alone: no number of workers "
    "shortens it",
}
"""Stages as of `Stages`, and what shortens them."""


@dataclass(frozen=True)
class PlanDescription:
    """A plan for people. seconds : a rough estimate; memory : above the interpreter and its libraries

    decodes : how often the chunk that is decoded most often is decoded; words : the plan in sentences
    cluster : what it takes of workers, where there are to be any; memory is then one of them's
    """

    path: str
    method: str
    rows: int
    parameters: int
    tensors: int
    ranges: int
    blocks: int
    block_bytes: int
    buffers: int
    workers: int
    basis_rows: int
    decoded_bytes: int
    decodes: int
    memory: int
    seconds: float
    words: tuple[str, ...]
    warnings: tuple[LogWarning, ...]
    cluster: ClusterEstimate | None = None


def describe_plan(
    run: Run,
    settings: Settings | None = None,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    scratch: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> PlanDescription:
    """The plan that `analyze` would follow with the same arguments.

    workers : of one thread each, that are to take the log in parts; then its metadata alone is read, and its
    chunks are not looked for

    Raises what `analyze` raises before it reads gradients.
    """
    settings = settings or Settings()
    beside, cluster = 0, None
    if workers is not None:
        ready, cluster = _for_workers(run, settings, threads, memory, workers)
    elif settings.project is not None:
        from .sketch_writer import prepare_projected

        check_settings(settings)
        ready, beside = prepare_projected(run, settings, threads, memory, scratch)
    else:
        ready = prepare(run, settings, threads, memory, scratch=scratch)
    plan = ready.plan
    return PlanDescription(
        path=ready.log.path,
        method=plan.method,
        rows=plan.count,
        parameters=sum(tensor.parameters for tensor in ready.tensors),
        tensors=len(ready.tensors),
        ranges=len(plan.ranges),
        blocks=sum(count * len(item.row_blocks) for item, count in plan.ranges.alike),
        block_bytes=plan.block_bytes,
        buffers=plan.buffers,
        workers=plan.workers,
        basis_rows=_basis_rows(ready),
        decoded_bytes=plan.decoded_bytes,
        decodes=plan.decodes,
        memory=plan.memory + beside,
        seconds=plan.seconds + beside / FUSED_RATE,
        words=(*_words(ready, settings, memory, beside), *_cluster_words(cluster)),
        warnings=tuple(ready.warnings),
        cluster=cluster,
    )


def _for_workers(
    run: Run, settings: Settings, threads: int | None, memory: int, workers: int
) -> tuple[Preparation, ClusterEstimate]:
    if workers < 1:
        raise UsageError(f"workers {workers}: must be at least 1")
    if settings.project is not None:
        raise UsageError("--workers: what --project takes of them is not estimated: leave it away")
    with taken_by(Cluster(ThisProcess())):
        ready = prepare(run, settings, threads or 1, memory, listed=False)
    assert ready.cluster is not None
    assert ready.cluster.parts is not None
    return ready, estimate_cluster(ready.plan, ready.tensors, ready.cluster.parts, workers)


def _words(ready: Preparation, settings: Settings, memory: int, beside: int) -> list[str]:
    plan = ready.plan
    if settings.project is None:
        return [_method(ready, memory), _reading(ready), _decoding(ready), _memory(plan, memory, 0)]
    ranks = (
        ""
        if settings.rank == "none"
        else f", with 95% intervals of r* up to {settings.project // SMALL_SHARE:,}"
    )
    return [
        f"two passes: one writes a random projection of every {ready.log.kind.noun} to "
        f"{settings.project:,} dimensions a tensor, {format_size(beside)}, into memory",
        f"the other analyzes that: path lengths and kappas with standard errors{ranks}",
        _reading(ready),
        _decoding(ready),
        _memory(plan, memory, beside),
    ]


def _cluster_words(cluster: ClusterEstimate | None) -> list[str]:
    """What is thought of workers, and which stage keeps them longest."""
    if cluster is None:
        return []
    each, idle = -(-cluster.parts // cluster.workers), cluster.workers - cluster.parts
    if idle > 0:
        told = f"{cluster.parts:,} workers take a part each and {idle:,} none"
    else:
        told = f"a worker takes up to {each:,} of {cluster.parts:,} parts"
    return [
        f"{told}, one at a time with one thread, and gets {8 * NETWORK_RATE / 1e9:g} Gb/s of the network",
        f"the bottleneck is {BOTTLENECKS[cluster.bottleneck]}",
    ]


def _method(ready: Preparation, memory: int) -> str:
    plan = ready.plan
    rows = plan.count
    parameters = sum(tensor.parameters for tensor in ready.tensors)
    if plan.method == "none":
        return "no rank: path lengths alone were asked for"
    if plan.method == "exact":
        by_columns = isinstance(ready.spectrum, ExactOverColumns)
        size = parameters if by_columns else rows - 1
        side = "parameters" if by_columns else "increments"
        return (
            f"exact rank ({_why_exact(ready)}): from the {size:,} x {size:,} matrix of inner products of "
            f"{side}, which fits"
        )
    if plan.method == "sketch":
        return _sketch_words(ready, ready.sketch.projection.dim)
    return (
        f"incremental rank ({_why_incremental(ready, memory)}): a basis of {BASIS_LEAST} directions that "
        f"grows to {_basis_rows(ready):,} where that helps, with bounds on r* that are certain; they close "
        "to one number where energies fall off, and stay wide where there is no low rank"
    )


def _basis_rows(ready: Preparation) -> int:
    spectrum = ready.spectrum
    return spectrum.basis_rows or 0 if isinstance(spectrum, IncrementalRank) else 0


def _why_exact(ready: Preparation) -> str:
    if ready.settings.rank == "exact":
        return "asked for"
    exact, _ = _spectra_seconds(ready)
    if exact <= AFFORDABLE_SECONDS:
        return f"its arithmetic takes {_about(exact)}"
    return f"its arithmetic takes {_about(exact)}, and nothing else is much cheaper"


def _why_incremental(ready: Preparation, memory: int) -> str:
    if ready.settings.rank == "incremental":
        return "asked for"
    plan = ready.plan
    size = min(plan.count - 1, sum(tensor.parameters for tensor in ready.tensors))
    exact, incremental = _spectra_seconds(ready)
    if 3 * 8 * size**2 > memory:  # what the exact method holds at least
        return f"the exact rank's {size:,} x {size:,} matrices take more than {format_size(memory)}"
    return (
        f"the exact rank's {size:,} x {size:,} matrices take {_about(exact)}, this "
        f"{_about(incremental)}; --rank exact asks for it all the same"
    )


def _spectra_seconds(ready: Preparation) -> tuple[float, float]:
    rows = ready.plan.count
    sizes = [tensor.parameters for tensor in ready.tensors]
    return exact_seconds(sizes, rows), incremental_seconds(sizes, rows)


def _about(seconds: float) -> str:
    return "less than a second" if seconds < 1 else f"about {seconds:,.0f} s"


def _sketch_words(ready: Preparation, dim: int) -> str:
    why = "asked for" if ready.settings.rank == "sketch" else "nothing certain fits"
    smaller = dim < CHOSEN_DIMENSIONS[0] and ready.settings.sketch_dim is None
    short = ", the most that memory allows" if smaller else ""
    return (
        f"rank by a sketch ({why}): a random projection of every increment to {dim:,} dimensions{short}, "
        f"with 95% intervals of r* up to {dim // SMALL_SHARE:,}"
    )


def _reading(ready: Preparation) -> str:
    plan = ready.plan
    if not plan.ranges:
        return "there are no parameters to read"
    widest = max((item for item, _ in plan.ranges.alike), key=lambda item: item.width)
    rows = plan.count
    blocks = _row_words(widest, rows)
    if len(plan.ranges) == 1:
        return f"all {widest.width:,} parameters are read together, {blocks}"
    return f"{len(plan.ranges):,} ranges of up to {widest.width:,} parameters are read one by one, {blocks}"


def _row_words(item: ParameterRange, rows: int) -> str:
    if len(item.row_blocks) == 1:
        return f"all {rows:,} rows at once"
    return f"in {len(item.row_blocks):,} blocks of up to {item.block_rows:,} rows"


def _decoding(ready: Preparation) -> str:
    plan = ready.plan
    if ready.scratch is not None:
        return (
            f"every chunk is decoded once, the tall ones into scratch files of up to "
            f"{format_size(ready.scratch.capacity)}"
        )
    if plan.decodes == 1:
        return "every chunk is decoded once"
    return (
        f"a chunk holds more than fits at once: chunks are decoded up to {plan.decodes} times, a piece each "
        "time; a larger --memory would save that"
    )


def _memory(plan: Plan, memory: int, beside: int) -> str:
    sketch = "the sketch, " if beside else ""
    blocks = "one block" if plan.buffers == 1 else f"{plan.buffers} blocks"
    taken = f"{format_size(plan.memory + beside)} of the {format_size(memory)} granted"
    in_memory = f"{blocks} of {format_size(plan.block_bytes)} in memory"
    return f"about {taken}: {sketch}{in_memory}, {plan.workers} tiles in work"
