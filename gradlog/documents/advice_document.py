"""Advice as a JSON document, schema gradmf.advise/1."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..advice import Advice, Schedule
from .plain_values import plain_values

ADVISE_SCHEMA = "gradmf.advise/1"


def advice_document(advice: Advice) -> dict[str, Any]:
    """The document of schema gradmf.advise/1."""
    document = {
        "schema": ADVISE_SCHEMA,
        "gradmf": advice.version,
        "run": dataclasses.asdict(advice.run),
        "settings": dataclasses.asdict(advice.settings),
        "checked": advice.checked,
        "samples": advice.samples,
        "decisions": [dataclasses.asdict(decision) for decision in advice.decisions],
        "schedule": None if advice.schedule is None else _schedule(advice.schedule),
        "warnings": [dataclasses.asdict(warning) for warning in advice.warnings],
    }
    found: dict[str, Any] = plain_values(document)
    return found


def _schedule(schedule: Schedule) -> dict[str, Any]:
    refined, logged = schedule.base
    return {
        "bound_ratio": schedule.ratio,
        "base": {"refined": refined, "logged": logged},
        "step": schedule.step,
        "grad_norm": schedule.grad_norm,
        "smoothed": schedule.smoothed,
        "refined": schedule.refined,
        "logged": schedule.logged,
    }
