"""What declarations of options are made of: several as one object, and what a shell offers for them."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gradmf.gradlog import Settings

Declaration = Callable[[Callable[..., Any]], Callable[..., Any]]


def bundle(name: str, gather: Callable[..., Any], *declared: Declaration) -> Declaration:
    """A decorator that adds the `declared` options and passes their values on as `name=gather(...)`.

    The parameters of `gather` bear the names of the options.
    """
    mine = tuple(inspect.signature(gather).parameters)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def gathered(**values: Any) -> Any:
            chosen = {key: values.pop(key) for key in mine}
            return command(**values, **{name: gather(**chosen)})

        return declare(gathered, *declared)

    return decorate


def change(by: Callable[..., Settings], *declared: Declaration) -> Declaration:
    """A decorator that adds the `declared` options and passes `settings` on as `by(settings, ...)`.

    The other parameters of `by` bear the names of the options. It stands below the one that makes settings.
    """
    mine = tuple(inspect.signature(by).parameters)[1:]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def changed(settings: Settings, **values: Any) -> Any:
            chosen = {key: values.pop(key) for key in mine}
            return command(settings=by(settings, **chosen), **values)

        return declare(changed, *declared)

    return decorate


def declare(command: Callable[..., Any], *declared: Declaration) -> Callable[..., Any]:
    """The command with options, which its help shows in this order."""
    for option in reversed(declared):
        command = option(command)
    return command


def offered(*words: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What a shell completes, where any of `words` can stand."""
    return lambda _context, _parameter, incomplete: [word for word in words if word.startswith(incomplete)]


def paths(kind: str) -> Callable[[click.Context, click.Parameter, str], Any]:
    """What a shell completes, where a path can stand. kind : "runs", "results" or "file" """

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> Any:
        from . import completing

        return getattr(completing, kind)(context, parameter, incomplete)

    return complete


def completed_by(module: str) -> Callable[[click.Context, click.Parameter, str], Any]:
    """What a shell completes, by `complete` of a module beside this one, imported when it is asked for."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> Any:
        return importlib.import_module(f"{__package__}.{module}").complete(context, parameter, incomplete)

    return complete
