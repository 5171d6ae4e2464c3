"""Files of PyTorch, .pt, .pth, .bin and .ckpt: a dict or a list of tensors, or such a dict inside one.

They are pickles. Only what `torch.load(weights_only=True)` loads is loaded, and nothing else is tried.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GradmfError, first_line
from .libraries import library
from .snapshot import GRADIENT, Contents, Kind, Snapshot, Values, is_scalar_name

GRADIENT_KEYS = ("grads", "gradients", "grad")
WEIGHT_KEYS = ("state_dict", "model_state_dict", "model")


class TorchFile(Snapshot):
    """A file that torch.save wrote. keys : of the dict inside that is wanted, the first that there is"""

    def __init__(self, path: str, keys: tuple[str, ...]) -> None:
        self.place = path
        self._keys = keys

    def contents(self) -> Contents:
        """What it holds, without reading entries. Raises DataError that names it."""
        tensors, left_out, taken, scalars = self._tensors()
        kinds = {
            name: Kind(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in tensors.items()
        }
        return Contents.with_scalars(kinds, scalars, left_out, taken)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Values]:
        """Its entries, for as long as the block lasts."""
        torch = _torch(self.place)
        tensors = self._tensors()[0]

        def values(name: str) -> NDArray[Any]:
            try:
                tensor = tensors[name].detach()
                if tensor.layout != torch.strided:
                    tensor = tensor.to_dense()
                if tensor.dtype == torch.bfloat16:
                    bits: NDArray[np.int16] = tensor.contiguous().view(torch.int16).numpy()
                    return bits.view(np.uint16)
                return np.asarray(tensor.numpy())
            except (RuntimeError, TypeError) as error:
                raise self.fault(f"tensor '{name}' cannot be read: {first_line(error)}") from error

        yield values

    def load(self) -> Any:
        """All that is in the file. Raises DataError that names it, and says what keeps it from being read."""
        torch = _torch(self.place)
        try:
            with warnings.catch_warnings():  # of PyTorch's own checks, which are nobody's to mend
                warnings.simplefilter("ignore")
                return torch.load(self.place, map_location="cpu", weights_only=True, mmap=True)
        except GradmfError:
            raise
        except OSError:
            raise
        except Exception as error:
            raise self.fault(_why(error)) from error

    def _tensors(self) -> tuple[dict[str, Any], dict[str, str], str, dict[str, float]]:
        torch = _torch(self.place)
        found, taken, scalars = self._chosen(torch, self.load())
        tensors: dict[str, Any] = {}
        left_out: dict[str, str] = {}
        places: dict[tuple[Any, ...], str] = {}
        for name, value in found.items():
            if not isinstance(value, torch.Tensor):
                left_out[name] = "None" if value is None else f"no tensor but a {type(value).__name__}"
                continue
            where = _memory(torch, value)
            if where in places:
                left_out[name] = f"tied: the same memory as '{places[where]}'"
                continue
            if where is not None:
                places[where] = name
            tensors[name] = value
        return tensors, left_out, taken, scalars

    def _chosen(self, torch: Any, loaded: Any) -> tuple[dict[str, Any], str, dict[str, float]]:
        """What may be tensors, by name; what that is in words; and numbers beside it."""
        if isinstance(loaded, torch.Tensor):
            return {GRADIENT: loaded}, "the tensor that the file is", {}
        if isinstance(loaded, (list, tuple)):
            return {str(at): value for at, value in enumerate(loaded)}, "a list, named by its places", {}
        if not isinstance(loaded, Mapping):
            raise self.fault(f"holds a {type(loaded).__name__}, and not tensors by name")
        named = {str(key): value for key, value in loaded.items()}
        scalars = {
            key: value.item() if isinstance(value, torch.Tensor) else value
            for key, value in named.items()
            if is_scalar_name(key) and _is_number(torch, value)
        }
        for key in self._keys:
            if isinstance(inside := named.get(key), Mapping):
                return {str(name): value for name, value in inside.items()}, f"what lies at '{key}'", scalars
        if not any(isinstance(value, torch.Tensor) for value in named.values()):
            shown = ", ".join(sorted(named)[:6]) or "nothing"
            raise self.fault(f"no tensors by name, and none at {' or '.join(self._keys)}; it holds {shown}")
        return {key: value for key, value in named.items() if key not in scalars}, "", scalars


def _torch(place: str) -> Any:
    return library("torch", f"{place}: a file of PyTorch")


def _is_number(torch: Any, value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return bool(value.ndim == 0 and value.layout == torch.strided and not value.is_complex())
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _memory(torch: Any, tensor: Any) -> tuple[Any, ...] | None:
    """What tensors that are one and the same have in common; None where that is not known."""
    if tensor.layout != torch.strided or not tensor.numel():
        return None
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.numel(), tensor.dtype


def _why(error: Exception) -> str:
    """What keeps a file from being loaded, out of PyTorch's long text."""
    text = str(error)
    unknown = re.search(r"Unsupported (?:global: GLOBAL|class|operand) (\S+)", text)
    if unknown:
        return (
            f"holds {unknown[1]}, which PyTorch loads only from files that are trusted "
            "(weights_only=False), and gradmf never does: save the tensors alone, by name"
        )
    if "_use_new_zipfile_serialization" in text:
        return "no file of torch.save, or one of PyTorch before 1.6: load it and save it again"
    if "central directory" in text or "zip archive" in text:
        return "no file that PyTorch can read (cut short?)"
    return f"PyTorch cannot load it with weights_only=True: {first_line(error)}"
