"""Names that are too long for a terminal: an ellipsis takes the place of their middle."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size


def shorten(text: str, width: int, *, unicode: bool) -> str:
    """`text` in at most `width` columns."""
    return shorten_all([text], width, unicode=unicode)[0]


def shorten_all(texts: Sequence[str], width: int, *, unicode: bool) -> list[str]:
    """Each text in at most `width` columns, cut where the most of them stay distinct."""
    mark = "…" if unicode else "..."
    kept = max(0, width - len(mark))
    cuts = [[_cut(text, width, head, kept - head, mark) for text in texts] for head in _heads(kept)]
    return max(cuts, key=lambda cut: len(set(cut)))


def _heads(kept: int) -> list[int]:
    """How much to keep of the beginning: best as much as of the end, else rather less than more."""
    half = kept // 2
    return sorted(range(kept + 1), key=lambda head: half - head if head <= half else 2 * (head - half))


def _cut(text: str, width: int, head: int, tail: int, mark: str) -> str:
    if cell_len(text) <= width:
        return text
    end = set_cell_size(text[::-1], tail)[::-1]
    return f"{set_cell_size(text, head)}{mark}{end}"[:width]
