"""Which measures a pass takes: what settings ask for, and what is wanted beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..engine.measure import Measure
from ..engine.plan import Way
from ..errors import UsageError
from ..logs.log import Tensor
from ..measures.incremental.incremental_spectra import IncrementalRank
from ..measures.noise.energies import Energies
from ..measures.path_lengths.path_lengths import PathLengths
from ..measures.registry import registered_measure
from ..measures.search import NAME as SEARCH
from ..measures.sketch.sketch_choice import SketchChoice
from ..measures.sketch.sketched_rank import SketchedRank
from ..measures.spectra.exact_spectrum import ExactOverRows, exact_spectrum
from ..predictors import HistoryBank
from ..quick_dataclass import dataclass
from ..results.result import Settings
from ..results.selection import Scope
from .group_figures import spectra_of_groups

if TYPE_CHECKING:
    from ..measures.sketch.stored_sketch import StoredSketch

# Measures that few passes take are imported where they are made: commands start faster.

RANK_METHODS = ("auto", "exact", "incremental", "sketch", "none")
"""All but the first: the most certain first."""
EXACT_PATIENCE = {"incremental": 1.5, "sketch": 4.0}
"""An exact spectrum may take so many times as long: more where another would be certain of nothing."""


@dataclass(frozen=True)
class Wanted:
    """What is gathered beside what the settings say.

    tensor_steps : per-step sums of each tensor; search : the best predictors of each family
    beside : further measures; following : those that follow a spectrum
    sketch : the rows of a sketch, and nothing else
    """

    tensor_steps: bool = False
    search: bool = False
    beside: tuple[Measure, ...] = ()
    following: tuple[Measure, ...] = ()
    sketch: bool = False


@dataclass(frozen=True)
class Asked:
    """Everything that a pass over so many rows of these tensors may gather.

    tensors : of a log, or of what was selected of it
    choice : how they are projected, or were; in_parts : the pass takes a part only
    """

    settings: Settings
    wanted: Wanted
    bank: HistoryBank
    tensors: Sequence[Tensor | Scope]
    rows: int
    choice: SketchChoice
    in_parts: bool = False

    def measures(self) -> tuple[Measure, ...]:
        """What is gathered whichever way ranks are found."""
        if self.wanted.sketch:
            return ()
        return (
            *self._sums(),
            *subspaces(self.settings, in_parts=self.in_parts),
            *self.wanted.beside,
        )

    def ways(self) -> list[Way]:
        """Ways to ranks, and to the best predictors with them, the most certain first."""
        if self.wanted.sketch:
            return [Way("sketch", (self._stored_sketch(),))]
        epsilons, rank = self.settings.epsilons, self.settings.rank
        if self.choice.stored and rank == "auto":
            rank = "sketch"
        if self.in_parts:
            if rank == "incremental":
                raise UsageError(
                    f"--rank {rank} looks at all parameters together and has no parts: give --rank exact or "
                    "sketch, or --rank none for path lengths alone"
                )
            rank = "exact" if rank == "auto" else rank
        following = (*windows_of_spectra(self.settings), *self.wanted.following)
        names = [tensor.name for tensor in self.tensors]
        groups = spectra_of_groups(self.settings, names, in_parts=self.in_parts)
        parameters = sum(tensor.parameters for tensor in self.tensors)
        exact = exact_spectrum(
            epsilons, parameters, self.rows, searched=self.wanted.search, in_parts=self.in_parts
        )
        sketched = SketchedRank(epsilons=epsilons, choice=self.choice, in_parts=self.in_parts)
        known: dict[str, tuple[Measure | None, str]] = {
            "exact": (exact, ""),
            "incremental": (IncrementalRank(epsilons), "incrementally"),
            "sketch": (sketched, "as a sketch"),
            "none": (None, ""),
        }
        methods = RANK_METHODS[1:-1] if rank == "auto" else (rank,)
        return [
            Way(
                method,
                (
                    *([] if measure is None else [measure]),
                    *searched,
                    *following,
                    *(groups if method == "exact" else ()),
                ),
                adverb,
                EXACT_PATIENCE if method == "exact" else {},
            )
            for method in methods
            for measure, adverb in (known[method],)
            for searched in self._searches(measure)
        ]

    def _sums(self) -> list[Measure]:
        """Sums over parameters."""
        settings, specs, stored = self.settings, self.bank.specs, frozenset(self.choice.stored)
        found: list[Measure] = [PathLengths(specs, stored), Energies(settings.rank != "none", stored)]
        if self.wanted.tensor_steps:
            from ..measures.path_lengths.tensor_steps import StepsOfTensors

            found.append(StepsOfTensors(specs))
        if settings.windows is not None:
            from ..measures.windows.window_sums import WindowSums

            found.append(WindowSums(specs, settings.windows))
        return [*found, *map(registered_measure, settings.measures)]

    def _stored_sketch(self) -> StoredSketch:
        from ..measures.sketch.stored_sketch import StoredSketch

        doubles = [
            number
            for number, tensor in enumerate(self.tensors)
            if isinstance(tensor, Tensor) and tensor.compute_dtype.itemsize == 8
        ]
        return StoredSketch(choice=self.choice, in_parts=self.in_parts, doubles=frozenset(doubles))

    def _searches(self, spectrum: Measure | None) -> list[tuple[Measure, ...]]:
        """Where inner products of all pairs of rows are not formed, predictors are searched in a band."""
        if not self.wanted.search:
            return [()]
        from ..measures.search.band_sums import BandSearch
        from ..measures.search.gram_search import GramSearch
        from ..measures.search.history_band import NARROW_WIDTH, WIDTH, BandLayout

        if isinstance(spectrum, ExactOverRows):
            return [(GramSearch(),)]
        widths = (self.settings.band or WIDTH, NARROW_WIDTH)
        return [(BandSearch(BandLayout.of(self.rows, width, self.bank.decays)),) for width in widths]


def band_width(measures: Sequence[Measure]) -> int | None:
    """Lags of the band that predictors are searched in; None where they are not."""
    if not any(measure.name == SEARCH for measure in measures):
        return None
    from ..measures.search.band_sums import BandSearch

    return next((measure.layout.width for measure in measures if isinstance(measure, BandSearch)), None)


def sketch_dimension(measures: Sequence[Measure]) -> int | None:
    """M of the projection, where ranks are a sketch's; None where they are not."""
    return next((m.choice.known_dim for m in measures if isinstance(m, SketchedRank)), None)


def windows_of_spectra(settings: Settings) -> list[Measure]:
    """Ranks of windows of training, where windows were asked for: they follow a spectrum."""
    if settings.windows is None:
        return []
    from ..measures.windows.window_spectra import WindowSpectra

    return [WindowSpectra(settings.windows)]


def subspaces(settings: Settings, *, in_parts: bool) -> list[Measure]:
    """Of windows of training, where they were asked for."""
    if settings.subspace is None:
        return []
    from ..measures.subspaces.subspace import Subspaces

    return [Subspaces(settings.subspace, settings.window_rows, in_parts)]
