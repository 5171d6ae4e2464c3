"""Libraries that train: loaded where something is recorded, and never to analyze."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import UsageError, first_line


def load_torch() -> Any:
    """PyTorch. Raises UsageError, which names the extra, where it cannot be loaded."""
    return load("torch", "pip install 'gradmf[torch]'")


def load(name: str, cure: str) -> Any:
    """A module. cure : what to do where there is none. Raises UsageError where it cannot be loaded."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        top = name.partition(".")[0]
        told = "is not installed" if error.name in (name, top) else f"cannot be loaded: {first_line(error)}"
        raise UsageError(f"recording needs the library {top}, which {told}; {cure}") from error
