"""The panels that there are, those that analyses have something for, and what is analyzed for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ..errors import UsageError
from ..results.result import Analysis, Settings
from .growth_panel import GROWTH
from .heatmap_panel import HEATMAP
from .kappa_panel import KAPPA
from .overlap_panel import OVERLAP
from .panel import Panel
from .rank_panel import RANK
from .series_panels import LOSS, NORM
from .spectrum_panel import SPECTRUM
from .training_windows import LEAST_ROWS, usual_windows
from .window_rank_panel import WINDOW_RANK

PANELS: Mapping[str, Panel] = {
    panel.name: panel for panel in (KAPPA, LOSS, NORM, HEATMAP, SPECTRUM, RANK, GROWTH, WINDOW_RANK, OVERLAP)
}
USUAL = ("kappa", "loss", "norm", "spectrum", "rank", "heatmap", "growth", "overlap")
"""Shown where nobody says which, if there is something to show."""
LEAST_ROWS_OF_RANKS = 20
"""Of a window, where its r* is shown: of few rows it is about their number."""
MOST_DIRECTIONS = 10
"""Of subspaces that are followed where nobody says how many."""
FEWEST_WINDOWS = 4
"""Of these, where rows are that many."""


def chosen_panels(names: Sequence[str], analyses: Sequence[Analysis]) -> list[Panel]:
    """Those of these names; without names the usual ones that any of the analyses has something for.

    Raises UsageError for a name that there is not.
    """
    check_panels(names)
    if names:
        return [PANELS[name] for name in dict.fromkeys(names)]
    found = [PANELS[name] for name in USUAL if any(not PANELS[name].lacks(a) for a in analyses)]
    several = any(len(analysis.tensors) > 1 for analysis in analyses)
    return [panel for panel in found if several or panel not in (RANK, HEATMAP)] or [KAPPA]


def check_panels(names: Sequence[str]) -> None:
    """Raise UsageError for a name that there is not."""
    for name in names:
        if name not in PANELS:
            raise UsageError(f"panel {name!r}: known are {', '.join(PANELS)}")


def settings_for_panels(
    settings: Settings, names: Sequence[str], rows: int, *, subspaces: bool = True
) -> Settings:
    """The settings, with windows of training, and with a subspace where a panel shows one.

    What the settings say themselves stays. rows : N of the log; subspaces : whether they can be followed
    """
    if settings.windows is None:
        least = LEAST_ROWS_OF_RANKS if WINDOW_RANK.name in names else LEAST_ROWS
        settings = dataclasses.replace(settings, windows=usual_windows(rows, least))
    if subspaces and OVERLAP.name in names and settings.subspace is None:
        # Windows have 4 rows a direction.
        few = max(1, min(MOST_DIRECTIONS, rows // (4 * FEWEST_WINDOWS)))
        settings = dataclasses.replace(settings, subspace=few)
    return settings
