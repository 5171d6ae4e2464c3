"""Functions that read a log, called by workers where a cluster takes whole runs."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from ..logs.places.access import current_access
from ..results.result import Settings
from .cluster import Cluster, current_cluster, shared_path, taken_by

_F = TypeVar("_F", bound=Callable[..., Any])


def takes_whole_runs(function: _F) -> _F:
    """Let a function that reads a log be called by a worker, where a cluster takes whole runs.

    function : of a run and settings, which can be imported by its name; its `progress` is not told there
    """

    @functools.wraps(function)
    def taken(run: Any, settings: Settings | None = None, *args: Any, **how: Any) -> Any:
        cluster = current_cluster()
        if cluster is None or not cluster.whole_runs or not isinstance(run, str | os.PathLike):
            return function(run, settings, *args, **how)
        # Deferred: few analyses are taken by a cluster.
        from .failures import Failure
        from .run_tasks import ToCut

        found = _value(cluster, taken, os.fspath(run), settings or Settings(), how)
        if isinstance(found, Failure):
            raise found.error()
        if isinstance(found, ToCut):
            with taken_by(Cluster(cluster.workers)):
                return function(run, settings, *args, **how)
        return found

    return cast("_F", taken)


def _value(
    cluster: Cluster, function: Callable[..., Any], run: str, settings: Settings, how: Mapping[str, Any]
) -> Any:
    from .run_tasks import RunTask, take_run

    sent = {word: value for word, value in how.items() if word not in ("progress", "scratch")}
    task = RunTask(function, shared_path(run), run, current_access(), settings, sent)
    with cluster.workers.job() as job:
        (held,) = job.map(take_run, [task])
        return job.value(held)
