"""What a log's free attributes say of the training: its optimizer, and whether gradients are full-batch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

OPTIMIZER = ("optimizer", "optimiser", "optim")
NAME = ("name", "type", "class")
"""Of an optimizer that is an object of its own."""
BATCH = ("batch_size", "batchsize", "batch")
EXAMPLES = ("dataset_size", "train_size", "num_examples", "num_samples", "n_samples", "n_train", "num_train")
ADAPTIVE = re.compile(
    r"(?<![a-z])("
    r"[a-z0-9-]*adam\w*|ada(grad|delta|factor|belief|hessian|n)|amsgrad|rms[ _-]?prop|lion|lamb|lars|"
    r"novograd|shampoo|soap|muon|sophia\w*|prodigy|yogi|sign[ _-]?(sgd|um)|k-?fac|l-?bfgs)(?![a-z])",
    re.IGNORECASE,
)
"""Optimizers that move along rescaled gradients, not along averages of them."""
WHOLE = re.compile(r"full|all|whole|(full|entire|whole)[ _-](batch|data ?set|training set)", re.IGNORECASE)
DESCENT = re.compile(r"gd|((full|whole)[ _-])?(batch )?gradient descent", re.IGNORECASE)
"""Plain names of what takes every example at every step."""


def optimizer_name(attributes: Mapping[str, Any]) -> str:
    """The optimizer as the log names it, "" where it doesn't."""
    held = _first(attributes, OPTIMIZER)
    if isinstance(held, Mapping):
        held = _first(held, NAME)
    return held if isinstance(held, str) else ""


def adaptive_optimizer(attributes: Mapping[str, Any]) -> str:
    """The name of an optimizer that rescales gradients (AdamW, Lion, Muon, ...), "" where none is named."""
    name = optimizer_name(attributes)
    return name if ADAPTIVE.search(name) else ""


def full_batch(attributes: Mapping[str, Any]) -> bool:
    """Whether the log says that each gradient is that of all examples.

    By "full_batch": true, a batch of "full" or of no fewer examples than there are, or an optimizer that is
    named gradient descent. A batch that is smaller than the examples says that it is not.
    """
    said = attributes.get("full_batch")
    if isinstance(said, bool):
        return said
    batch, examples = _first(attributes, BATCH), _first(attributes, EXAMPLES)
    if isinstance(batch, str):
        return WHOLE.fullmatch(batch.strip()) is not None
    if _is_number(batch) and _is_number(examples):
        return bool(batch >= examples)
    return DESCENT.fullmatch(optimizer_name(attributes).strip()) is not None


def _first(held: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((held[name] for name in names if held.get(name) is not None), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
