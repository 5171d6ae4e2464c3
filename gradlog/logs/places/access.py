"""How object stores are reached: with whose credentials, and how long one waits for an answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace

from ...quick_dataclass import dataclass


@dataclass(frozen=True)
class Access:
    """How requests are made.

    profile : of the files of AWS (~/.aws/credentials, ~/.aws/config), for s3://, None for the environment
    anonymous : requests are not signed
    seconds : without any byte, after which a request counts as lost
    retries : of a request that failed; deadline : seconds after which it is tried no more
    """

    profile: str | None = None
    anonymous: bool = False
    seconds: float = 20.0
    retries: int = 4
    deadline: float = 60.0


_DEFAULT = Access()
_current: ContextVar[Access] = ContextVar("access", default=_DEFAULT)


def current_access() -> Access:
    """How URLs are reached that are opened here."""
    return _current.get()


@contextlib.contextmanager
def remote_access(
    *,
    profile: str | None = None,
    anonymous: bool = False,
    seconds: float | None = None,
    retries: int | None = None,
    deadline: float | None = None,
) -> Iterator[None]:
    """Let URLs that are opened in the block be reached so.

    Arguments as of `Access`; None leaves the default of a limit.
    """
    told = {"seconds": seconds, "retries": retries, "deadline": deadline}
    limits = {word: value for word, value in told.items() if value is not None}
    with reached_by(replace(Access(profile, anonymous), **limits)):  # type: ignore[arg-type]
        yield


@contextlib.contextmanager
def reached_by(access: Access) -> Iterator[None]:
    """Let URLs that are opened in the block be reached so."""
    token = _current.set(access)
    try:
        yield
    finally:
        _current.reset(token)
