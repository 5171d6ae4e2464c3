"""A zip archive of a Zarr store, or of the stores of ranks, whatever folder it was packed in."""

from __future__ import annotations

from collections.abc import Iterable

from zarr.storage import StorePath

from ...errors import DataError
from ..rank_folders import holds_ranks
from ..root_keys import PART_HEADER, ROOT_KEYS, is_rank_name
from ..zip_archive import ArchiveStore, read_names
from .file_place import FilePlace
from .place import some_of


class ZipPlace(FilePlace):
    """Of a zip archive that is there."""

    def open(self) -> StorePath:
        names = read_names(self.path)
        archive = ArchiveStore(self.path)
        ranks = _folder_of_ranks(names)
        if ranks is not None and holds_ranks(StorePath(archive, ranks)):
            return StorePath(archive, ranks)
        tops = _topmost_nodes(names)
        if len(tops) == 1:  # `zip -r` keeps the store's own folder
            return StorePath(archive, tops[0].rstrip("/"))
        if tops:
            raise DataError(
                f"{self.path}: the zip archive holds {len(tops)} stores ({', '.join(tops[:4])}); "
                "unpack it first"
            )
        if PART_HEADER in names:
            raise DataError(f"{self.path}: part of an analysis: gradmf merge makes results of all its parts")
        raise DataError(f"{self.path}: not a Zarr store: {self.describe()}")

    def describe(self) -> str:
        names = read_names(self.path)
        return f"a zip archive that holds {some_of(names) or 'nothing'}"


def _folder_of_ranks(names: Iterable[str]) -> str | None:
    """The folder inside an archive that holds nothing but nodes named as those of ranks; None without one."""
    tops = _topmost_nodes(names)
    above = {top.rstrip("/").rpartition("/")[0] for top in tops}
    named = all(is_rank_name(top.rstrip("/").rpartition("/")[2]) for top in tops)
    return above.pop() if named and len(above) == 1 else None


def _topmost_nodes(names: Iterable[str]) -> list[str]:
    """Folders inside an archive that hold Zarr metadata, a slash behind each, without those below others."""
    roots = {
        name[: -len(key)] for name in names for key in ROOT_KEYS if name.endswith("/" + key) or name == key
    }
    tops: list[str] = []
    for root in sorted(roots):
        if not tops or not root.startswith(tops[-1]):
            tops.append(root)
    return tops
