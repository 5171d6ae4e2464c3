"""What can stand where the cursor is: answers to the scripts of `gradmf completion`. Imports nothing slow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

import click
from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

from gradmf.gradlog.logs.root_keys import is_zarr_node

from ..commands.completion import LINE, VARIABLE, WORD_BREAKS

_CURSOR = "\ue000"
"""A character of no meaning, so that a word that is still empty is a word."""
_SAFE = re.compile(r"[^\w@%+=:,./~-]")


def answer(commands: click.Group) -> int:
    """Print a line for every completion."""
    shell = os.environ[VARIABLE]
    line = os.environ.get(LINE, "")
    before, word = split_line(line)
    for item in _Completions(commands, {}, "gradmf", VARIABLE).get_completions(list(before), word):
        click.echo("\t".join(_reply(item, line, word, shell)))
    return 0


def split_line(line: str) -> tuple[list[str], str]:
    """The complete words after the program's name, and the word that the cursor is in."""
    *before, word = split_arg_string(line + _CURSOR)
    return before[1:], word.replace(_CURSOR, "")


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
    return entry.name.endswith(".zarr") or is_zarr_node(entry)


class _Completions(ShellComplete):
    name = "gradmf"
    source_template = ""


def _reply(item: CompletionItem[str], line: str, word: str, shell: str) -> Sequence[str]:
    """Kind, value and description, the value as it is to replace what the shell takes for the word."""
    value = item.value
    if item.type != "file" and shell != "fish":  # fish quotes by itself, and takes words whole
        option, equals, _ = word.partition("=")
        if equals and option.startswith("-"):
            value = f"{option}={value}"
        if not _open_quote(line):
            begun = _broken_off(word) if shell == "bash" else ""
            value = _SAFE.sub(r"\\\g<0>", value[len(begun) :])
    elif shell == "fish" and word.startswith("-") and "=" in word:
        value = f"{word.partition('=')[0]}={value}"
    help_text = " ".join((item.help or "").split())
    return (item.type, value, help_text) if help_text else (item.type, value)


def _broken_off(word: str) -> str:
    """The part of the word that bash takes for words of their own."""
    breaks = [mark for mark in ":=" if mark in os.environ.get(WORD_BREAKS, "")]
    return word[: max((word.rfind(mark) + 1 for mark in breaks), default=0)]


def _open_quote(line: str) -> str:
    """The quote that the end of the line is within, or nothing."""
    quote = ""
    escaped = False
    for character in line:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
    return quote
