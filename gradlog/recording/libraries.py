"""Libraries that train: loaded where something is recorded."""

from __future__ import annotations

from typing import Any

from ..libraries import load_library


def load_torch() -> Any:
    """PyTorch. Raises UsageError, which names the extra, where it cannot be loaded."""
    return load("torch", "pip install 'gradmf[torch]'")


def load(name: str, cure: str) -> Any:
    """A module. cure : what to do where there is none. Raises UsageError where it cannot be loaded."""
    return load_library(name, "recording needs", cure)
