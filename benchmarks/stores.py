"""The gradient logs of the benchmark, and which of them are made already; `make_store.py` makes them.

NumPy and Zarr are not imported: run.py reads the table below in a process that must stay small (measure.py).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

SEED = 20
RECIPE = 1
"""Part of what identifies a store: raise it when make_store.py changes, and stores are made anew."""


@dataclass(frozen=True)
class Store:
    """A log to make: its layout, and what kind of gradients it holds."""

    name: str
    shows: str
    rows: int
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    chunk_rows: int
    chunk_width: int
    codec: Literal["zstd", "raw", "crc32c"]
    gradients: Literal["training", "lowrank", "white"]
    scales: Literal["parameters", "tensors", "rows", "nothing"]
    options: tuple[str, ...] = ()
    size: float = 1.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def parameters(self) -> int:
        """D, over all tensors."""
        return sum(math.prod(shape) for _, shape in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of the gradients, uncompressed."""
        return (2 if self.dtype == "bfloat16" else 4) * self.rows * self.parameters

    @property
    def label(self) -> str:
        """The name, with the size where it isn't 1."""
        return self.name if self.size == 1 else f"{self.name}@{self.size:g}"

    def resized(self, size: float) -> Store:
        """The same kind of store, `size` times as large."""
        if self.scales == "nothing" or size == 1:
            return self
        if self.scales == "rows":
            return replace(self, size=size, rows=max(2, round(self.rows * size)))
        if self.scales == "tensors":
            count = max(1, round(len(self.tensors) * size))
            shape = self.tensors[0][1]
            return replace(self, size=size, tensors=_alike(count, shape))
        ((name, (width,)),) = self.tensors
        width = max(4096, round(width * size / 4096) * 4096)
        return replace(self, size=size, tensors=((name, (width,)),))

    def path(self, folder: Path) -> Path:
        """Where the store stands in the work folder."""
        return folder / f"{self.name}-{self.size:g}.zarr"

    def notes(self, folder: Path) -> Path:
        """The file beside the store, written last: how it was made, and the true ranks where known."""
        return self.path(folder).with_suffix(".json")


