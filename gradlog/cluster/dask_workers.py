"""Workers of a Dask cluster, local or remote. Needs the extra `dask`."""

from __future__ import annotations

import contextlib
import importlib
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ClusterError, UsageError, first_line
from ..libraries import load_library
from ..processors import available_processors
from ..progress import Progress
from .here import load_ahead
from .workers import PATIENCE, Held, Job, Workers

_T = TypeVar("_T")
_V = TypeVar("_V")

CONNECT_SECONDS = 10.0
"""To reach a scheduler, and for its workers to answer."""
_POLL = 0.25
_REPORT_SECONDS = 0.2
LOCAL = "local"
_LOCAL_SETTINGS = {
    # Dask has memory given back beyond 64 KiB: that of every array is asked for anew.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 128 << 20,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 32 << 20,
    "distributed.worker.profile.enabled": False,  # a hundred times a second
}
"""Of a cluster that is here for one command."""
_SAME = ("gradmf", "Python")
"""What workers have to have in the same version: what is sent is of their making."""


class DaskWorkers(Workers):
    """Workers of a cluster. patience : seconds without any of them after which it is given up

    address : of the scheduler; count : of workers; dashboard : where Dask shows its work, None where it
    shows none; different : workers with other versions of libraries, in words
    """

    def __init__(self, client: Any, *, patience: float = PATIENCE) -> None:
        self.client = client
        self.patience = patience
        self.address = str(client.scheduler.address)
        self.count, self.different = check_workers(client)
        with contextlib.suppress(Exception):
            client.run(load_ahead)
        self.dashboard = client.dashboard_link if _shows_dashboard() else None
        shown = f", dashboard at {self.dashboard}" if self.dashboard else ""
        self.told = f"{self.count} worker{'s' * (self.count > 1)} of Dask at {self.address}{shown}"
        self.jobs: set[_DaskJob] = set()

    def job(self, progress: Progress | None = None, total: int = 0) -> Job:
        """As of `Workers`."""
        return _DaskJob(self, progress, total)

    def close(self) -> None:
        """As of `Workers`."""
        for job in list(self.jobs):
            job.cancel()


class _DaskJob(Job):
    """Futures of a client, held as long as their values may be wanted."""

    def __init__(self, workers: DaskWorkers, progress: Progress | None, total: int) -> None:
        self._workers, self._client = workers, workers.client
        self._progress, self._total = progress, total
        self._futures: list[Any] = []
        self._done: dict[int, int] = {}
        self._shared: dict[int, tuple[Any, Any]] = {}
        self._topic = f"gradmf-{uuid.uuid4().hex}"
        self._given_up = False
        workers.jobs.add(self)
        if progress is not None:
            self._client.subscribe_topic(self._topic, self._take_report)

    def map(self, function: Callable[..., _V], items: Sequence[_T], *shared: Any) -> list[Held]:
        """As of `Job`."""
        topic = None if self._progress is None else self._topic
        return [
            self._submit(_run, function, topic, number, item, *map(self._share, shared))
            for number, item in enumerate(items)
        ]

    def add(self, function: Callable[..., _V], held: Sequence[Held], *shared: Any) -> Held:
        """As of `Job`."""
        return self._submit(function, list(held), *map(self._share, shared))

    def _share(self, value: Any) -> Any:
        """What a task gives: workers have it from each other, and make it anew where it was lost."""
        if id(value) not in self._shared:
            self._shared[id(value)] = value, self._submit(_itself, value)
        return self._shared[id(value)][1]

    def _submit(self, *task: Any) -> Any:
        # A worker that dies takes its tasks along: Dask gives them to others by itself.
        key = f"{self._topic}-{len(self._futures)}"
        try:
            future = self._client.submit(*task, key=key, pure=False)
        except Exception as error:
            raise self._lost(error) from error
        self._futures.append(future)
        return future

    def value(self, held: Held) -> Any:
        """As of `Job`."""
        from distributed import CancelledError, KilledWorker

        # It may be large, and take longer than what is looked after meanwhile: a thread waits for it.
        got: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        threading.Thread(target=_get, args=(held, got), name="gradmf-dask", daemon=True).start()
        alone_since: float | None = None
        address = self._workers.address
        while not self._given_up:
            try:
                value, error = got.get(timeout=_POLL)
            except queue.Empty:
                alone_since = self._look_after(alone_since)
                continue
            if error is None:
                return value
            if isinstance(error, KilledWorker):
                raise ClusterError(
                    f"{address}: worker after worker died at the same task: out of memory? give them more of "
                    "it, or a smaller --memory"
                ) from error
            if isinstance(error, CancelledError):
                raise ClusterError(f"{address}: the scheduler was lost") from error
            # Errors of tasks are values: this is one of sending them.
            raise self._lost(error) from error
        raise ClusterError(f"{address}: the work was given up")

    def _look_after(self, alone_since: float | None) -> float | None:
        """Tell how far it is; since when there has been no worker. Raises ClusterError after too long."""
        if self._progress is not None:
            self._progress(min(self._total, sum(self._done.values())), self._total)
        if self._has_workers():
            return None
        now = time.monotonic()
        if alone_since is not None and now - alone_since > self._workers.patience:
            raise ClusterError(
                f"{self._workers.address}: all workers are gone, and none came back within "
                f"{self._workers.patience:g} s"
            )
        return now if alone_since is None else alone_since

    def _lost(self, error: BaseException) -> ClusterError:
        return ClusterError(f"{self._workers.address}: {type(error).__name__}: {first_line(error)}")

    def _has_workers(self) -> bool:
        if self._client.status != "running":
            return False
        try:
            return bool(self._client.nthreads())
        except Exception:
            return False

    def _take_report(self, event: tuple[float, Any]) -> None:
        number, done = event[1]
        self._done[number] = max(done, self._done.get(number, 0))

    def cancel(self) -> None:
        """As of `Job`."""
        self._given_up = True
        self._workers.jobs.discard(self)
        with contextlib.suppress(Exception):
            unfinished = [future for future in self._futures if not future.done()]
            if unfinished:
                self._client.cancel(unfinished, force=True)
            if self._progress is not None:
                self._client.unsubscribe_topic(self._topic)
        self._futures = []
        self._shared = {}


