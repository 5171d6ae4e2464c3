"""What the program needs of a log, wherever it lies: a `GradientLog`, its `Tensor`s, and its series.

Nothing here knows of Zarr. A log of Zarr arrays is made by `opening`, of tensors of `zarr_tensor`; whatever
else holds gradients is one more subclass of `Tensor`, put into a `GradientLog`.
"""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..naming import matching
from ..quick_dataclass import dataclass
from ..results.projection import Projection
from ..results.result import LogWarning
from ..results.row_kind import RowKind, row_kind
from .inventory import ChunkInventory, grid_shape
from .row_ranges import Ranges

FORMAT_VERSION = 1
GRADS = "grads"
STEP = "step"
GIVE_UP_SECONDS = 0.1
"""How often a read that may take long is asked to end, once nobody wants it any more."""


@dataclass(frozen=True)
class Tensor(abc.ABC):
    """One parameter tensor's gradients: rows of numbers that are read a box at a time.

    A subclass has to say `rows`, `shape`, `dtype` and `chunks`, and to `read`. All else has an answer that
    is right for whatever is stored whole and plain, and that may be told better: plans and estimates follow
    from it, and of the numbers the order of their sums at most.

    Shapes and chunks have the step axis first, wherever it is stored. Nothing may change while a log is
    analyzed.
    """

    name: str

    @property
    @abc.abstractmethod
    def rows(self) -> int:
        """Rows stored, committed or not."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter, without the step axis."""

    @property
    @abc.abstractmethod
    def dtype(self) -> str:
        """Name of the type of the entries: "float32", "bfloat16", "complex64", "packed int16", ..."""

    @property
    @abc.abstractmethod
    def chunks(self) -> tuple[int, ...]:
        """What is decoded at once, (rows, *shape): blocks are cut along it. Extents of at least 1."""

    @property
    def stored_chunks(self) -> tuple[int, ...]:
        """What `chunks` are made of in the store, where that is told: as of `chunks`."""
        return self.chunks

    @abc.abstractmethod
    def read(self, rows: tuple[int, int], box: tuple[slice, ...], out: NDArray[Any], room: int = 0) -> None:
        """Fill `out` with gradients, in a thread that reads ahead of their use.

        Parameters
        ----------
        rows : (first, last + 1) stored rows
        box : slices of the axes of `shape`, with start and stop inside of it
        out : (rows, entries of the box) float32 or float64, at least as wide as `compute_dtype`; entries
            of the box are in C order
        room : bytes to stay within while chunks are decoded, as far as single chunks allow

        Raises DataError, without the log's name, for what cannot be read.
        """

    @functools.cached_property
    def parameters(self) -> int:
        """Number of parameters, the product of `shape`."""
        return math.prod(self.shape)

    @property
    def compute_dtype(self) -> np.dtype[np.floating[Any]]:
        """float64 where entries need it, else float32, which holds the narrower types exactly."""
        return np.dtype(np.float64 if self.dtype == "float64" else np.float32)

    @property
    def entry_bytes(self) -> int:
        """Bytes of one entry as stored and not encoded."""
        return int(self.compute_dtype.itemsize)

    @property
    def in_place(self) -> bool:
        """Entries are read right into their place: no memory beside that of `out`."""
        return False

    @property
    def compressed(self) -> bool:
        """A part of a chunk cannot be read without decoding all of it."""
        return False

    def give_up(self) -> None:  # noqa: B027 - few have anything to end
        """End a read that takes long in another thread, with an error there: nobody wants it any more."""

    @property
    def decoding_bytes(self) -> int:
        """Bytes of one chunk while it is decoded: as it is stored, at most, and decoded.

        Of chunks that are not compressed, only what is wanted is read, into its place.
        """
        return 2 * math.prod(self.chunks) * self.entry_bytes if self.compressed else 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes that are to be under way at once, where chunks are waited for; 0 where they are near."""
        return 0

    @property
    def read_in_part(self) -> bool:
        """A piece of a chunk is read without the rest of it."""
        return False

    @property
    def chunk_seconds(self) -> float:
        """What reading a chunk takes, about, beside what its bytes take."""
        return 5e-4

    @property
    def reader(self) -> str:
        """What reads the chunks, as reports name it."""
        return "python"

    @property
    def codecs(self) -> tuple[str, ...]:
        """Names of what encodes the entries, in that order: how long reading is thought to take."""
        return ()

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Shape of a shard (what is one object in the store), None without sharding."""
        return None

    @property
    def made_of(self) -> tuple[int, ...] | None:
        """In a sketch: shape of the parameter whose gradients these sums are made of; None for a copy."""
        return None

    @property
    def fill_is_finite(self) -> bool:
        """Whether a chunk that is absent reads as finite gradients."""
        return True

    @property
    def absent_rows(self) -> tuple[Ranges, bool]:
        """Rows that came without a gradient and are stored as zeros; whether others may lie among them.

        Raises DataError, without the log's name, where what the store says of them is none.
        """
        return (), False

    def inventory(self, rows: int, *, sizes: bool = False) -> ChunkInventory:
        """Which chunks of the first `rows` rows are stored, nothing decoded: here, all of them.

        sizes : also add up the encoded bytes

        Raises DataError, without the log's name, where that cannot be found out.
        """
        grid = grid_shape((rows, *self.shape), self.chunks)
        size = rows * self.parameters * self.entry_bytes if sizes else None
        return ChunkInventory(math.prod(grid), (), size, height=self.chunks[0], across=math.prod(grid[1:]))


