"""Errors of gradient logs: each is one or two plain lines and carries the command line's exit code."""

from __future__ import annotations


class GradmfError(Exception):
    """Base of all errors that gradmf raises on purpose."""

    exit_code = 1


class DataError(GradmfError, ValueError):
    """The log is at fault: not a log, damaged, incomplete, or not finite."""


class StoreNotFoundError(DataError, FileNotFoundError):
    """There is nothing at the path."""

    # OSError would show an errno and the path a second time.
    __str__ = Exception.__str__


class UsageError(GradmfError, ValueError):
    """The request is at fault: an unknown predictor, rows out of range, a pattern that matches nothing."""

    exit_code = 2


class MemoryLimitError(GradmfError, MemoryError):
    """The work does not fit in the memory that was granted."""

    exit_code = 2


class ClusterError(GradmfError, RuntimeError):
    """Workers cannot be reached, or were lost, or are no good for the work."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
