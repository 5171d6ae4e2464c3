"""matplotlib: loaded where something is drawn, and never to analyze."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import UsageError, first_line


def load(name: str = "matplotlib", *, what: str = "figures", extra: str = "plot") -> Any:
    """A module of a library. Raises UsageError, which names the extra, where it cannot be loaded.

    what : needs it; extra : of gradmf, that has it
    """
    library = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name in (library, name)
        told = "is not installed" if missing else f"cannot be loaded ({first_line(error)})"
        raise UsageError(
            f"{what} need the library {library}, which {told}: pip install 'gradmf[{extra}]'"
        ) from error
