"""A set of stores `RUN.zarr/rank-000`, `RUN.zarr/rank-001`, ... read as one log, each written by one process.

A rank's store is a log of format 1 whose tensors are boxes of the whole ones: the attribute `gradlog` of each
array says the whole tensor's shape, where the box begins, and how it came to lie there.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from ..quick_dataclass import dataclass
from ..results.result import LogWarning
from ..sizes import extents
from .log import GradientLog, Tensor
from .rank_folders import RankFolder, declared_rank
from .rank_tensor import RankBox, RankTensor
from .zarr_tensor import ZarrTensor

_SHARD = re.compile(r"(S|Shard)\((dim=)?\d+\)")
_REPLICATE = re.compile(r"R|Replicate\(\)")
_PARTIAL = re.compile(r"P\b.*|.*Partial.*")
"""Placements as PyTorch's DTensor writes them, in any of its ways."""
_OF_RANK = ("rank", "mesh")
"""What the roots of a set say of themselves alone."""

Corners = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class RankStore:
    """The store of one rank, opened. Its log may have no tensors."""

    folder: RankFolder
    log: GradientLog

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name


def join_ranks(name: str, stores: Sequence[RankStore], attributes: Mapping[str, Any]) -> GradientLog:
    """One log of the stores of all ranks, in their order.

    name : of the set; attributes : of the root of the set, where it has one

    Series are those of rank 0. What keeps a tensor from being put together is a fault of that tensor: boxes
    that overlap, are replicas, leave a gap or hold summands, and such of different dtypes or global shapes.

    Raises DataError where the ranks are of different kinds or meshes, hold sketches, or recorded different
    training steps.
    """
    _check_alike(name, stores)
    rows, warnings = _common_rows(name, stores)
    tensors: list[Tensor] = []
    faults: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for store in stores:
        faults |= {tensor: f"{store.name}: {why}" for tensor, why in store.log.faults.items()}
        unused = {path: why for path, why in store.log.left_out.items() if path not in store.log.series}
        left_out |= {f"{store.name}/{path}": why for path, why in unused.items()}
    for tensor, parts in _parts_by_name(stores).items():
        if tensor in faults:
            continue
        try:
            tensors.append(_put_together(tensor, parts))
        except DataError as error:
            faults[tensor] = str(error)
    first = stores[0].log
    return GradientLog(
        path=name,
        format_version=first.format_version,
        zarr_format=first.zarr_format,
        tensors=tuple(tensors),
        rows=rows,
        step=first.step[:rows],
        series=first.series,
        attributes={**attributes, **first.attributes, "gradlog": _declared_of_all(stores)},
        warnings=(*_warnings_of(stores), *warnings),
        left_out=left_out,
        faults=dict(sorted(faults.items())),
        step_axis=first.step_axis,
        ranks=len(stores),
    )


def lone_rank_warnings(attributes: Mapping[str, Any]) -> list[LogWarning]:
    """What is told of the store of one rank that is read without the others. attributes : of its root"""
    declared = attributes.get("gradlog")
    if not declared_rank(declared) or not isinstance(declared, Mapping) or declared.get("ranks") == 1:
        return []
    which = f"{declared['rank']} of {declared.get('ranks', 'several')}"
    told = (
        f"the store of rank {which}, read by itself: figures are of this rank's part of the tensors alone; "
        "the folder of all ranks' stores is the log"
    )
    return [LogWarning("rank-alone", told)]


def _check_alike(name: str, stores: Sequence[RankStore]) -> None:
    first = stores[0]
    for store in stores:
        for what, of in (("kind", _kind), ("mesh", _mesh)):
            if of(store) != of(first):
                raise DataError(
                    f"{name}: the {what} is {of(first)} in {first.name} and {of(store)} in {store.name}: "
                    "these are no stores of one run"
                )
        if "projection" in store.folder.declared:
            raise DataError(
                f"{name}: {store.name} holds a sketch: sketches of parts are not put together; analyze them "
                "one by one, or sketch the whole log"
            )


