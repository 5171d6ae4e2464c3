"""Libraries that not everyone has: each is loaded where it is needed, and never to analyze."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import UsageError, first_line


def load_library(name: str, what: str, cure: str) -> Any:
    """A module.

    name : of the module, maybe one inside a package
    what : that needs it, with its verb: "figures need"
    cure : what to do where there is none, such as the command that installs an extra

    Raises UsageError, which says all three, where it cannot be loaded.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        top = name.partition(".")[0]
        told = "is not installed" if error.name in (name, top) else f"cannot be loaded ({first_line(error)})"
        raise UsageError(f"{what} the library {top}, which {told}: {cure}") from error
