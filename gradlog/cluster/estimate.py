"""What a pass in parts takes of workers that nobody has started: work, memory, network, bottleneck."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.costs import CORES, STARTUP_SECONDS, chunk_reads
from ..engine.parameter_range import ParameterRange
from ..engine.plan import Plan
from ..engine.range_table import Ranges
from ..engine.request import PassShape
from ..engine.splitting import split
from ..logs.log import Tensor
from ..quick_dataclass import dataclass
from .workers import FAN_IN

NETWORK_RATE = 1.25e9
"""Bytes a second that a worker is thought to get: 10 Gb/s."""
ADD_RATE = 5e8
"""Bytes a second of states that are packed, unpacked and added by one core."""
PART_SECONDS = 0.04
"""Of a worker, for each part: what is begun and ended with it."""
HELD = 2
"""Times what is handed on, that takes in memory: of symmetric matrices half is sent."""


@dataclass(frozen=True)
class Level:
    """Of the tree that states are added in. states : that come in; nodes : that add them

    bytes : handed on to all nodes; largest : to one of them
    """

    states: int
    nodes: int
    bytes: int
    largest: int


@dataclass(frozen=True)
class CoreWork:
    """Seconds of one core. reading : decoding, and sums of rows; products : of pairs of rows

    spectra : of tensors, by the workers; at_end : of the whole model, by the client
    """

    reading: float
    products: float
    spectra: float
    at_end: float


@dataclass(frozen=True)
class Stages:
    """Seconds until the last worker is done, each stage for itself. network : of reading

    The network is waited for while a worker computes; the last two follow.
    """

    network: float
    reading: float
    products: float
    spectra: float
    adding: float
    at_end: float

    @property
    def total(self) -> float:
        """All of them, one hidden behind the other."""
        computing = self.reading + self.products + self.spectra
        return STARTUP_SECONDS + max(self.network, computing) + self.adding + self.at_end

    @property
    def bottleneck(self) -> str:
        """The stage that takes longest."""
        return max(vars(self), key=lambda stage: float(vars(self)[stage]))


@dataclass(frozen=True)
class ClusterEstimate:
    """What `workers` of one thread each take for a pass.

    parts : that the log is cut into; part_bytes, worker_bytes : decoded by one of them at most
    chunks : read, as often as they are; read_bytes : of them over the network, None where they are near
    memory : of a worker above its libraries; adding_memory : of one that adds FAN_IN states
    state_bytes : handed on in all, from level to level, the last to the client
    seconds : in all; work, stages, levels : what they are made of; bottleneck : a name among the stages
    """

    workers: int
    parts: int
    part_bytes: int
    worker_bytes: int
    chunks: int
    read_bytes: int | None
    state_bytes: int
    memory: int
    adding_memory: int
    work: CoreWork
    stages: Stages
    levels: tuple[Level, ...]
    seconds: float
    bottleneck: str


def estimate_cluster(plan: Plan, tensors: Sequence[Tensor], parts: int, workers: int) -> ClusterEstimate:
    """What it takes to follow a plan that was made for so many parts."""
    taken = split(plan, tensors, parts)
    levels = _levels(plan, tensors, [part.ranges for part in taken])
    remote = any(tensor.waiting_bytes for tensor in tensors)
    work = _work(plan, tensors)
    busy, rounds = min(parts, workers), -(-parts // workers)
    share = rounds / parts
    part_bytes = max(part.decoded_bytes for part in taken)
    worker_bytes = min(plan.decoded_bytes, rounds * part_bytes)
    together = -(-len(tensors) // busy) / len(tensors)
    stages = Stages(
        network=worker_bytes / NETWORK_RATE if remote else 0.0,
        reading=work.reading * share + rounds * PART_SECONDS,
        products=work.products * share,
        spectra=work.spectra * together,
        adding=sum(
            -(-level.nodes // workers) * level.largest * (1 / NETWORK_RATE + 1 / ADD_RATE) for level in levels
        ),
        at_end=work.at_end,
    )
    return ClusterEstimate(
        workers=workers,
        parts=parts,
        part_bytes=part_bytes,
        worker_bytes=worker_bytes,
        chunks=sum(count * _chunks(plan, tensors, item) for item, count in plan.ranges.alike),
        read_bytes=plan.decoded_bytes if remote else None,
        state_bytes=sum(level.bytes for level in levels),
        memory=plan.memory,
        adding_memory=HELD * max(level.largest + level.largest // FAN_IN for level in levels),
        work=work,
        stages=stages,
        levels=levels,
        seconds=stages.total,
        bottleneck=stages.bottleneck,
    )


def _work(plan: Plan, tensors: Sequence[Tensor]) -> CoreWork:
    sizes = [tensor.parameters for tensor in tensors]
    of_measures = [measure.core_seconds(sizes, plan.count) for measure in plan.measures]
    beside = sum(measure.seconds(sizes, plan.count) for measure in plan.measures)
    return CoreWork(
        reading=CORES * max(0.0, plan.seconds - beside - STARTUP_SECONDS),
        products=sum(each.products for each in of_measures),
        spectra=sum(each.spectra for each in of_measures),
        at_end=sum(each.at_end for each in of_measures),
    )


def _chunks(plan: Plan, tensors: Sequence[Tensor], item: ParameterRange) -> int:
    return sum(chunk_reads(tensors[each.tensor], plan.rows, each.box) for each in item.segments)


_Node = tuple[int, int]
"""The first and the last tensor that a node has gradients of."""


def _levels(plan: Plan, tensors: Sequence[Tensor], parts: Sequence[Ranges]) -> tuple[Level, ...]:
    """As of `added_up`, from the parts to the client."""
    nodes: list[_Node | None] = [
        (part[0].segments[0].tensor, part[-1].segments[-1].tensor) if len(part) else None for part in parts
    ]
    found = []
    while True:
        sizes = _state_sizes(plan, tensors, nodes)
        sums = [sum(sizes[first : first + FAN_IN]) for first in range(0, len(sizes), FAN_IN)]
        found.append(Level(len(sizes), len(sums), sum(sums), max(sums)))
        if len(sizes) == 1:
            return tuple(found)
        nodes = [_joined(nodes[first : first + FAN_IN]) for first in range(0, len(nodes), FAN_IN)]


def _joined(nodes: Sequence[_Node | None]) -> _Node | None:
    held = [node for node in nodes if node is not None]
    return (held[0][0], held[-1][1]) if held else None


def _state_sizes(plan: Plan, tensors: Sequence[Tensor], nodes: Sequence[_Node | None]) -> list[int]:
    """Bytes of the state of each node of a level."""

    def size(chosen: Sequence[Tensor], begun: int) -> int:
        shape = PassShape(chosen, plan.count, plan.count, 1, plan.span)
        return sum(measure.state_bytes(shape, begun) for measure in plan.measures)

    held = [node for node in nodes if node is not None]
    sizes = [size((), 0)] * (len(nodes) - len(held))
    for at, (first, last) in enumerate(held):
        begun = {first} if at and held[at - 1][1] == first else set()
        begun |= {last} if at + 1 < len(held) and held[at + 1][0] == last else set()
        sizes.append(size(tensors[first : last + 1], len(begun)))
    return sizes
