"""Hooks before an optimizer's step, where gradients are accumulated, reduced, unscaled and clipped.

Post-accumulate hooks see each micro-batch, and a hook behind the step what the step made of the gradients:
Nesterov's momentum overwrites them. Where step() is given a closure, gradients are there only once it has
been evaluated; the first evaluation is at the parameters that the step leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import UsageError

Take = Callable[[int, Any], None]
"""Is told which optimizer, by number and itself, is about to step."""


def inner_optimizers(optimizers: Any) -> list[Any]:
    """The optimizers of PyTorch, out of what accelerate or Lightning put around them.

    optimizers : one, or several

    Raises UsageError for what is none.
    """
    import torch

    given = list(optimizers) if isinstance(optimizers, (list, tuple)) else [optimizers]
    if not given:
        raise UsageError("an optimizer is needed: rows are taken when it steps")
    found = []
    for one in given:
        while isinstance(inner := getattr(one, "optimizer", None), torch.optim.Optimizer):
            one = inner
        if not isinstance(one, torch.optim.Optimizer) or not hasattr(one, "_optimizer_step_pre_hooks"):
            raise UsageError(
                f"{type(one).__name__} is no optimizer of PyTorch with hooks before its step: give the "
                "one that it wraps, or append rows to gradlog.create_log in the loop"
            )
        found.append(one)
    if len({id(one) for one in found}) < len(found):
        raise UsageError("an optimizer is given twice")
    return found


def hook_steps(optimizers: Sequence[Any], take: Take) -> list[Any]:
    """Have `take` called whenever one is about to step; returns handles, to `remove` the hooks by."""
    return [
        optimizer.register_step_pre_hook(_hook(number, take)) for number, optimizer in enumerate(optimizers)
    ]


def _hook(number: int, take: Take) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]:
    def before_step(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        own = 1 if args and args[0] is optimizer else 0  # PyTorch hands step()'s self on
        closure = args[own] if len(args) > own else kwargs.get("closure")
        if closure is None:
            take(number, optimizer)
            return None
        evaluated = _once(closure, lambda: take(number, optimizer))
        if len(args) > own:
            return (*args[:own], evaluated, *args[own + 1 :]), kwargs
        return args, {**kwargs, "closure": evaluated}

    # Whoever compiles a step compiles it without what is done here.
    before_step._torchdynamo_disable = True  # type: ignore[attr-defined]
    return before_step


def _once(closure: Callable[[], Any], then: Callable[[], None]) -> Callable[[], Any]:
    """The closure, with `then` called behind its first evaluation."""
    evaluated = False

    def evaluate() -> Any:
        nonlocal evaluated
        value = closure()
        if not evaluated:
            evaluated = True
            then()
        return value

    return evaluate


def is_skipped(optimizer: Any) -> bool:
    """Whether an optimizer that unscales gradients itself finds them infinite, and leaves the step out."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def scale_of(optimizer: Any) -> Any:
    """What an optimizer that unscales gradients itself will divide them by; None for all others."""
    return getattr(optimizer, "grad_scale", None)
