"""Logs of updates, differences of checkpoints: what they declare, and what has to be told of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..results.result import LogWarning
from ..results.row_kind import UPDATES

TOLD_ROUNDING = 0.01
"""Share of the updates' energy that is rounding of the weights, above which it is told."""
LARGEST_ROUNDING = 0.5
"""The same, above which updates are not taken unless asked for."""


def update_warnings(attributes: Mapping[str, Any]) -> list[LogWarning]:
    """What is to be known of a log's updates. attributes : of its root

    `updates-rounded` where the weights were of 16 bits and their rounding is more than a small share of the
    energy of the updates; `updates-uneven` where the checkpoints were not equally far apart.
    """
    told = attributes.get("gradlog")
    if not isinstance(told, dict) or told.get("kind") != UPDATES:
        return []
    warnings = []
    rounding = told.get("rounding")
    share = rounding.get("total") if isinstance(rounding, dict) else None
    if isinstance(share, int | float) and share > TOLD_ROUNDING:
        warnings.append(
            LogWarning(
                "updates-rounded",
                f"rounding of the 16-bit weights is about {share:.2g} of the updates' energy: noise that no "
                "predictor foresees, and that raises kappas and ranks",
            )
        )
    if "every" in told and told["every"] is None:
        warnings.append(
            LogWarning(
                "updates-uneven",
                "the checkpoints were not equally many steps apart: updates over more steps are larger, and "
                "figures that compare rows follow from that too",
            )
        )
    return warnings
