"""Requests to object stores, many at a time, each by a thread that waits for it.

obstore's own coroutines call back into Python from threads of its own, and abort a process that ends just
then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")

AT_ONCE = 128
"""Requests that are under way together."""


@functools.cache
def request_pool() -> ThreadPoolExecutor:
    """The threads that wait."""
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="gradmf-request")


def together(work: Callable[..., _T], items: Iterable[tuple[Any, ...]], at_once: int = AT_ONCE) -> list[_T]:
    """What `work` makes of items, in their order. Where it raises, no other is begun, and that is raised."""
    waiting: list[Future[_T]] = []
    found: list[_T] = []
    pool = request_pool()
    try:
        for item in items:
            if len(waiting) - len(found) >= at_once:
                found.append(waiting[len(found)].result())
            waiting.append(pool.submit(work, *item))
        found += [each.result() for each in waiting[len(found) :]]
    finally:
        for each in waiting[len(found) :]:
            each.cancel()
    return found
