"""How arrays of Zarr are decoded: by zarr-python, by zarrs, with how many threads."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import zarr

ZARRS_PIPELINE = "zarrs.ZarrsCodecPipeline"
ZARR_PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"


@contextlib.contextmanager
def codec_pipeline(threads: int) -> Iterator[None]:
    """Let arrays opened and read inside decode with as many threads. threads : at least 1"""
    settings: dict[str, Any] = {"threading.max_workers": threads, "async.concurrency": max(10, 4 * threads)}
    with zarr.config.set(settings):
        yield


@contextlib.contextmanager
def decoding_with(pipeline: str) -> Iterator[None]:
    """Let arrays opened inside decode with a pipeline of Zarr's, quietly where it declines one."""
    with zarr.config.set({"codec_pipeline.path": pipeline}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def zarrs_is_installed() -> bool:
    """Whether chunks can be decoded in Rust."""
    return find_spec("zarrs") is not None


def plain_array(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The same array, coded by zarr-python."""
    with zarr.config.set({"codec_pipeline.path": ZARR_PIPELINE}):
        return zarr.Array(zarr.AsyncArray(array.metadata, array.store_path, ARRAY_CONFIG))


ARRAY_CONFIG: Any = {"write_empty_chunks": True, "order": "C"}
"""Zarr's own settings may say otherwise: blocks are in C order, and every chunk is written."""
