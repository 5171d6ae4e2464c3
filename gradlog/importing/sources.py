"""What lies at the paths that are to be imported: files of a step each, or one of many, by their endings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, StoreNotFoundError, UsageError
from ..logs.example_stores import example_store
from ..logs.root_keys import holds_arrays, is_zarr_node, may_hold_ranks
from ..naming import shown
from ..quick_dataclass import dataclass
from .checkpoint import CheckpointFolder, weights_of_folder
from .hdf5 import Hdf5Group, Hdf5Rows, hdf5_groups
from .npy import NpyFile, NpyRows
from .npz import NpzFile
from .safetensors_file import SafetensorsFile
from .snapshot import Snapshot
from .stack import rows_of
from .steps import naturally
from .torch_file import GRADIENT_KEYS, WEIGHT_KEYS, TorchFile

if TYPE_CHECKING:
    from .zarr_store import LogRows

_KINDS = {
    ".npz": "npz", ".safetensors": "safetensors", ".npy": "npy", ".h5": "hdf5", ".hdf5": "hdf5",
    ".pt": "torch", ".pth": "torch", ".bin": "torch", ".ckpt": "lightning", ".zarr": "zarr", ".zip": "zarr",
}  # fmt: skip
_CHECKPOINTS = "checkpoint-"
_WEIGHTS = "a checkpoint, which holds weights: import it as updates"


@dataclass(frozen=True)
class Sources:
    """Snapshots in the order of their sources, and logs among what they are of."""

    snapshots: tuple[Snapshot, ...]
    logs: tuple[LogRows, ...] = field(default=())

    @property
    def attributes(self) -> dict[str, Any]:
        """Free attributes that all logs agree on."""
        return _agreed([log.attributes for log in self.logs])

    @property
    def declared(self) -> dict[str, Any]:
        """What logs say of their rows. Raises DataError where one says something else."""
        for log in self.logs[1:]:
            if log.declared != self.logs[0].declared:
                raise DataError(
                    f"{log.place} declares {log.declared or 'gradients'}, and {self.logs[0].place} "
                    f"{self.logs[0].declared or 'gradients'}: import one of them alone"
                )
        return self.logs[0].declared if self.logs else {}


def find_sources(
    paths: Sequence[str],
    *,
    updates: bool,
    room: int,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Sources:
    """The snapshots of some paths: files, stores, folders of such, and checkpoints.

    updates : of weights, whose differences are wanted; room : bytes of rows that may be held
    include, exclude : globs on names of tensors: of a log, only those chosen count for rows and faults

    Raises StoreNotFoundError for a path with nothing; DataError for what cannot be imported, with the
    reason; UsageError where sources are of several kinds.
    """
    found = [item for path in paths for item in _expanded(path, updates)]
    kinds: dict[str, str] = {}
    for path, kind in found:
        kinds.setdefault(kind, path)
    if len(kinds) > 1:
        one, other = list(kinds.values())[:2]
        raise UsageError(f"sources of one kind at a time, and not {other} with {one}")
    if not found:
        raise UsageError("nothing to import: give files, stores or folders")
    (only,) = kinds
    places = [path for path, _ in found]
    if only == "lightning" and not updates:
        raise DataError(f"{places[0]}: {_WEIGHTS}")
    if only == "zarr":
        return _of_stores(places, room, include, exclude)
    return Sources(tuple(_snapshots(only, places, updates, room)))


def _snapshots(kind: str, places: Sequence[str], updates: bool, room: int) -> Iterable[Snapshot]:
    alone = len(places) == 1
    if kind == "npy" and alone:
        return rows_of(NpyRows(places[0]), room)
    if kind == "hdf5" and alone:
        groups = hdf5_groups(places[0])
        return [Hdf5Group(places[0], g) for g in groups] if groups else rows_of(Hdf5Rows(places[0]), room)
    keys = WEIGHT_KEYS if updates else (*GRADIENT_KEYS, WEIGHT_KEYS[0])
    of_file: dict[str, Callable[[str], Snapshot]] = {
        "npz": NpzFile,
        "npy": NpyFile,
        "hdf5": Hdf5Group,
        "safetensors": SafetensorsFile,
        "torch": lambda path: TorchFile(path, keys),
        "lightning": lambda path: TorchFile(path, keys),
        "checkpoint": _checkpoint,
    }
    return map(of_file[kind], places)


def _checkpoint(path: str) -> Snapshot:
    weights = weights_of_folder(Path(path))
    assert weights is not None
    return CheckpointFolder(path, weights)


def _of_stores(places: Sequence[str], room: int, include: Sequence[str], exclude: Sequence[str]) -> Sources:
    """One store is a log; of several, each is one, or one step."""
    from ..logs.whole_arrays import holds_steps  # deferred: other sources need no Zarr
    from .zarr_store import LogRows, ZarrSnapshot

    snapshots: list[Snapshot] = []
    logs = []
    for place in places:
        if len(places) == 1 or holds_steps(place):
            logs.append(LogRows(place, include, exclude, beside=len(places) > 1))
            snapshots += rows_of(logs[-1], room)
        else:
            snapshots.append(ZarrSnapshot(place))
    return Sources(tuple(snapshots), tuple(logs))


def _expanded(path: str, updates: bool) -> list[tuple[str, str]]:
    """The sources at a path, each with its kind; those of a folder in natural order."""
    place = Path(path)
    if not place.exists():
        raise StoreNotFoundError(f"{path}: no such file or directory")
    if (why := example_store(place)) is not None:
        raise DataError(f"{path}: {why}")
    if not place.is_dir():
        kind = _KINDS.get(place.suffix.lower())
        if kind is None:
            raise DataError(f"{path}: files are told by their endings, which are {', '.join(_KINDS)}")
        return [(path, kind)]
    if is_zarr_node(place) or may_hold_ranks(place):
        return [(path, "zarr")]
    inside = sorted((inner.name for inner in place.iterdir()), key=naturally)
    if weights_of_folder(place) is not None and not updates:
        raise DataError(f"{path}: {_WEIGHTS}")
    if updates:
        below = [name for name in inside if weights_of_folder(place / name) is not None]
        named = [name for name in below if name.startswith(_CHECKPOINTS)]
        if named or (below and weights_of_folder(place) is None):
            return [(str(place / name), "checkpoint") for name in named or below]
        if weights_of_folder(place) is not None:
            return [(path, "checkpoint")]
    return _files_of(path, place, inside)


def _files_of(path: str, place: Path, inside: Sequence[str]) -> list[tuple[str, str]]:
    """What a folder holds: stores, or files of one kind."""
    if holds_arrays(place):
        return [(path, "zarr")]
    kinds = {name: _KINDS.get(Path(name).suffix.lower()) for name in inside}
    kinds |= {name: "zarr" for name in inside if _is_store(place / name)}
    files = {name: kind for name, kind in kinds.items() if kind is not None}
    if not files:
        held = shown(inside, 4) or "nothing"
        raise DataError(f"{path}: a folder without files that can be imported; it holds {held}")
    return [(str(place / name), kind) for name, kind in files.items()]


def _is_store(place: Path) -> bool:
    return is_zarr_node(place) or may_hold_ranks(place) or holds_arrays(place)


def _agreed(several: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = several[0] if several else {}
    return {
        key: value for key, value in first.items() if all(other.get(key) == value for other in several[1:])
    }
