"""Which parameters of a model are recorded, and by which names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import UsageError
from ..logs.log import chosen_names
from ..naming import matching

COMPILED = "_orig_mod."
"""What torch.compile puts into names, wherever a module was compiled."""
WRAPPED = "module."
"""What DistributedDataParallel puts before all names."""


def model_name(model: Any) -> str | None:
    """The class of a model without its wrappers; None for parameters that come without one."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = model.module
        if inner is None:
            return type(model).__name__ if hasattr(model, "named_parameters") else None
        model = inner


def named_parameters(model: Any) -> dict[str, Any]:
    """All parameters by name, as logs name them: without what wrappers put there, and tied ones once.

    model : a module, or pairs of a name and a parameter

    Raises UsageError for what is neither, and where two parameters have one name.
    """
    pairs = list(_pairs(model))
    names = [name.replace(COMPILED, "") for name, _ in pairs]
    while names and all(name.startswith(WRAPPED) for name in names):
        names = [name.removeprefix(WRAPPED) for name in names]
    found: dict[str, Any] = {}
    seen = set()
    for name, (_, parameter) in zip(names, pairs, strict=True):
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        if name in found:
            raise UsageError(f"two parameters are called '{name}': give one another name")
        found[name] = parameter
    return found


def _pairs(model: Any) -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(model, torch.nn.Module):
        for module in model.modules():
            if type(module).__name__ == "FullyShardedDataParallel":
                raise UsageError(
                    "FullyShardedDataParallel flattens parameters, so that gradients have neither names nor "
                    "shapes: shard the model with torch.distributed.fsdp.fully_shard"
                )
        yield from model.named_parameters()
        return
    wrong = UsageError("the model must be a module of PyTorch, or pairs of a name and a parameter")
    try:
        pairs = [(name, parameter) for name, parameter in model]
    except (TypeError, ValueError):
        raise wrong from None
    for name, parameter in pairs:
        if not isinstance(name, str) or not isinstance(parameter, torch.Tensor):
            raise wrong
        yield name, parameter


def chosen_parameters(
    known: Mapping[str, Any], include: Sequence[str], exclude: Sequence[str]
) -> dict[str, Any]:
    """Those with entries that match the patterns, frozen ones too: they may be trained later.

    known : all of the model; include : globs, all without any; exclude : globs

    Raises UsageError for a pattern that matches none, and for what cannot be recorded.
    """
    from torch.nn.parameter import is_lazy

    for pattern in (*include, *exclude):
        if not matching([pattern], known):
            raise UsageError(f"no parameter matches '{pattern}'")
    wanted = chosen_names(list(known), include, exclude)
    found = {}
    for name, parameter in known.items():
        if name not in wanted:
            continue
        if is_lazy(parameter):
            raise UsageError(f"parameter '{name}' has no shape yet: run a batch through the model first")
        if not parameter.is_floating_point():
            if not parameter.requires_grad:
                continue
            raise UsageError(
                f"parameter '{name}' is {str(parameter.dtype).removeprefix('torch.')}, and gradients of real "
                f"numbers are recorded: leave it out, exclude=['{name}']"
            )
        if math.prod(parameter.shape):
            found[name] = parameter
    if not any(parameter.requires_grad for parameter in found.values()):
        which = "of those chosen " if include or exclude else ""
        raise UsageError(f"no parameter {which}requires a gradient: there is nothing to record")
    return found


class Owners:
    """Which of the parameters to record each optimizer steps, also once it is given more of them."""

    def __init__(self, known: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
        """known : all parameters of the model; chosen : those that are recorded"""
        self.chosen = chosen
        self._known = {id(parameter) for parameter in known.values()}
        self._names = {id(parameter): name for name, parameter in chosen.items()}

    def of(self, optimizer: Any) -> list[tuple[str, Any]]:
        """Names and parameters that an optimizer steps and that are recorded.

        Raises UsageError where it steps a parameter that the model doesn't have.
        """
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        strange = [parameter for parameter in held if id(parameter) not in self._known]
        if strange:
            shapes = f"the first of shape {list(strange[0].shape)}"
            raise UsageError(
                f"{type(optimizer).__name__} steps {len(strange)} parameters that the model doesn't have "
                f"({shapes}): record the model that the optimizer was made for, as it is when training begins"
            )
        return [(self._names[id(p)], p) for p in held if id(p) in self._names]
