"""Why a figure is missing, in the words that several results share: `RowKind.say` fills their nouns in."""

from __future__ import annotations

from .result import Analysis

ALL_ZERO = "all {gradients} are zero"
NO_SERIES = "no per-step series: write the analysis with --format json"
ELSEWHERE = "tensor-steps-elsewhere"
"""Code of the warning of a result whose sums of tensors by step lie in a file that is out of reach."""


def tensor_steps_elsewhere(analysis: Analysis) -> str:
    """Where its sums of tensors by step are, if out of reach; "" where they are here, or nowhere."""
    if analysis.tensor_steps is not None:
        return ""
    return next((warning.message for warning in analysis.warnings if warning.code == ELSEWHERE), "")
