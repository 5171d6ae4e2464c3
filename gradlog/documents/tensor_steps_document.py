"""Per-step sums of tensors as JSON, and back: in the document, or in a file beside it where they are many."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..logs.places.files_beside import FilesBeside
from ..results.result import TensorSteps
from ..results.typed_fields import Fields
from .tensor_table import write_table

MOST_NUMBERS = 1_000_000
"""That stand in a document where there is a place beside it: 20 MB of JSON Lines, 30 MB of indented JSON."""


def tensor_steps_document(
    names: Sequence[str], steps: TensorSteps, beside: FilesBeside | None
) -> dict[str, Any]:
    """names : of the tensors; beside : takes what has more numbers than MOST_NUMBERS, None for nowhere"""
    sums = steps.energy.size * (1 + len(steps.path_length) + len(steps.product))
    if beside is not None and sums > MOST_NUMBERS:
        return write_table(names, steps, beside)
    return {
        "edges": steps.edges,
        "tensors": [
            {
                "name": name,
                "energy": steps.energy[at],
                "path_length": {spec: values[at] for spec, values in steps.path_length.items()},
                "product": {spec: values[at] for spec, values in steps.product.items()},
            }
            for at, name in enumerate(names)
        ],
    }


def tensor_steps_of(held: Fields, names: Sequence[str], table: TensorSteps | None) -> TensorSteps:
    """From their document. names : of the tensors, in the order that is wanted

    table : what stands in the file beside it, where there is one, in the document's own order

    Raises ValueError, in words, for what is none of these tensors.
    """
    listed, steps = _within(held) if table is None else (held.texts("tensors"), table)
    rows = {name: row for row, name in enumerate(listed)}
    if rows.keys() != set(names) or len(listed) != len(names):
        raise ValueError("tensor_steps.tensors are not the tensors")
    order = [rows[name] for name in names]
    if order == list(range(len(names))):
        return steps
    return dataclasses.replace(
        steps,
        energy=steps.energy[order],
        path_length={spec: values[order] for spec, values in steps.path_length.items()},
        product={spec: values[order] for spec, values in steps.product.items()},
    )


def _within(held: Fields) -> tuple[Sequence[str], TensorSteps]:
    """The names of the tensors as they are listed, and their sums in that order."""
    items = held.inners("tensors")
    edges = held.wholes("edges")
    specs = list(items[0].inner("path_length").held) if items else []

    def of_each(lists: list[Fields], name: str) -> NDArray[np.float64]:
        found = [item.doubles(name) for item in lists]
        for item, values in zip(lists, found, strict=True):
            if values.size != edges.size - 1:
                raise ValueError(f"{item.where(name)} holds {values.size} values, not {edges.size - 1}")
        return np.stack(found) if found else np.zeros((0, max(0, edges.size - 1)))

    residuals, products = ([item.inner(word) for item in items] for word in ("path_length", "product"))
    steps = TensorSteps(
        edges=edges,
        energy=of_each(items, "energy"),
        path_length={spec: of_each(residuals, spec) for spec in specs},
        product={spec: of_each(products, spec) for spec in specs},
    )
    return [item.text("name") for item in items], steps
