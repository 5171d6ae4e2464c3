"""What a shell offers where a path can stand. Imports nothing slow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem

from gradmf.gradlog.logs.root_keys import is_zarr_node, may_hold_ranks


def runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:  # noqa: ARG001
    """Stores, and the folders that may hold some: what can stand for RUN."""
    return list(_entries(incomplete))


def results(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:  # noqa: ARG001
    """Runs, and what may hold the results of earlier analyses."""
    return list(_entries(incomplete, (".json", ".jsonl")))


def file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:  # noqa: ARG001
    """Any file, as the shell completes it."""
    return [CompletionItem(incomplete, type="file")]


def _entries(incomplete: str, endings: tuple[str, ...] = ()) -> Iterator[CompletionItem[str]]:
    head, slash, tail = incomplete.rpartition("/")
    folder = os.path.expanduser(head + slash or ".")  # noqa: PTH111 - leaves ~ where there is no home
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        name = entry.name
        if not name.startswith(tail) or (name.startswith(".") and not tail.startswith(".")):
            continue
        if re.search(r"[\t\n]", name):  # the protocol is of lines
            continue
        if is_store(entry) or (name.endswith(endings) and entry.is_file()):
            yield CompletionItem(f"{head}{slash}{name}")
        elif entry.is_dir():
            yield CompletionItem(f"{head}{slash}{name}/", type="open")


def is_store(entry: os.DirEntry[str]) -> bool:
    """Whether it may be a store, by its name or by what lies in it; nothing is opened."""
    if not entry.is_dir():
        return entry.name.endswith((".zarr", ".zip"))
    return entry.name.endswith(".zarr") or is_zarr_node(entry) or may_hold_ranks(entry)