def _kind(store: RankStore) -> str:
    kind = store.log.kind
    return kind.name if kind.every is None else f"{kind.name} of every {kind.every} steps"


def _mesh(store: RankStore) -> str:
    """The mesh without this rank's place in it, in words."""
    mesh = store.folder.declared.get("mesh")
    if not isinstance(mesh, Mapping):
        return "none"
    shape, names = mesh.get("shape"), mesh.get("names") or ""
    return f"{shape} {names}".strip()


def _declared_of_all(stores: Sequence[RankStore]) -> dict[str, Any]:
    declared = stores[0].folder.declared
    shared = {key: value for key, value in declared.items() if key not in _OF_RANK}
    mesh = declared.get("mesh")
    if isinstance(mesh, Mapping):
        shared["mesh"] = {key: value for key, value in mesh.items() if key != "coordinate"}
    return shared


def _common_rows(name: str, stores: Sequence[RankStore]) -> tuple[int, list[LogWarning]]:
    """The rows that all ranks committed. Raises DataError where they are of different training steps."""
    least = min(stores, key=lambda store: store.log.rows)
    most = max(stores, key=lambda store: store.log.rows)
    rows, first = least.log.rows, stores[0]
    for store in stores[1:]:
        differ = np.flatnonzero(store.log.step[:rows] != first.log.step[:rows])
        if differ.size:
            row = int(differ[0])
            raise DataError(
                f"{name}: row {row} has training step {first.log.step[row]} in {first.name} and "
                f"{store.log.step[row]} in {store.name}: the ranks did not record the same steps"
            )
    if rows == most.log.rows:
        return rows, []
    told = (
        f"{least.name} has {rows} committed rows and {most.name} {most.log.rows}: only the first {rows} "
        "rows, which all ranks have, are read"
    )
    return rows, [LogWarning("ranks-uneven", told)]


def _warnings_of(stores: Sequence[RankStore]) -> list[LogWarning]:
    """Those of the ranks, with the first one's name, and how many others have the same."""
    found: dict[LogWarning, list[str]] = {}
    for store in stores:
        for warning in store.log.warnings:
            found.setdefault(warning, []).append(store.name)
    return [
        dataclasses.replace(
            warning,
            message=f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {warning.message}",
        )
        for warning, names in found.items()
    ]


def _parts_by_name(stores: Sequence[RankStore]) -> dict[str, list[tuple[str, ZarrTensor]]]:
    parts: dict[str, list[tuple[str, ZarrTensor]]] = {}
    for store in stores:
        for tensor in store.log.tensors:
            assert isinstance(tensor, ZarrTensor)
            parts.setdefault(tensor.name, []).append((store.name, tensor))
    return dict(sorted(parts.items()))


def _put_together(name: str, parts: Sequence[tuple[str, ZarrTensor]]) -> RankTensor:
    """The tensor of its boxes. Raises DataError, with no name before it, for what are none of one tensor."""
    first_store, first = parts[0]
    shape, _ = _place(first_store, first)
    boxes = []
    for store, tensor in parts:
        own_shape, offset = _place(store, tensor)
        if own_shape != shape:
            raise DataError(
                f"its global shape is {_shown(shape)} in {first_store} and {_shown(own_shape)} in {store}"
            )
        if tensor.dtype != first.dtype:
            raise DataError(f"{first.dtype} in {first_store} and {tensor.dtype} in {store}")
        box = RankBox(store, tensor, offset)
        if any(part.stop > extent for part, extent in zip(box.box, shape, strict=True)):
            raise DataError(
                f"the box {_words(_corners(box))} of {store} reaches past the global shape {_shown(shape)}"
            )
        boxes.append(box)
    held = [box for box in boxes if box.tensor.parameters] or boxes
    _check_cover(shape, held)
    return RankTensor(name, shape, tuple(held))


