"""Per-step sums of tensors in a file beside their document: an .npz of float64 arrays, one for each sum.

`energy`, `path_length[SPEC]` and `product[SPEC]`, each (tensors, bins): `numpy.load` reads it, and nothing in
it is executed. The document names it, and holds its digest: which of several files of one name is meant.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, first_line
from ..logs.places.files_beside import FilesBeside, place_beside
from ..logs.places.place import Place
from ..quick_dataclass import dataclass
from ..results.quantities import spelled
from ..results.result import TensorSteps
from ..results.typed_fields import Fields

Doubles = NDArray[np.float64]

ENDING = ".steps.npz"
"""Of the names of these files, behind that of the document."""
_CURE = "keep both files together, or analyze again"
_DIGEST = re.compile("[0-9a-f]{64}")


def write_table(names: Sequence[str], steps: TensorSteps, beside: FilesBeside) -> dict[str, Any]:
    """Write the sums of the tensors `names` into a new file; what stands for them in the document."""
    arrays = {"energy": steps.energy}
    arrays |= {spelled("path_length", spec): values for spec, values in steps.path_length.items()}
    arrays |= {spelled("product", spec): values for spec, values in steps.product.items()}
    plain: dict[str, Any] = {name: np.ascontiguousarray(values, "<f8") for name, values in arrays.items()}
    with beside.new_file(ENDING) as (name, file):
        with zipfile.ZipFile(file, "w") as archive:  # NumPy 1 leaves its own open where the disk is full
            for array, values in plain.items():
                with archive.open(f"{array}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, values)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return {
        "file": name,
        "sha256": digest,
        "shape": list(steps.energy.shape),
        "edges": steps.edges,
        "predictors": list(steps.path_length),
        "tensors": list(names),
    }


@dataclass(frozen=True)
class TensorTable:
    """What a document says of such a file. file : its name, without folders; tensors : their names, by row"""

    file: str
    sha256: str
    edges: NDArray[np.int64]
    predictors: tuple[str, ...]
    tensors: tuple[str, ...]

    @classmethod
    def of(cls, held: Fields) -> TensorTable | None:
        """From `tensor_steps` of a document; None where that holds the sums themselves. Raises ValueError."""
        if not held.has("file"):
            return None
        found = cls(
            held.text("file"),
            held.text("sha256"),
            held.wholes("edges"),
            held.texts("predictors"),
            held.texts("tensors"),
        )
        if found.file in ("", ".", "..") or re.search(r"[/\0]", found.file):
            raise ValueError(f"{held.where('file')} is no name of a file beside it")
        if _DIGEST.fullmatch(found.sha256) is None:
            raise ValueError(f"{held.where('sha256')} is no SHA-256 digest")
        if held.counts("shape") != found.shape:
            raise ValueError(f"{held.where('shape')} is not that of its tensors and edges")
        return found

    @property
    def shape(self) -> tuple[int, int]:
        """Of each array."""
        return len(self.tensors), max(0, self.edges.size - 1)

    def read(self, document: Place, place: str) -> TensorSteps:
        """The sums, from beside `document`, which messages call `place`.

        Raises DataError that names the file where it is missing, cannot be read, or is none of this document.
        """
        there = place_beside(document, self.file)
        whose = f"the sums of tensors by step of {place}"
        try:
            data = there.read()
        except FileNotFoundError:
            raise DataError(f"{there.name}: missing, with {whose}: {_CURE}") from None
        except OSError as error:
            told = error.strerror or first_line(error)
            raise DataError(f"{there.name}: cannot be read, with {whose}: {told}: {_CURE}") from error
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise DataError(
                f"{there.name}: changed, cut short or of another result: not {whose}, which holds another "
                f"digest: {_CURE}"
            )
        try:
            return self._steps(data)
        except ValueError as error:
            raise DataError(f"{there.name}: not {whose}: {error}: {_CURE}") from error

    def _steps(self, data: bytes) -> TensorSteps:
        """Raises ValueError, in words, for arrays that are not what the document says."""
        arrays = _arrays(data)

        def array(name: str) -> Doubles:
            found = arrays.get(name)
            if found is None:
                raise ValueError(f"it holds no array {name!r}")
            if found.shape != self.shape or found.dtype != np.float64:
                raise ValueError(
                    f"{name!r} has shape {found.shape}, {found.dtype}, not {self.shape}, float64"
                )
            if not np.isfinite(found).all():
                raise ValueError(f"{name!r} holds what is not finite")
            return found

        return TensorSteps(
            edges=self.edges,
            energy=array("energy"),
            path_length={spec: array(spelled("path_length", spec)) for spec in self.predictors},
            product={spec: array(spelled("product", spec)) for spec in self.predictors},
        )


def _arrays(data: bytes) -> Mapping[str, NDArray[Any]]:
    """Of an .npz file. Raises ValueError for bytes that are none, whatever they make zipfile stumble over."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except Exception as error:
        raise ValueError(f"no .npz file: {first_line(error)[:160]}") from error
