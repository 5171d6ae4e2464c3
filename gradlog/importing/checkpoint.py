"""Checkpoints: folders as Hugging Face writes them, and what is said beside the weights."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError, GradmfError, first_line
from .safetensors_file import SafetensorsFile
from .snapshot import Contents, Kind, Snapshot, Values
from .torch_file import WEIGHT_KEYS, TorchFile

WEIGHT_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
    "pytorch_model.bin.index.json", "adapter_model.safetensors", "adapter_model.bin",
)  # fmt: skip
"""Names of what holds the weights of a folder, the first that there is."""
TRAINER_STATE = "trainer_state.json"
OPTIMIZERS = ("optimizer.pt", "optimizer.bin")


def weights_of_folder(folder: Path) -> Path | None:
    """What holds the weights of a checkpoint's folder; None where it is none."""
    return next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)


class CheckpointFolder(Snapshot):
    """A folder that holds weights, and what the trainer wrote beside them."""

    def __init__(self, path: str, weights: Path) -> None:
        """weights : as of `weights_of_folder`"""
        self.place = path
        self._weights = weights

    def contents(self) -> Contents:
        """What it holds, without reading entries. Raises DataError that names the file at fault."""
        tensors: dict[str, Kind] = {}
        left_out: dict[str, str] = {}
        for file, names in self._files.items():
            found = file.contents()
            if lost := set(names) - found.tensors.keys() - found.left_out.keys():
                raise file.fault(f"lacks tensor '{sorted(lost)[0]}', which {self._weights} says is in it")
            wanted = set(names) or {*found.tensors, *found.left_out}
            tensors |= {name: kind for name, kind in found.tensors.items() if name in wanted}
            left_out |= {name: why for name, why in found.left_out.items() if name in wanted}
        step = self._state.get("global_step")
        return Contents(
            tensors, left_out, step=step if type(step) is int else None, series=self._losses(step)
        )

    @contextlib.contextmanager
    def opened(self) -> Iterator[Values]:
        """Its entries, for as long as the block lasts."""
        with contextlib.ExitStack() as stack:
            inside: dict[str, Values] = {}
            for file, names in self._files.items():
                values = stack.enter_context(file.opened())
                inside |= dict.fromkeys(names or file.contents().tensors, values)
            yield lambda name: inside[name](name)

    @functools.cached_property
    def _files(self) -> dict[Snapshot, list[str]]:
        """The files of weights, each with the names of its tensors; none for all that there are."""
        if not self._weights.name.endswith(".index.json"):
            return {weight_file(str(self._weights)): []}
        index = _read_json(self._weights).get("weight_map")
        if not isinstance(index, dict) or not index:
            raise DataError(f"{self._weights}: no weight_map in it")
        names: dict[str, list[str]] = {}
        for name, file in index.items():
            names.setdefault(str(file), []).append(name)
        for file in names:
            if not (self._weights.parent / file).is_file():
                raise DataError(f"{self._weights}: speaks of '{file}', which is not there")
        return {weight_file(str(self._weights.parent / file)): named for file, named in names.items()}

    @functools.cached_property
    def _state(self) -> Mapping[str, Any]:
        path = Path(self.place) / TRAINER_STATE
        return _read_json(path) if path.is_file() else {}

    def _losses(self, step: Any) -> dict[str, float]:
        """The loss that the trainer logged at the checkpoint's step."""
        for entry in self._state.get("log_history") or ():
            if isinstance(entry, dict) and entry.get("step") == step and "loss" in entry:
                with contextlib.suppress(TypeError, ValueError):
                    return {"loss": float(entry["loss"])}
        return {}


def weight_file(path: str) -> Snapshot:
    """A file of weights by its ending."""
    return SafetensorsFile(path) if path.endswith(".safetensors") else TorchFile(path, WEIGHT_KEYS)


def learning_rate(snapshot: Snapshot) -> tuple[float | None, str]:
    """The rate that the optimizer beside a checkpoint's weights would take its next step with.

    None where there is none that can be read, with the reason; without one where there is no optimizer.
    """
    try:
        if isinstance(snapshot, CheckpointFolder):
            files = [Path(snapshot.place) / name for name in OPTIMIZERS]
            file = next((file for file in files if file.is_file()), None)
            if file is None:
                return None, ""
            states = [TorchFile(str(file), ()).load()]
        elif isinstance(snapshot, TorchFile):
            loaded = snapshot.load()
            one = [loaded.get("optimizer"), loaded.get("optimizer_state_dict")] if _is_dict(loaded) else []
            states = (loaded.get("optimizer_states") if _is_dict(loaded) else None) or one
        else:
            return None, ""
        rates = {float(group["lr"]) for state in states if _is_dict(state) for group in state["param_groups"]}
    except GradmfError as error:
        return None, str(error)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return None, f"{snapshot.place}: no rate in the optimizer's state: {first_line(error)}"
    if len(rates) != 1:
        return None, f"{snapshot.place} holds {len(rates)} rates, by groups of parameters" if rates else ""
    return rates.pop(), ""


def _is_dict(value: Any) -> bool:
    return isinstance(value, Mapping)


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON that can be read: {first_line(error)}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: no JSON object")
    return document
