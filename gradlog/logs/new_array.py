"""Arrays of logs as they are made: every chunk is written, zeros too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store


def new_array(
    store: Store,
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.dtype[Any],
    axes: Sequence[str] | None,
    codecs: Sequence[Any],
    *,
    attributes: Mapping[str, Any] | None = None,
) -> zarr.Array[Any]:
    """An array of Zarr v3 without a chunk, and the groups above it.

    name : path below the root, "" for the root; axes : their names; codecs : behind the bytes
    """
    return zarr.create_array(
        store,
        name=name or None,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        compressors=codecs,
        dimension_names=axes,
        attributes=dict(attributes or {}),
        config={"write_empty_chunks": True},
        zarr_format=3,
        chunk_key_encoding={"name": "default", "separator": "/"},
    )