def _itself(value: _T) -> _T:
    return value


def _get(held: Any, got: queue.SimpleQueue[tuple[Any, BaseException | None]]) -> None:
    try:
        got.put((held.result(), None))
    except BaseException as error:
        got.put((None, error))


def _run(function: Callable[..., _V], topic: str | None, number: int, item: Any, *shared: Any) -> _V:
    """A task as a worker runs it: it tells the client now and then how far it has come."""
    from distributed import get_worker

    worker, told = get_worker(), 0.0

    def report(done: int) -> None:
        nonlocal told
        now = time.monotonic()
        if topic is not None and now - told >= _REPORT_SECONDS:
            told = now
            worker.log_event(topic, (number, done))

    return function(item, report, *shared)


@contextlib.contextmanager
def open_workers(address: str, *, patience: float = PATIENCE) -> Iterator[DaskWorkers]:
    """The workers at an address: of a scheduler (tcp://HOST:PORT), in a scheduler file, or `local[:N]`.

    Raises ClusterError where they cannot be reached, or are no good for the work.
    """
    distributed = load_library(
        "distributed", "--dask needs", "install the extra with `pip install 'gradmf[dask]'`"
    )
    # What goes wrong is told in one line; its logs are for those who run the cluster.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as held:
        if address.partition(":")[0] == LOCAL:
            client = held.enter_context(_local_client(distributed, workers_of(address)))
        else:
            client = held.enter_context(_connected(distributed, address))
        yield DaskWorkers(client, patience=patience)


def workers_of(address: str) -> int | None:
    """N of local:N, None of local. Raises UsageError where it is neither."""
    _, colon, count = address.partition(":")
    if not colon:
        return None
    if not count.isdecimal() or int(count) < 1:
        raise UsageError(f"--dask {address}: give local or local:N, with N workers")
    return int(count)


@contextlib.contextmanager
def _local_client(distributed: Any, count: int | None) -> Iterator[Any]:
    """One thread a process: they are the unit of work, and settings of libraries are a process's."""
    with (
        importlib.import_module("dask.config").set(_LOCAL_SETTINGS),
        distributed.LocalCluster(
            n_workers=count or available_processors(),
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # --memory bounds them
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _shows_dashboard() -> bool:
    from importlib.util import find_spec

    return find_spec("bokeh") is not None


@contextlib.contextmanager
def _connected(distributed: Any, address: str) -> Iterator[Any]:
    how: dict[str, Any] = {"address": address}
    if "://" not in address:
        if not Path(address).is_file():
            raise UsageError(
                f"--dask {address}: no such file: give a scheduler's address (tcp://HOST:8786), its "
                "scheduler file, or local[:N]"
            )
        how = {"scheduler_file": address}
    try:
        client = distributed.Client(**how, timeout=CONNECT_SECONDS, set_as_default=False, name="gradmf")
    except Exception as error:
        raise ClusterError(
            f"{address}: no scheduler of Dask answers within {CONNECT_SECONDS:g} s: {first_line(error)}"
        ) from error
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=2)


def check_workers(client: Any) -> tuple[int, list[str]]:
    """How many workers there are, and which have other versions of libraries than this process.

    Raises ClusterError where none comes, or one has no gradmf, or another one.
    """
    address = client.scheduler.address
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        # A function within another is sent as it is: workers without gradmf can run it too.
        found: dict[str, Any] = client.run(_what_is_there(), on_error="return")
    except Exception as error:
        raise ClusterError(
            f"{address}: no worker answers within {CONNECT_SECONDS:g} s: start some with dask worker "
            f"{address}"
        ) from error
    mine, told = _what_is_there()(), []
    for worker, there in found.items():
        if isinstance(there, BaseException):
            raise ClusterError(f"worker {worker}: {type(there).__name__}: {first_line(there)}")
        different = {
            name: f"{name} {there[name] or 'missing'}, not {mine[name]}"
            for name in mine
            if there[name] != mine[name]
        }
        if different.keys() & set(_SAME):
            raise ClusterError(
                f"worker {worker}: {'; '.join(different.values())}: have the same gradmf and Python where "
                "workers run"
            )
        if different:
            told.append(f"worker {worker}: {'; '.join(different.values())}")
    return len(found), told


def _what_is_there() -> Callable[[], dict[str, str | None]]:
    def versions() -> dict[str, str | None]:
        import importlib.metadata
        import sys

        found: dict[str, str | None] = {"Python": ".".join(map(str, sys.version_info[:2]))}
        for name in ("gradmf", "numpy", "zarr", "numba"):
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = None
        return found

    return versions