def _alike(count: int, shape: tuple[int, ...]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((f"layers.{i:03d}.bias", shape) for i in range(count))


def _gpt2() -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The 148 tensors of GPT-2 with 124 million parameters; the head is tied to wte."""
    width = 768
    of_block: dict[str, tuple[int, ...]] = {
        "ln_1.weight": (width,),
        "ln_1.bias": (width,),
        "attn.c_attn.weight": (width, 3 * width),
        "attn.c_attn.bias": (3 * width,),
        "attn.c_proj.weight": (width, width),
        "attn.c_proj.bias": (width,),
        "ln_2.weight": (width,),
        "ln_2.bias": (width,),
        "mlp.c_fc.weight": (width, 4 * width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (4 * width, width),
        "mlp.c_proj.bias": (width,),
    }
    blocks = [(f"h.{i}.{name}", shape) for i in range(12) for name, shape in of_block.items()]
    ends: list[tuple[str, tuple[int, ...]]] = [("ln_f.weight", (width,)), ("ln_f.bias", (width,))]
    return (("wte.weight", (50_257, width)), ("wpe.weight", (1_024, width)), *blocks, *ends)


_GPT2 = Store(
    name="gpt2-raw",
    shows="8.0 GB, GPT-2 (148 tensors, D = 124 million), N = 16, one chunk a row and tensor, uncompressed",
    rows=16,
    tensors=_gpt2(),
    chunk_rows=1,
    chunk_width=1 << 30,
    codec="raw",
    gradients="training",
    scales="rows",
)
_WIDE = Store(
    name="wide-zstd",
    shows="1 GiB, N = 512, one tensor of 524,288, chunks (64, 65536), zstd",
    rows=512,
    tensors=(("weight", (524_288,)),),
    chunk_rows=64,
    chunk_width=65_536,
    codec="zstd",
    gradients="training",
    scales="parameters",
)
_LONG = Store(
    name="long-lowrank",
    shows="2.6 GB, N = 40,000, D = 16,384, increments of 60 directions and 0.2 percent noise, zstd",
    rows=40_000,
    tensors=(("weight", (16_384,)),),
    chunk_rows=64,
    chunk_width=16_384,
    codec="zstd",
    gradients="lowrank",
    scales="rows",
    options=("--memory", "1G"),
)
STORES = {
    store.name: store
    for store in (
        _WIDE,
        replace(
            _WIDE,
            name="wide-raw",
            shows="1 GiB, N = 512, one tensor of 524,288, chunks (64, 65536), uncompressed",
            codec="raw",
        ),
        replace(
            _WIDE,
            name="tall-chunks",
            shows="1 GiB, N = 256, one tensor of 1,048,576, one chunk a row, zstd",
            rows=256,
            tensors=(("weight", (1_048_576,)),),
            chunk_rows=1,
            chunk_width=1_048_576,
        ),
        replace(
            _WIDE,
            name="many-small",
            shows="59 MB, N = 128, 150 tensors of 768, one chunk a row and tensor, zstd",
            rows=128,
            tensors=_alike(150, (768,)),
            chunk_rows=1,
            chunk_width=768,
            scales="tensors",
        ),
        replace(
            _WIDE,
            name="many-long",
            shows="900 MB, N = 2,000, 150 tensors of 768, 64 rows a chunk, zstd",
            rows=2_000,
            tensors=_alike(150, (768,)),
            chunk_width=768,
            scales="tensors",
        ),
        replace(
            _WIDE,
            name="small",
            shows="3 MB, N = 200, 12 tensors, uncompressed with checksums",
            rows=200,
            tensors=tuple(
                (f"layers.{i}.{name}", shape)
                for i in range(4)
                for name, shape in (("weight", (30, 30)), ("bias", (30,)), ("scale", (30,)))
            ),
            codec="crc32c",
            scales="nothing",
        ),
        _LONG,
        replace(
            _WIDE,
            name="many-tiny",
            shows="400 MB, N = 100, 1,000 tensors of 1,000, one chunk a row and tensor, uncompressed",
            rows=100,
            tensors=_alike(1_000, (1_000,)),
            chunk_rows=1,
            chunk_width=1_000,
            codec="raw",
            scales="tensors",
        ),
        _GPT2,
        replace(
            _GPT2,
            name="gpt2-zstd",
            shows="6.0 GB, as gpt2-raw with N = 12, zstd",
            rows=12,
            codec="zstd",
        ),
        replace(
            _GPT2,
            name="gpt2-bfloat16",
            shows="8.0 GB, as gpt2-raw with N = 32, bfloat16 stored as uint16",
            rows=32,
            dtype="bfloat16",
        ),
        replace(
            _LONG,
            name="long-lowrank-200k",
            shows="13 GB, as long-lowrank with N = 200,000",
            rows=200_000,
        ),
        replace(
            _LONG,
            name="long-white",
            shows="1.3 GB, N = 20,000, D = 16,384, white noise, zstd",
            rows=20_000,
            gradients="white",
        ),
    )
}


def add_stores(parser: argparse.ArgumentParser, usual: Sequence[str]) -> None:
    """Add the options that say which stores are read, and where they are."""
    parser.add_argument(
        "--store",
        nargs="+",
        default=usual,
        metavar="NAME",
        help=f"of {', '.join(STORES)}; NAME@0.25 for one size (default {' '.join(usual)})",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "gradmf-benchmarks",
        help="where stores are made and kept; needs about 4 GB for the usual ones",
    )


def named(text: str, size: float) -> Store:
    """The store of a name such as ``wide-zstd`` (at `size`) or ``wide-zstd@0.25``, else KeyError."""
    name, at, own = text.partition("@")
    return STORES[name].resized(float(own) if at else size)


def is_made(store: Store, folder: Path) -> bool:
    """Whether the store stands complete in the folder, made by this recipe."""
    try:
        notes = json.loads(store.notes(folder).read_text())
    except (OSError, ValueError):
        return False
    return bool(notes["recipe"] == recipe_of(store) and store.path(folder).is_dir())


def make(store: Store, folder: Path) -> None:
    """Make the store in the folder, unless it stands there."""
    if is_made(store, folder):
        return
    print(f"{store.label}: making it", file=sys.stderr, flush=True)
    script = Path(__file__).with_name("make_store.py")
    subprocess.run([sys.executable, script, store.name, str(store.size), folder], check=True)


def known_truth(store: Store, folder: Path) -> dict[str, list[int]]:
    """The least and greatest value that r* can truly have, by eps; empty where nobody worked it out."""
    truth: dict[str, list[int]] = json.loads(store.notes(folder).read_text())["truth"]
    return truth


def recipe_of(store: Store) -> dict[str, Any]:
    """What identifies a store that was made."""
    recipe = {"recipe": RECIPE, "seed": SEED, **asdict(store)}
    return {name: recipe[name] for name in recipe if name not in ("shows", "options")} | {
        "tensors": [[name, list(shape)] for name, shape in store.tensors]
    }
