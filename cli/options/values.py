"""What the word behind an option means: a size, a range, a part, a share, a file."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import click

from gradmf.gradlog.logs.places.remote_url import is_url, remote_url


def memory_size(text: str) -> int:
    """Bytes, from a number with an optional unit, all powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else 0
    if size < 1:
        raise click.BadParameter(f"{text!r} is no size; write it like 512M, 1G or 1.5GiB (powers of 1024).")
    return size


def row_range(text: str) -> tuple[int | None, int | None]:
    """First row and the one after the last, None for an open end."""
    match = re.fullmatch(r"\s*([+-]?\d+)?\s*:\s*([+-]?\d+)?\s*", text)
    if match is None:
        raise click.BadParameter(
            f"{text!r} is no range of rows; write A:B for rows A to B - 1, like 100:200, 100: or -50:."
        )
    first, last = (None if end is None else int(end) for end in match.groups())
    return first, last


def window_length(text: str) -> tuple[int, int | None]:
    """Rows of a window, and from the start of one to that of the next where it is said."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*(?::\s*(\d{1,9})\s*)?", text)
    rows, stride = (int(match[1]), match[2] and int(match[2])) if match else (0, None)
    if rows < 2 or stride == 0:
        raise click.BadParameter(
            f"{text!r} is no window; write ROWS or ROWS:STRIDE, like 50 or 50:10, of at least 2 rows."
        )
    return rows, stride or None


def part_number(text: str) -> tuple[int, int]:
    """I and K of part I/K, 1 <= I <= K."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= index <= count:
        raise click.BadParameter(f"{text!r} is no part; write I/K for part I of K, from 1/K to K/K.")
    return index, count


def share_left_out(text: str) -> float:
    """An epsilon, 0 <= E < 1."""
    try:
        epsilon = float(text)
    except ValueError:
        epsilon = math.nan
    if not 0.0 <= epsilon < 1.0:
        raise click.BadParameter(f"{text!r} is not allowed; give a number of at least 0 and below 1.")
    return epsilon


def out_file(text: str) -> str | None:
    """A file that can be there, or the URL of one; None for stdout."""
    if text == "-":
        return None
    if is_url(text):
        return str(remote_url(text))
    path = Path(text)
    if not text or path.is_dir():
        raise click.BadParameter(f"{text!r} is a folder; give the name of a file.")
    try:
        folder = Path(os.path.realpath(path)).parent
    except FileNotFoundError as error:  # there is no working directory
        raise FileNotFoundError(error.errno, error.strerror, text) from error
    if not folder.is_dir():
        raise click.BadParameter(f"there is no folder {str(folder)!r}.")
    return text


def named_file(text: str) -> str:
    """As `out_file`, for what stdout cannot take, which stays "-": None is no option to click before 8.2."""
    return out_file(text) or "-"


def named_number(text: str) -> tuple[str, float]:
    """The name and the number of NAME=VALUE."""
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not name.strip() or not math.isfinite(number):
        raise click.BadParameter(f"{text!r} is not NAME=VALUE, like step_share=0.3.")
    return name.strip(), number


def name_list(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
