"""Options that say how object stores are reached."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from .declaring import declare


def access(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --profile and --anonymous, by which the URLs of the command are reached."""

    @functools.wraps(command)
    def reached(profile: str | None, anonymous: bool, **values: Any) -> Any:
        if profile is not None and anonymous:
            raise click.UsageError("--anonymous signs no request, and --profile says how: choose one.")
        from gradmf.gradlog.logs.places.access import remote_access

        with remote_access(profile=profile, anonymous=anonymous):
            return command(**values)

    return declare(
        reached,
        click.option(
            "--profile",
            metavar="NAME",
            help="For s3:// addresses: the profile in AWS's files to take credentials from.",
        ),
        click.option("--anonymous", is_flag=True, help="For public buckets: requests are not signed."),
    )
