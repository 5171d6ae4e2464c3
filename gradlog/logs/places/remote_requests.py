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


POLL_SECONDS = 0.1
"""How often a thread that waits for answers looks whether it is to go on: an interrupt ends no lock."""


@functools.cache
def request_pool() -> ThreadPoolExecutor:
    """The threads that wait."""
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="gradmf-request")


def together(
    work: Callable[..., _T],
    items: Iterable[tuple[Any, ...]],
    at_once: int = AT_ONCE,
    check: Callable[[], None] = lambda: None,
) -> list[_T]:
    """What `work` makes of items, in their order. Where it raises, no other is begun, and that is raised.

    check : called again and again meanwhile, to raise what ends the wait; not to be called from `work`
    """
    waiting: list[Future[_T]] = []
    found: list[_T] = []
    pool = request_pool()
    try:
        for item in items:
            if len(waiting) - len(found) >= at_once:
                found.append(_result(waiting[len(found)], check))
            waiting.append(pool.submit(work, *item))
        found += [_result(each, check) for each in waiting[len(found) :]]
    finally:
        for each in waiting[len(found) :]:
            each.cancel()
    return found


def alone(work: Callable[..., _T], *item: Any) -> _T:
    """What `work` makes of one item, by another thread: as `together`."""
    return together(work, [item])[0]


def _result(future: Future[_T], check: Callable[[], None]) -> _T:
    while True:
        try:
            return future.result(POLL_SECONDS)
        except TimeoutError:
            if future.done():  # what the work itself raised
                raise
            check()
