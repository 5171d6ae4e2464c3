"""Results as plain dicts, lists and numbers, as JSON takes them: NaN and infinity become None."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def plain_values(value: Any) -> Any:
    """`value` in plain types of Python, whatever dicts, lists, arrays and numbers of NumPy it is made of."""
    if isinstance(value, dict):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(item) for item in value]
    if isinstance(value, np.ndarray):
        if value.dtype.kind != "f" or np.isfinite(value).all():
            return value.tolist()
        values = value.astype(object)
        values[~np.isfinite(value)] = None
        return values.tolist()
    if isinstance(value, np.generic):
        return plain_values(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
