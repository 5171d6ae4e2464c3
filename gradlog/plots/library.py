"""matplotlib: loaded where something is drawn."""

from __future__ import annotations

from typing import Any

from ..libraries import load_library


def load(name: str = "matplotlib", *, what: str = "figures", extra: str = "plot") -> Any:
    """A module of a library. Raises UsageError, which names the extra, where it cannot be loaded.

    what : needs it; extra : of gradmf, that has it
    """
    return load_library(name, f"{what} need", f"pip install 'gradmf[{extra}]'")