def _place(store: str, tensor: ZarrTensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape of the whole tensor, and offset of the box in it. Raises DataError where the array has none."""
    declared = tensor.array.metadata.attributes.get("gradlog")
    declared = declared if isinstance(declared, dict) else {}
    parts = (tensor.entries.reals,) if tensor.entries.reals > 1 else ()
    axes = len(tensor.shape) - len(parts)
    shape, offset = declared.get("global_shape"), declared.get("offset")
    for word, value in (("global_shape", shape), ("offset", offset)):
        if not isinstance(value, list) or not all(type(extent) is int and extent >= 0 for extent in value):
            raise DataError(
                f"{store}: `{word}` of its `gradlog` is {value!r:.60}, not a list of whole numbers"
            )
        if len(value) != axes:
            raise DataError(f"{store}: `{word}` of its `gradlog` has {len(value)} axes, and the box {axes}")
    _check_placements(store, declared.get("placements", []))
    assert isinstance(shape, list)
    assert isinstance(offset, list)
    return (*shape, *parts), (*offset, *(0 for _ in parts))


def _check_placements(store: str, placements: Any) -> None:
    for placement in placements if isinstance(placements, list) else [placements]:
        if not isinstance(placement, str):
            raise DataError(
                f"{store}: `placements` of its `gradlog` holds {placement!r:.60}, which is no text"
            )
        if _PARTIAL.fullmatch(placement):
            raise DataError(
                f"{placement} in {store}: each rank holds a summand, not a part; reduce the gradients before "
                "they are recorded"
            )
        if not (_SHARD.fullmatch(placement) or _REPLICATE.fullmatch(placement)):
            raise DataError(
                f"placed as {placement[:60]} in {store}, and boxes are of Shard and Replicate alone"
            )


def _check_cover(shape: tuple[int, ...], boxes: Sequence[RankBox]) -> None:
    """Raise DataError where boxes within a shape share entries, or leave some out."""
    starts = np.array([box.offset for box in boxes], np.int64).reshape(len(boxes), len(shape))
    stops = starts + np.array([box.tensor.shape for box in boxes], np.int64).reshape(starts.shape)
    meet = np.ones((len(boxes), len(boxes)), dtype=bool)
    for axis in range(len(shape)):
        meet &= starts[:, None, axis] < stops[None, :, axis]
        meet &= stops[:, None, axis] > starts[None, :, axis]
    pairs = np.argwhere(np.triu(meet, 1))
    if pairs.size:
        one, other = (boxes[number] for number in pairs[0])
        if one.box == other.box:
            raise DataError(
                f"{one.store} and {other.store} both hold {_words(_corners(one))}: replicas; keep one: under "
                "HSDP and data parallelism the first replica alone records"
            )
        raise DataError(
            f"the boxes {_words(_corners(one))} of {one.store} and {_words(_corners(other))} of "
            f"{other.store} overlap"
        )
    if sum(box.tensor.parameters for box in boxes) < math.prod(shape):
        gap = next(_gaps(tuple((0, extent) for extent in shape), [_corners(box) for box in boxes]))
        raise DataError(f"no rank holds {_words(gap)} of its global shape {_shown(shape)}")


def _gaps(whole: Corners, boxes: Sequence[Corners]) -> Iterator[Corners]:
    """Boxes of `whole` that are in none of the others."""
    for number, box in enumerate(boxes):
        if all(a < stop and b > start for (a, b), (start, stop) in zip(box, whole, strict=True)):
            for piece in _around(whole, box):
                yield from _gaps(piece, boxes[number + 1 :])
            return
    yield whole


def _around(whole: Corners, box: Corners) -> Iterator[Corners]:
    """What a box that meets `whole` leaves of it, in boxes."""
    inside = list(whole)
    for axis, ((a, b), (start, stop)) in enumerate(zip(box, whole, strict=True)):
        for first, last in ((start, a), (b, stop)):
            if first < last:
                yield (*inside[:axis], (first, last), *inside[axis + 1 :])
        inside[axis] = (max(a, start), min(b, stop))


def _corners(box: RankBox) -> Corners:
    return tuple((part.start, part.stop) for part in box.box)


def _words(corners: Corners) -> str:
    return f"[{', '.join(f'{start}:{stop}' for start, stop in corners)}]"


def _shown(shape: tuple[int, ...]) -> str:
    return extents(shape) or "()"