class Series(Protocol):
    """One value a row: an array of Zarr's, of NumPy's, or of what else has a shape and gives slices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N,), at least as many as the log has rows."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """The values of some rows, as NumPy takes them. Whatever it raises becomes a DataError."""
        ...


@dataclass(frozen=True, kw_only=True)
class GradientLog:
    """An opened log.

    path : as given, or the place in a store: what messages and results call it
    format_version : 1, or None for a foreign layout; zarr_format : None where no Zarr store holds it
    tensors : in the order of their names; rows : committed rows; step : (rows,) int64 training steps
    series : scalar series by name; attributes : of the root, as stored
    left_out : reasons why other arrays are no gradients, by path
    faults : what keeps tensors from being read, by name: `check` raises it where one is wanted
    step_axis : what the rows lie along, in words; ranks : stores of a set that is read as one log
    source : path or URL that it was opened by; None where other processes cannot open it
    """

    path: str
    format_version: int | None = None
    zarr_format: int | None = None
    tensors: tuple[Tensor, ...]
    rows: int
    step: NDArray[np.int64] = field(repr=False)
    series: Mapping[str, Series] = field(default_factory=dict, repr=False)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[LogWarning, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict, repr=False)
    faults: Mapping[str, str] = field(default_factory=dict, repr=False)
    step_axis: str = ""
    ranks: int | None = None
    source: str | None = None

    def check(self, names: Container[str]) -> None:
        """Raise DataError where a tensor among `names` cannot be read."""
        wanted = {name: why for name, why in self.faults.items() if name in names}
        if wanted:
            first = next(iter(wanted))
            raise DataError(
                f"{self.path}: {first_fault(wanted)}; mend it, or leave it out with --exclude '{first}'"
            )

    @property
    def kind(self) -> RowKind:
        """What the rows are. Raises DataError where the attributes name what is not known."""
        try:
            return row_kind(self.attributes)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error

    @property
    def parameters(self) -> int:
        """Number of parameters of all tensors."""
        return sum(tensor.parameters for tensor in self.tensors)


def first_fault(faults: Mapping[str, str]) -> str:
    """The first of the faults of tensors, in words."""
    name, why = next(iter(faults.items()))
    return f"tensor '{name}' {why}" if why.startswith(("is ", "has ")) else f"tensor '{name}': {why}"


def chosen_names(names: Sequence[str], tensors: Sequence[str], exclude: Sequence[str]) -> set[str]:
    """Names that match `tensors` (all without any) and not `exclude`. tensors, exclude : globs"""
    wanted = matching(tensors, names) if tensors else set(names)
    return wanted - matching(exclude, names)


def sketch_of(log: GradientLog) -> Projection | None:
    """The projection that a log's tensors were made by; None for a log of gradients.

    Raises DataError for one that this gradmf does not know.
    """
    return projection_of(log.attributes, log.path)


def projection_of(attributes: Mapping[str, Any], path: str) -> Projection | None:
    """As of `sketch_of`, from the attributes of a log."""
    declared = attributes.get("gradlog")
    if not isinstance(declared, dict) or "projection" not in declared:
        return None
    return Projection.of(declared["projection"], path)
