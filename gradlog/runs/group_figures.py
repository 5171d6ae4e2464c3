"""Figures of groups of tensors: sums over steps add, and so do the matrices that exact ranks are read off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..measures.noise.energies import lots
from ..measures.path_lengths.path_length import PathLengthTotals
from ..measures.spectra import GROUPS
from ..results.groups import Group, groups_of
from ..results.result import GroupResult, Settings
from ..results.selection import Selection
from .energy_over_rows import energy_over_rows
from .references import with_references
from .scope_figures import figures_of_scope

if TYPE_CHECKING:
    from ..measures.noise.energies import EnergySums
    from ..measures.spectra.group_spectra import GroupSpectra
    from ..measures.spectra.spectrum import Spectra, Spectrum

Doubles = NDArray[np.float64]


def spectra_of_groups(settings: Settings, names: Sequence[str], *, in_parts: bool) -> list[GroupSpectra]:
    """The measure of the groups whose spectra are neither a tensor's nor the whole model's.

    names : of the tensors. Raises UsageError as `groups_of` does
    """
    groups = groups_of(settings.groups, names)
    own = tuple(group.tensors for group in groups if _has_own_spectrum(group, len(names)))
    if not own:
        return []
    from ..measures.spectra.group_spectra import GroupSpectra  # deferred: few ask for groups

    return [GroupSpectra(own, settings.epsilons, in_parts)]


def _has_own_spectrum(group: Group, tensors: int) -> bool:
    return 1 < len(group.tensors) < tensors


def figures_of_groups(
    selection: Selection,
    settings: Settings,
    results: Mapping[str, Any],
    totals: Sequence[PathLengthTotals],
    spectra: Spectra | None,
    method: str,
    energies: EnergySums,
    shared: Sequence[tuple[Doubles, Doubles]],
    listed: frozenset[str],
) -> tuple[GroupResult, ...]:
    """totals, shared : of each tensor, its sums over rows, and how its parameters share the energy

    results : of measures, by name; spectra, method : where ranks were asked for, "" where not
    listed : predictors that results have
    """
    names = [tensor.name for tensor in selection.tensors]
    groups = groups_of(settings.groups, names)
    if not groups:
        return ()
    why = (
        "" if method in ("", "exact") else f"ranks of groups come of an exact spectrum: this one is {method}"
    )
    found, scopes = iter(results.get(GROUPS, ())), []
    for group in groups:
        spectrum: Spectrum | None = None
        if _has_own_spectrum(group, len(names)):
            spectrum = next(found, None)
        elif spectra is not None and method == "exact":
            alone = len(group.tensors) == 1
            spectrum = spectra.tensors[group.tensors[0]] if alone else spectra.total
        sums = PathLengthTotals(totals[0].predictors)
        for tensor in group.tensors:
            sums.add(totals[tensor].totals)
            sums.merge_groups(totals[tensor])
        parameters = sum(selection.tensors[tensor].parameters for tensor in group.tensors)
        kind = selection.kind.name
        place = f"group '{group.name}'"
        scope = figures_of_scope(selection.path, place, parameters, sums, spectrum, None, listed, kind)
        members = tuple(names[tensor] for tensor in group.tensors)
        scopes.append(GroupResult(**vars(scope), name=group.name, tensors=members, why=why))
    rows, bins = _energies(energies, groups, int(selection.step.size))
    together = [_together([shared[tensor] for tensor in group.tensors]) for group in groups]
    over_rows = energy_over_rows(bins, energies.edges)
    scopes = [
        GroupResult(**{**vars(scope), **fields}) for scope, fields in zip(scopes, over_rows, strict=True)
    ]
    return tuple(with_references(scopes, rows, together))


def _energies(energies: EnergySums, groups: Sequence[Group], rows: int) -> tuple[Doubles, Doubles]:
    """(groups, N), and (groups, bins): ||g_t||^2."""
    of_rows = np.zeros((len(groups), rows))
    for lot in lots(energies.rows.shape[0], rows):
        held = energies.of_rows(lot)
        for number, group in enumerate(groups):
            members = [tensor - lot.start for tensor in group.tensors if lot.start <= tensor < lot.stop]
            of_rows[number] += held[members].sum(axis=0)
    bins = np.stack([energies.rows[list(group.tensors)].sum(axis=0) for group in groups])
    return of_rows, bins


def _together(shared: Sequence[tuple[Doubles, Doubles]]) -> tuple[Doubles, Doubles]:
    return np.concatenate([each[0] for each in shared]), np.concatenate([each[1] for each in shared])
