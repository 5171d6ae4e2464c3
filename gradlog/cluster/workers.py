"""Where tasks are run, and the tree in which what they return is added up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from ..progress import Progress

_T = TypeVar("_T")
_V = TypeVar("_V")

Held = Any
"""Stands for what a task returns, which stays where it is until its value is asked for."""
Report = Callable[[int], None]
"""Is told by a task how many bytes it has done so far."""

PATIENCE = 60.0
"""Seconds without any worker after which the work is given up."""
FAN_IN = 8
"""Neighbours that are added up one after the other. The tree follows from the number of leaves alone, so that
sums have the same bits wherever, and in whichever order, they are formed."""


class Job(ABC):
    """Tasks that belong together: a context manager, which cancels them where the work with them fails.

    Functions and items are such as can be sent to where they run. Errors of tasks are values.
    """

    @abstractmethod
    def map(self, function: Callable[..., _V], items: Sequence[_T], *shared: Any) -> list[Held]:
        """Have a function called with each item, a `Report`, and what is shared by all, sent once."""

    @abstractmethod
    def add(self, function: Callable[..., _V], held: Sequence[Held], *shared: Any) -> Held:
        """Have a function called with what is held, in its order, and what is shared."""

    @abstractmethod
    def value(self, held: Held) -> Any:
        """What is held, waited for. Raises ClusterError where it cannot be had."""

    @abstractmethod
    def cancel(self) -> None:
        """Nothing is wanted any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()


class Workers(ABC):
    """What runs tasks.

    count : how many it runs at once, about; told : where they are, in words
    different : workers with other versions of libraries than this process, in words
    """

    count: int = 1
    told: str = "this process takes all parts"
    different: Sequence[str] = ()

    @abstractmethod
    def job(self, progress: Progress | None = None, total: int = 0) -> Job:
        """A new job. progress : is told bytes done, of `total`, while a value is waited for"""

    @abstractmethod
    def close(self) -> None:
        """Give all jobs up, which other threads may wait for."""


class ThisProcess(Workers):
    """Runs a task when its value is asked for, the first leaves first: few values are there at once."""

    def job(self, progress: Progress | None = None, total: int = 0) -> Job:
        """As of `Workers`."""
        return _JobHere(progress, total)

    def close(self) -> None:
        """As of `Workers`: no other thread waits."""


class _JobHere(Job):
    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total = progress, total
        self._done: dict[int, int] = {}

    def map(self, function: Callable[..., _V], items: Sequence[_T], *shared: Any) -> list[Held]:
        """As of `Job`."""

        def call(number: int, item: _T) -> Callable[[], _V]:
            def report(done: int) -> None:
                self._done[number] = done
                if self._progress is not None:
                    self._progress(sum(self._done.values()), self._total)

            return lambda: function(item, report, *shared)

        return [call(number, item) for number, item in enumerate(items)]

    def add(self, function: Callable[..., _V], held: Sequence[Held], *shared: Any) -> Held:
        """As of `Job`: each value is there once the function asks for it."""
        return lambda: function((value() for value in held), *shared)

    def value(self, held: Held) -> Any:
        """As of `Job`."""
        return held()

    def cancel(self) -> None:
        """As of `Job`: nothing was begun."""


def below_the_root(job: Job, function: Callable[..., _V], held: Sequence[Held], *shared: Any) -> list[Held]:
    """What the root has to add of all that is held, by a tree whose nodes have FAN_IN neighbours."""
    while len(held) > FAN_IN:
        groups = [held[first : first + FAN_IN] for first in range(0, len(held), FAN_IN)]
        held = [group[0] if len(group) == 1 else job.add(function, group, *shared) for group in groups]
    return list(held)


def added_up(job: Job, function: Callable[..., _V], held: Sequence[Held], *shared: Any) -> Held:
    """What all that is held adds up to, at the root of that tree."""
    below = below_the_root(job, function, held, *shared)
    return below[0] if len(below) == 1 else job.add(function, below, *shared)
