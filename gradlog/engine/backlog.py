"""Work in a pool, of which no more waits than was counted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Backlog:
    """What waits holds memory that the plan counted."""

    def __init__(self, pool: Executor, most: int) -> None:
        """most : pieces of work that are submitted and not done"""
        self._pool = pool
        self._most = most
        self._waiting: list[Future[Any]] = []

    def submit(self, work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """As of the pool, once there is room. Raises what the work that is waited for raises."""
        self._waiting = [future for future in self._waiting if not future.done()]
        if len(self._waiting) >= self._most:
            self._waiting[0].result()
        future = self._pool.submit(work, *args, **kwargs)
        self._waiting.append(future)
        return future
