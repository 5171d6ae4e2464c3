"""Ways to keep the gradients of a training loop: what people do, and gradmf's recorder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Take = Callable[[int], None]
"""Called between backward() and step(), with the number of the training step."""


@dataclass(frozen=True)
class Way:
    """One row of the table.

    attach : (folder, model, optimizer) gives what to call in each step; what it opened is closed behind it
    every : steps from row to row
    read : (folder) the rows found by their training steps, each the first entry of the first tensor
    """

    name: str
    note: str
    attach: Callable[[Path, Any, Any], contextlib.AbstractContextManager[Take]]
    every: int = 1
    read: Callable[[Path], dict[int, float] | None] | None = None


def _gradients(model: Any) -> dict[str, Any]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@contextlib.contextmanager
def _nothing(folder: Path, model: Any, optimizer: Any) -> Iterator[Take]:  # noqa: ARG001
    yield lambda _: None


def _files(save: Callable[[dict[str, Any], Path], None]) -> Any:
    @contextlib.contextmanager
    def attach(folder: Path, model: Any, optimizer: Any) -> Iterator[Take]:  # noqa: ARG001
        folder.mkdir()
        yield lambda step: save(_gradients(model), folder / f"{step:06}")

    return attach


def _bytes(gradients: dict[str, Any], path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for value in gradients.values():
            file.write(value.numpy())


def _torch_save(gradients: dict[str, Any], path: Path) -> None:
    import torch

    torch.save(gradients, f"{path}.pt")


def _npz(gradients: dict[str, Any], path: Path) -> None:
    import numpy as np

    np.savez(f"{path}.npz", **{name: value.numpy() for name, value in gradients.items()})


def _safetensors(gradients: dict[str, Any], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(gradients, f"{path}.safetensors")


def _read_files(read: Callable[[Path], Any]) -> Callable[[Path], dict[int, float]]:
    def found(folder: Path) -> dict[int, float]:
        rows = {}
        for place in sorted(folder.iterdir()) if folder.is_dir() else ():
            with contextlib.suppress(Exception):
                rows[int(place.stem)] = float(read(place))
        return rows

    return found


def _first_pt(path: Path) -> Any:
    import torch

    return next(iter(torch.load(path, weights_only=True).values())).reshape(-1)[0]


def _first_npz(path: Path) -> Any:
    import numpy as np

    with np.load(path) as arrays:
        return arrays[arrays.files[0]].reshape(-1)[0]


def _first_safetensors(path: Path) -> Any:
    from safetensors.numpy import load_file

    return next(iter(load_file(path).values())).reshape(-1)[0]


@contextlib.contextmanager
def _hdf5(folder: Path, model: Any, optimizer: Any) -> Iterator[Take]:  # noqa: ARG001
    import h5py

    folder.mkdir()
    with h5py.File(folder / "run.h5", "w") as file:

        def take(_: int) -> None:
            for name, value in _gradients(model).items():
                if name not in file:
                    shape = tuple(value.shape)
                    file.create_dataset(name, (0, *shape), "f4", maxshape=(None, *shape), chunks=(1, *shape))
                file[name].resize(file[name].shape[0] + 1, axis=0)
                file[name][-1] = value.numpy()

        yield take


def _read_hdf5(folder: Path) -> dict[int, float] | None:
    import h5py

    try:
        with h5py.File(folder / "run.h5", "r") as file:
            first = file[next(iter(file))]
            return {row: float(first[row].reshape(-1)[0]) for row in range(first.shape[0])}
    except Exception:
        return None


@contextlib.contextmanager
def _histograms(folder: Path, model: Any, optimizer: Any) -> Iterator[Take]:  # noqa: ARG001
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder)

    def take(step: int) -> None:
        for name, value in _gradients(model).items():
            writer.add_histogram(name, value, step)

    yield take
    writer.close()


def _recorder(**options: Any) -> Any:
    @contextlib.contextmanager
    def attach(folder: Path, model: Any, optimizer: Any) -> Iterator[Take]:
        from gradmf import gradlog

        with gradlog.record(folder, model, optimizer, **options):
            yield lambda _: None

    return attach


@contextlib.contextmanager
def _append(folder: Path, model: Any, optimizer: Any) -> Iterator[Take]:  # noqa: ARG001
    from gradmf import gradlog

    with gradlog.create_log(folder) as log:
        yield lambda step: log.append(step, _gradients(model))


def _read_log(folder: Path) -> dict[int, float] | None:
    import numpy as np

    from gradmf import gradlog

    try:
        log = gradlog.open_log(folder)
    except gradlog.DataError as error:
        return {} if "nothing was logged yet" in str(error) else None
    first = log.tensors[0]
    values = np.empty((log.rows, first.parameters), np.float32)
    first.read((0, log.rows), tuple(slice(0, extent) for extent in first.shape), values)
    return dict(zip(log.step.tolist(), values[:, 0].tolist(), strict=True))


WAYS = (
    Way("no logging", "the step alone", _nothing),
    Way("write", "the bytes alone, a file a row", _files(_bytes)),
    Way("torch.save", "a file a row, in the loop", _files(_torch_save), read=_read_files(_first_pt)),
    Way("npz", "a file a row, in the loop", _files(_npz), read=_read_files(_first_npz)),
    Way(
        "safetensors", "a file a row, in the loop", _files(_safetensors), read=_read_files(_first_safetensors)
    ),
    Way("HDF5", "a dataset a tensor, a chunk a row", _hdf5, read=_read_hdf5),
    Way("TensorBoard histograms", "30 bins a tensor, no gradient", _histograms),
    Way("create_log, append", "in the loop", _append, read=_read_log),
    Way("record", "every step, float32", _recorder(), read=_read_log),
    Way("record, bfloat16", "every step", _recorder(dtype="bfloat16"), read=_read_log),
    Way("record, every=10", "float32", _recorder(every=10), every=10, read=_read_log),
    Way("record, project=4096", "every step", _recorder(project=4096), read=_read_log),
)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    walk = os.walk(folder)
    return sum(Path(parent, name).stat().st_size for parent, _, names in walk for name in names)
