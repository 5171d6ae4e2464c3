"""How far a pass has come."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Is told bytes done, and bytes in all."""
