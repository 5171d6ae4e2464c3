"""Lines on stderr: warnings and errors."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def tell_error(message: str) -> None:
    """Write an error, a line or two."""
    _tell("error", message)


def tell_warning(message: str) -> None:
    """Write a warning."""
    _tell("warning", message)


def tell(message: str) -> None:
    """Write what is good to know."""
    _tell("", message)


def tell_violation(message: str) -> None:
    """Write that a result violates a rule, a line."""
    _tell("violated", message)


def exit_code(error: BaseException) -> int | None:
    """The exit code of an error that is told in a line; None for one that is a fault of the program."""
    # Errors of gradlog carry theirs; asking for their class would import gradlog.
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return code
    if isinstance(error, OSError):
        return 1
    return 2 if isinstance(error, MemoryError) else None


def told(error: BaseException, place: str = "") -> str:
    """The text of an error that has an exit code. place : where it comes from, should it not say so"""
    if hasattr(error, "exit_code"):
        text, named = str(error), True
    elif isinstance(error, OSError):
        text = error.strerror or str(error) or type(error).__name__
        named = isinstance(error.filename, (str, bytes))
        if named or place:
            text = f"{os.fsdecode(error.filename) if named else place}: {text}"
    elif isinstance(error, MemoryError):
        return f"out of memory{f' ({error})' if str(error) else ''}: try a smaller --memory"
    else:
        return str(error)
    if isinstance(error, FileNotFoundError) and not text.startswith(os.sep) and _is_adrift():
        gone = "the working directory is gone"
        return f"{text} ({gone})" if named else gone
    return text


def _is_adrift() -> bool:
    """Whether the folder that relative paths start from has been removed."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def printable(text: str) -> str:
    """`text` with control characters, line ends and undecodable bytes written as escapes."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def _tell(kind: str, message: str) -> None:
    if sys.stderr is None:
        return
    text = "\n".join(printable(line) for line in message.split("\n"))
    # Where nobody listens, the exit code still tells.
    with contextlib.suppress(OSError):
        print(f"gradmf: {kind}{': ' if kind else ''}{text}", file=sys.stderr, flush=True)
