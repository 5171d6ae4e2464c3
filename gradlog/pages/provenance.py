"""What a page was made of: settings, versions, and the command that makes it again."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import shlex
from collections.abc import Sequence
from typing import Any

from ..results.result import Analysis, Settings
from ..version import __version__

LIBRARIES = ("numpy", "matplotlib", "jinja2")
"""That draw a page."""
OPTIONS = {
    "predictors": "--predictor",
    "epsilons": "--epsilon",
    "rank": "--rank",
    "tensors": "--tensor",
    "exclude": "--exclude",
    "nonfinite": "--nonfinite",
    "repeated": "--repeated",
    "truncate": "--truncate",
    "gradients": "--gradients",
    "strict": "--strict",
    "sketch_dim": "--sketch-dim",
    "seed": "--seed",
    "project": "--project",
}


def versions() -> list[tuple[str, str]]:
    """Of what makes the page."""
    found = [("gradmf", __version__), ("Python", platform.python_version())]
    return found + [(name, importlib.metadata.version(name)) for name in LIBRARIES]


def settings_words(settings: Settings) -> list[tuple[str, str]]:
    """Every setting by its name in JSON, in words."""
    return [(field.name, _words(getattr(settings, field.name))) for field in dataclasses.fields(settings)]


def _words(value: Any) -> str:
    if value in (None, (), (None, None)):
        return "not given"
    if isinstance(value, tuple):
        return ", ".join("end" if each is None else str(each) for each in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def command(analyses: Sequence[Analysis]) -> str:
    """A command line that reports the same, from the runs' stores: by the settings of the first one."""
    settings, default = analyses[0].settings, Settings()
    words = ["gradmf", "report", *(analysis.run.path for analysis in analyses)]
    for name, option in OPTIONS.items():
        value = getattr(settings, name)
        if value == getattr(default, name):
            continue
        if value is True:
            words.append(option)
        else:
            for each in value if isinstance(value, tuple) else (value,):
                words += [option, str(each)]
    first, last = settings.rows
    if (first, last) != (None, None):
        words += ["--rows", f"{'' if first is None else first}:{'' if last is None else last}"]
    if settings.subspace is not None:
        words += ["--subspace", str(settings.subspace)]
        words += ["--window", str(settings.window)] if settings.window is not None else []
    if isinstance(settings.windows, int):
        words += ["--windows", str(settings.windows)]
    elif settings.windows is not None and settings.subspace is None:
        words += ["--window", ":".join(map(str, settings.windows))]
    return shlex.join([*words, "-o", "report.html"])
