"""Which of a snapshot's tensors become rows of a log, and why others don't."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..errors import DataError, UsageError
from ..logs.row_values import BFLOAT16, REALS, check_names
from ..naming import matching, shown
from ..quick_dataclass import dataclass
from .snapshot import Contents, Kind, Snapshot

TAKEN = (*REALS, BFLOAT16)
BUFFERS = frozenset(
    {
        "running_mean", "running_var", "num_batches_tracked", "inv_freq", "original_inv_freq", "cos_cached",
        "sin_cached", "position_ids", "token_type_ids", "relative_position_index", "attn_mask", "masked_bias",
    }
)  # fmt: skip
"""Last parts of names of what models keep beside parameters, that no optimizer moves."""


@dataclass(frozen=True)
class Chosen:
    """tensors : by name, in order; left_out : reasons by name"""

    tensors: Mapping[str, Kind]
    left_out: Mapping[str, str]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(kind.nbytes for kind in self.tensors.values())


def choose(
    snapshot: Snapshot,
    contents: Contents,
    include: Sequence[str],
    exclude: Sequence[str],
    *,
    updates: bool,
) -> Chosen:
    """The tensors to take. include, exclude : globs on names, all without any; updates : of weights

    Raises UsageError for patterns that match nothing, and DataError where nothing is left, or what is left
    is of a type that no log holds.
    """
    names = [*contents.tensors, *contents.left_out]
    for pattern in (*include, *exclude):
        if not matching([pattern], names):
            raise UsageError(f"{snapshot.place}: no tensor matches {pattern!r}; there are {shown(names, 6)}")
    wanted = matching(include, names) if include else set(names)
    wanted -= matching(exclude, names)
    left_out = {name: why for name, why in contents.left_out.items() if name in wanted}
    tensors: dict[str, Kind] = {}
    for name, kind in sorted(contents.tensors.items()):
        if name not in wanted:
            continue
        why = _why_not(name, kind, updates)
        if why:
            left_out[name] = why
        elif kind.dtype not in TAKEN:
            raise DataError(
                f"{snapshot.place}: tensor '{name}' is of {_shown(kind)}; a log holds float16, float32, "
                "float64 and bfloat16: save it as one of these, or exclude it"
            )
        else:
            tensors[name] = kind
    if not tensors:
        told = "; ".join(f"'{name}': {why}" for name, why in list(left_out.items())[:3])
        raise DataError(f"{snapshot.place}: no tensors to take{f' ({told})' if told else ''}")
    try:
        check_names(tensors, contents.series)
    except UsageError as error:
        raise DataError(f"{snapshot.place}: {error}") from None
    return Chosen(tensors, left_out)


def check_same(first: tuple[Snapshot, Chosen], other: tuple[Snapshot, Chosen]) -> None:
    """Raise DataError, which names both, where two snapshots hold other tensors."""
    (one, known), (two, found) = first, other
    if known.tensors == found.tensors:
        return
    for name, kind in known.tensors.items():
        if name not in found.tensors:
            why = found.left_out.get(name)
            raise two.fault(f"lacks tensor '{name}' of {one.place}{f': {why}' if why else ''}")
        now = found.tensors[name]
        if now.shape != kind.shape:
            shapes = f"shape {list(now.shape)}, in {one.place} {list(kind.shape)}"
            raise two.fault(f"tensor '{name}' has {shapes}")
        if now.dtype != kind.dtype:
            raise two.fault(f"tensor '{name}' is of {now.dtype}, in {one.place} of {kind.dtype}")
    more = sorted(found.tensors.keys() - known.tensors.keys())
    raise two.fault(f"holds tensor '{more[0]}', which {one.place} lacks")


def _why_not(name: str, kind: Kind, updates: bool) -> str:
    """Why a tensor is none of those that a log is of; "" where it is one."""
    if updates and re.split(r"[./]", name)[-1] in BUFFERS:
        return "a buffer by its name, which no optimizer moves"
    if kind.dtype.startswith(("int", "uint", "bool")):
        return f"whole numbers ({kind.dtype})"
    if not kind.entries:
        return f"no entries, shape {list(kind.shape)}"
    return ""


def _shown(kind: Kind) -> str:
    if kind.dtype == "void16":
        return "bare entries of two bytes, as NumPy writes bfloat16"
    return kind.dtype
