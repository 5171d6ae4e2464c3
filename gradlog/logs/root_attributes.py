"""What the root of a log says of it, put there after its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .stored_array import METADATA


def declare(folder: Path, declared: Mapping[str, Any]) -> None:
    """Let the attribute `gradlog` of a finished log say more. Nobody else may be at the log meanwhile."""
    path = folder / METADATA
    document = json.loads(path.read_bytes())
    document["attributes"]["gradlog"] |= declared
    path.write_text(json.dumps(document, indent=2))
