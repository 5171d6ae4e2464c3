"""Which stores of a folder are those of the ranks of one run, by their names and what their roots declare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zarr.storage import StorePath

from ..errors import DataError
from ..naming import shown
from ..quick_dataclass import dataclass
from .log import GRADS, STEP
from .places.objects_of import objects_of
from .root_keys import is_rank_name

_ATTRIBUTES = {"zarr.json": ("attributes",), ".zattrs": ()}
"""Where the attributes of a root stand: the path in a file."""
SHOWN = 4


@dataclass(frozen=True)
class RankFolder:
    """A store of one rank. declared : what `gradlog` says in the attributes of its root"""

    name: str
    rank: int
    declared: Mapping[str, Any]


def declared_rank(declared: Any) -> bool:
    """Whether the attribute `gradlog` of a root says that the log is that of one rank."""
    return isinstance(declared, Mapping) and "rank" in declared


def holds_ranks(place: StorePath) -> bool:
    """Whether stores of ranks lie right below a place."""
    return any(declared_rank(declared) for declared in _declared(place).values())


def root_attributes(place: StorePath) -> dict[str, Any]:
    """Attributes of the root of a set; none where the folder has no metadata."""
    attributes = _attributes(place)
    return dict(attributes) if isinstance(attributes, Mapping) else {}


def rank_folders(name: str, place: StorePath) -> list[RankFolder]:
    """The stores of the ranks of one run, in the order of the ranks; none where a place holds none.

    name : of the place, for messages

    Raises DataError where they are of several runs, or not all there, or one twice.
    """
    found = _declared(place)
    said = {folder: declared for folder, declared in found.items() if declared_rank(declared)}
    if not said:
        return []
    own = sorted({STEP, GRADS} & set(_children(place)))
    if own:
        raise DataError(
            f"{name}: a log of its own (`{own[0]}`) lies beside the stores of ranks: keep them in folders of "
            "their own"
        )
    folders = [_rank_folder(name, folder, declared) for folder, declared in said.items()]
    first = folders[0]
    for key, what in (("run", "run"), ("ranks", "number of ranks")):
        for other in folders[1:]:
            if other.declared[key] != first.declared[key]:
                told = f"{first.declared[key]!r} in {first.name} and {other.declared[key]!r} in {other.name}"
                raise DataError(
                    f"{name}: the {what} is {told}: leave the stores of one run there, all of them"
                )
    ranks = first.declared["ranks"]
    by_rank: dict[int, RankFolder] = {}
    for folder in folders:
        if folder.rank >= ranks:
            raise DataError(f"{name}: {folder.name} is of rank {folder.rank}, but the run had {ranks} ranks")
        if folder.rank in by_rank:
            both = f"{by_rank[folder.rank].name} and {folder.name}"
            raise DataError(f"{name}: {both} are both of rank {folder.rank}: remove the one that is a copy")
        by_rank[folder.rank] = folder
    missing = [rank for rank in range(ranks) if rank not in by_rank]
    if missing:
        raise DataError(
            f"{name}: {_missing(missing, ranks)}{_unsaid(found)}; put all stores of the run there"
        )
    return [by_rank[rank] for rank in range(ranks)]


def _missing(missing: list[int], ranks: int) -> str:
    if len(missing) == 1:
        return f"the store of rank {missing[0]} of {ranks} is missing"
    return f"the stores of ranks {shown([str(rank) for rank in missing], SHOWN)} of {ranks} are missing"


def _unsaid(found: Mapping[str, Any]) -> str:
    """The folders that are named as those of ranks, and are none."""
    unsaid = [folder for folder, declared in found.items() if not declared_rank(declared)]
    if not unsaid:
        return ""
    return (
        f"; {shown(unsaid, SHOWN)} {'has' if len(unsaid) == 1 else 'have'} no root that says which rank it is"
    )


def _rank_folder(name: str, folder: str, declared: Mapping[str, Any]) -> RankFolder:
    rank, ranks = declared["rank"], declared.get("ranks")
    for word, value, least in (("rank", rank, 0), ("ranks", ranks, 1)):
        if type(value) is not int or value < least:
            raise DataError(
                f"{name}: `gradlog` of {folder} says {word} {value!r:.40}, not a whole number of at least "
                f"{least}"
            )
    if not isinstance(declared.get("run"), str):
        raise DataError(
            f"{name}: `gradlog` of {folder} does not say which run it is of: {{'run': ID}} is missing"
        )
    return RankFolder(folder, rank, declared)


def _declared(place: StorePath) -> dict[str, Any]:
    """By name of a folder that may be that of a rank, what `gradlog` of its root says; None where nothing."""
    found = {}
    for folder in _children(place):
        if is_rank_name(folder):
            attributes = _attributes(place / folder)
            found[folder] = attributes.get("gradlog") if isinstance(attributes, Mapping) else None
    return found


def _children(place: StorePath) -> list[str]:
    """Names of what lies right below a place; none where that cannot be listed: what opens it tells why."""
    try:
        return objects_of(place).children()
    except Exception:
        return []


def _attributes(root: StorePath) -> Any:
    """Those of a root, as stored; None where it has no metadata, or none that can be read."""
    objects = objects_of(root)
    for key, path in _ATTRIBUTES.items():
        try:
            document: Any = json.loads(objects.read(key))
            for word in path:
                document = document[word]
            return document
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
    return None
