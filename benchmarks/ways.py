"""The rows of the tables: what runs on each store, as whole processes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from stores import Store

PEERS = Path(__file__).parent / "peers"
MEMORY_SHARE = 0.6
"""A way is left out when it needs more than this share of the machine's memory."""


@dataclass(frozen=True)
class Way:
    """A command, made from the path of a store; `reference` is the way that its time is divided by."""

    name: str
    does: str
    command: tuple[str, ...]
    reference: str
    peer: bool = False
    needs: tuple[str, ...] = ()
    memory: Callable[[Store], float] = lambda _store: 0.0
    most_rows: int | None = None
    most_tensors: int | None = None
    fresh_cache: bool = False

    def arguments(self, store: Store, path: Path) -> list[str]:
        """The command for this store: RUN stands for its path, OPTIONS for the store's own options."""
        words: list[str] = []
        for word in self.command:
            words += [str(path)] if word == "RUN" else list(store.options) if word == "OPTIONS" else [word]
        return words

    def obstacle(self, store: Store) -> str | None:
        """Why this way can't run on the store here, in a word or two; None when it can."""
        for module in self.needs:
            if find_spec(module) is None:
                return f"{module} isn't installed"
        if not Path(self.command[0]).is_file():
            return f"{Path(self.command[0]).name} isn't installed"
        if self.most_rows is not None and store.rows > self.most_rows:
            return f"N = {store.rows:,} takes too long"
        if self.most_tensors is not None and len(store.tensors) > self.most_tensors:
            return "of one tensor only"
        memory = self.memory(store)
        if memory > MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            return f"needs about {memory / 1e9:.0f} GB"
        return None


def _python(script: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, str(PEERS / script), "RUN", *words)


def _gradmf() -> str:
    beside = Path(sys.executable).with_name("gradmf")
    return str(beside) if beside.is_file() else shutil.which("gradmf") or "gradmf"


ANALYZE = (_gradmf(), "analyze", "RUN", "OPTIONS", "--format", "json", "-q")

STORE_WAYS = (
    Way(
        "read-zarrs",
        "R: reads every chunk once with the zarrs pipeline, and nothing else",
        _python("read_store.py", "zarrs"),
        "read-zarrs",
        needs=("zarrs",),
    ),
    Way(
        "read-zarr",
        "the same with plain zarr-python",
        _python("read_store.py", "zarr"),
        "read-zarrs",
    ),
    Way(
        "gradmf analyze",
        "path lengths of six predictors and r*, of every tensor and the whole model",
        ANALYZE,
        "read-zarrs",
    ),
    Way(
        "gradmf analyze --rank none",
        "path lengths only",
        (*ANALYZE, "--rank", "none"),
        "read-zarrs",
    ),
    Way(
        "read, then H H^T",
        "reads every chunk once into a matrix in memory, and forms H H^T by BLAS in float32 on all cores",
        _python("read_store.py", "zarrs", "gram"),
        "read-zarrs",
        needs=("zarrs",),
        memory=lambda store: 2.5 * store.nbytes,
        most_rows=8_000,
        most_tensors=1,
    ),
    Way(
        "gradmf analyze --plan",
        "what `gradmf analyze` would do, without reading gradients",
        (*ANALYZE, "--plan"),
        "read-zarrs",
    ),
    Way(
        "gradmf analyze --rank none --plan",
        "the same of `--rank none`",
        (*ANALYZE, "--rank", "none", "--plan"),
        "read-zarrs",
    ),
    Way(
        "numpy-by-hand",
        "the whole log in memory, six predictors in a loop, H H^T, eigvalsh; the whole model only",
        _python("numpy_by_hand.py"),
        "read-zarrs",
        memory=lambda store: 3.0 * store.nbytes,
        most_rows=8_000,
    ),
    Way(
        "dask svd",
        "exact singular values only",
        _python("dask_svd.py", "exact"),
        "read-zarrs",
        peer=True,
        needs=("dask",),
        memory=lambda store: 3.0 * store.nbytes,
        most_rows=8_000,
    ),
    Way(
        "dask svd_compressed",
        "64 singular values, one power iteration, no bound on the error",
        _python("dask_svd.py", "compressed"),
        "read-zarrs",
        peer=True,
        needs=("dask",),
    ),
    Way(
        "scikit-learn IncrementalPCA, parameters",
        "64 singular values of centred data, parameters as samples",
        _python("sklearn_incremental_pca.py", "parameters"),
        "read-zarrs",
        peer=True,
        needs=("sklearn",),
        most_rows=8_000,
    ),
    Way(
        "scikit-learn IncrementalPCA, time",
        "63 singular values of centred data, steps as samples",
        _python("sklearn_incremental_pca.py", "time"),
        "read-zarrs",
        peer=True,
        needs=("sklearn",),
    ),
    Way(
        "pyMOR inc_hapod",
        "modes that leave out at most 1 percent of the energy",
        _python("pymor_hapod.py"),
        "read-zarrs",
        peer=True,
        needs=("pymor",),
    ),
)

START_WAYS = (
    Way("import click", "python -c 'import click'", (sys.executable, "-c", "import click"), "import click"),
    Way("gradmf --help", "the help text", (_gradmf(), "--help"), "import click"),
    Way(
        "import numpy, zarr, numba",
        "python -c 'import numpy, zarr, numba'",
        (sys.executable, "-c", "import numpy, zarr, numba"),
        "import numpy, zarr, numba",
    ),
    Way("gradmf analyze", "the 3 MB log, kernels compiled before", ANALYZE, "import numpy, zarr, numba"),
    Way(
        "gradmf analyze, first run",
        "the same with an empty cache: every kernel is compiled",
        ANALYZE,
        "import numpy, zarr, numba",
        fresh_cache=True,
    ),
)


def ways_for(store: Store) -> tuple[Way, ...]:
    """What runs on the store: starting up on the small one, analyzing on the others."""
    return START_WAYS if store.name == "small" else STORE_WAYS


def environment(cache: Path) -> Mapping[str, str]:
    """The environment of every way: a cache folder of the benchmark's own, no settings of Numba and BLAS."""
    own = ("NUMBA_", "OPENBLAS_", "OMP_", "MKL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return kept | {"XDG_CACHE_HOME": str(cache), "PYTHONWARNINGS": "ignore"}
