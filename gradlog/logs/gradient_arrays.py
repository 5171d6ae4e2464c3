"""Which arrays of a store are gradients: from what it declares, else from axes, shapes and names.

A store of format 1, or a group `grads`, says so itself. Elsewhere an array of numbers with a step axis is
taken unless something says that it is none: one value a row, no step axis, the shape of a parameter beside
its gradients, a name of optimizer state. What is left out is told with the reason, and patterns of the user's
own decide before all that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from ..errors import DataError, UsageError
from ..naming import matching, shown
from ..quick_dataclass import dataclass
from ..results.row_kind import OF_GRADIENTS, RowKind
from .entry_types import EntryType, entry_type, stored_type
from .hierarchy import Hierarchy, Node
from .log import GRADS, STEP

SHOWN = 4
"""Names that a message shows."""
STEP_AXES = (
    "step", "steps", "global_step", "train_step", "training_step", "optimizer_step", "iteration",
    "iterations", "iter", "iters", "update", "updates", "time", "t", "epoch", "epochs", "row", "rows",
)  # fmt: skip
"""Names of the axis that rows lie along, the first of them that an array has."""

_GRADIENT_WORDS = frozenset({"grad", "grads", "gradient", "gradients"})
_NORM_WORDS = frozenset({"norm", "norms", "scale", "clip", "var", "variance", "std", "noise"})
_STATE_WORDS = frozenset(
    {
        "exp_avg", "exp_avg_sq", "exp_avgs", "max_exp_avg_sq", "momentum_buffer", "momenta", "moments",
        "moment", "first_moment", "second_moment", "optimizer", "optimizer_state", "opt_state", "optim",
    }
)  # fmt: skip
_VALUE_WORDS = frozenset({"weights", "params", "parameters", "values", "activations", "theta", "model_state"})
_RUN_NAME = re.compile(r"(run|seed|trial|exp|experiment|rank|worker|fold|job)[-_. ]?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """An array of gradients. name : of the tensor; axis : number of its step axis"""

    node: Node
    name: str
    entries: EntryType
    axis: int


@dataclass
class Choice:
    """What the arrays of a store are taken for.

    step : the array of training steps, where there is one; series : arrays of one value a row, by name
    left_out : reasons, by path; faults : what keeps an array that may be a tensor from being read, by name
    told : whether a store declares its gradients, so that what is left out needs no warning
    step_axis : what the rows are said to be along
    """

    found: list[Found] = field(default_factory=list)
    step: Node | None = None
    series: dict[str, Node] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    told: bool = False
    step_axis: str = ""
    doubts: list[tuple[str, str]] = field(default_factory=list)


def choose_arrays(
    name: str,
    hierarchy: Hierarchy,
    patterns: Sequence[str],
    declared: RowKind | None,
    *,
    may_be_empty: bool = False,
) -> Choice:
    """Tell gradients from what else a group holds.

    Parameters
    ----------
    name : of the store, for messages
    patterns : globs on paths of arrays that are gradients; none to find out
    declared : what the rows of a store of format 1 are; None for others
    may_be_empty : it may hold no gradients, as a rank does that no tensor has a part for

    Raises DataError where there are no gradients, or those of several runs; UsageError for patterns that
    match nothing.
    """
    choice = Choice()
    arrays = dict(hierarchy.arrays)
    patterns = () if declared else patterns
    inside = {path: node for path, node in arrays.items() if path.startswith(f"{GRADS}/")}
    choice.told = declared is not None or bool(inside) or bool(patterns)
    within = "" if patterns or choice.told else _refuse_several(name, hierarchy)
    axis_name = _step_axis_name(arrays)
    choice.step = None if matching(patterns, [STEP]) else _step_array(arrays, axis_name, within)
    if choice.step is not None:
        del arrays[choice.step.path]
    faults = dict(hierarchy.faults)
    if declared:
        if STEP in {*faults, *hierarchy.orphans}:
            raise DataError(f"{name}: {faults.get(STEP, f'`{STEP}` has no metadata')}")
        faults |= dict.fromkeys(hierarchy.orphans, "has no metadata that Zarr can read: the log lost a part")
    if patterns:
        chosen = matching(patterns, [*arrays, *faults])
        if not chosen:
            known = ", ".join(list(arrays)[:6]) + (", ..." if len(arrays) > 6 else "")
            raise UsageError(f"{name}: no array matches --gradients {', '.join(patterns)}; there are {known}")
    elif choice.told:
        chosen = {path for path in (*inside, *faults) if path.startswith(f"{GRADS}/")}
        chosen |= set(hierarchy.orphans) if declared else set()
    else:
        chosen = {*arrays, *faults}
    for path, node in arrays.items():
        if path not in chosen:
            choice.left_out[path] = _other_reason(node)
        elif declared:
            _take_declared(choice, node, axis_name, declared)
        elif choice.told:
            _take(choice, node, axis_name)
        else:
            _take_or_leave(choice, node, axis_name)
    for path, why in faults.items():
        if path in chosen:
            choice.faults[path.removeprefix(f"{GRADS}/")] = why
        else:
            choice.left_out[path] = why
    if not choice.told:
        _leave_by_name(choice)
        _leave_parameters(choice)
    _name_series(choice, arrays, axis_name)
    _tell_axis(choice, axis_name)
    if not choice.found and not choice.faults and not may_be_empty:
        raise DataError(_nothing(name, choice, hierarchy, declared))
    return choice


def bare_array(name: str, node: Node) -> Choice:
    """The choice for a store that is a single array. Raises DataError where it cannot be gradients."""
    choice = Choice(told=True)
    axis_name = _step_axis_name({"": node})
    if node.shape:
        _take(choice, node, axis_name)
    if not choice.found:
        why = choice.left_out.get("", "a single value") if not choice.faults else choice.faults[GRADS]
        raise DataError(
            f"{name}: one array of {stored_type(node)}, shape {node.shape}: not gradients (N, D): {why}"
        )
    _tell_axis(choice, axis_name)
    return choice


def _take(choice: Choice, node: Node, axis_name: str | None) -> None:
    """Take an array that was said to be gradients, or leave it out where it cannot be."""
    name = node.path.removeprefix(f"{GRADS}/") or GRADS
    try:
        entries = entry_type(node)
    except ValueError as error:
        choice.faults[name] = str(error)
        return
    axis = _axis_of(node, axis_name)
    if not node.shape:
        choice.left_out[node.path] = "a single value"
    elif entries is None:
        choice.left_out[node.path] = _no_numbers(node)
    elif axis is None:
        choice.left_out[node.path] = f"no axis {axis_name!r} (axes {_shown_axes(node)})"
    else:
        choice.found.append(Found(node, name, entries, axis))


def _take_declared(choice: Choice, node: Node, axis_name: str | None, kind: RowKind) -> None:
    """The same in a log of format 1, where there is nothing else: what cannot be gradients is a fault."""
    _take(choice, node, axis_name)
    why = choice.left_out.pop(node.path, None)
    if why is not None:
        choice.faults[node.path.removeprefix(f"{GRADS}/")] = (
            f"is an array of {stored_type(node)}, shape {node.shape}; {kind.name} are float16, float32, "
            "float64 or marked bfloat16, with a step axis first"
        )


def _take_or_leave(choice: Choice, node: Node, axis_name: str | None) -> None:
    """The same for an array that nothing was said of."""
    marked = isinstance(node.attributes.get("gradlog"), dict)
    if len(node.shape) == 1 and not marked:
        choice.left_out[node.path] = _other_reason(node)
    else:
        _take(choice, node, axis_name)


def _other_reason(node: Node) -> str:
    if len(node.shape) == 1:
        return "one value a row"
    return "not in `grads`" if node.shape else "a single value"


def _no_numbers(node: Node) -> str:
    kind = stored_type(node)
    if kind in ("uint16", "r16", "void16"):
        return (
            f'{kind}; if it is bfloat16, its attribute {{"gradlog": {{"dtype": "bfloat16"}}}} has to say so'
        )
    return kind


def _axis_of(node: Node, axis_name: str | None) -> int | None:
    """Number of an array's step axis; None where its axes have names and none is that."""
    axes = node.axes
    if axes is None or axis_name is None:
        return 0
    if axis_name in axes:
        return axes.index(axis_name)
    return None if all(axes) else 0


def _step_axis_name(arrays: Mapping[str, Node]) -> str | None:
    """Name of the axis that rows lie along: that of `step`, else a known one that arrays have."""
    step = arrays.get(STEP)
    if step is not None and len(step.shape) == 1 and step.axes is not None:
        return step.axes[0]
    names = {axis for node in arrays.values() if len(node.shape) > 1 for axis in node.axes or () if axis}
    for known in STEP_AXES:
        for axis in sorted(names):
            if axis.lower() == known:
                return axis
    return None


def _step_array(arrays: Mapping[str, Node], axis_name: str | None, within: str) -> Node | None:
    """The array of training steps: `step`, or the coordinate of the axis that rows lie along.

    within : the only group that tensors lie in, where it has steps of its own, else ""
    """
    for path in (STEP, axis_name, f"{within}/{STEP}"):
        node = arrays.get(path) if path else None
        if node is not None and len(node.shape) == 1 and _may_be_steps(node):
            return node
    return None


def _may_be_steps(node: Node) -> bool:
    kind = stored_type(node)
    return node.path == STEP or kind.startswith(("int", "uint", "float"))


def _name_series(choice: Choice, arrays: Mapping[str, Node], axis_name: str | None) -> None:
    taken = {found.node.path for found in choice.found}
    lengths = {found.node.shape[found.axis] for found in choice.found}
    if choice.step is not None:
        lengths.add(choice.step.shape[0])
    for path, node in arrays.items():
        if len(node.shape) != 1 or "/" in path or path in taken:
            continue
        axes = node.axes
        if axes is not None and axis_name is not None and axes[0] != axis_name:
            choice.left_out[path] = f"no axis {axis_name!r} (axes {_shown_axes(node)})"
        elif lengths and node.shape[0] < min(lengths):
            choice.left_out[path] = f"{node.shape[0]} values"
        else:
            choice.series[path] = node


def _leave_by_name(choice: Choice) -> None:
    """Leave out what names say is none: optimizer state, and what stands beside arrays named gradients."""
    kept = []
    for found in choice.found:
        state = next((word for word in _words(found.name) if word in _STATE_WORDS), None)
        if state is None:
            kept.append(found)
        else:
            choice.left_out[found.node.path] = f"named {state}: optimizer state"
    named = [found for found in kept if _is_named_gradient(found.name)]
    if named and len(named) < len(kept):
        for found in kept:
            if found not in named:
                choice.left_out[found.node.path] = "not named gradients, as others are"
        kept = named
    tops = {found.name.split("/")[0] for found in kept if "/" in found.name}
    values = {top for top in tops if top.lower() in _VALUE_WORDS}
    if values and tops - values:
        shapes = {
            (f.name.partition("/")[2], f.node.shape) for f in kept if f.name.split("/")[0] not in values
        }
        for found in list(kept):
            top, _, rest = found.name.partition("/")
            if top in values and (rest, found.node.shape) in shapes:
                choice.left_out[found.node.path] = f"in {top}, beside arrays of the same names"
                kept.remove(found)
    choice.found = kept
    _doubt_alike(choice)


def _is_named_gradient(name: str) -> bool:
    for component in _words(name):
        words = set(re.split(r"[_ -]+", component))
        if component in _GRADIENT_WORDS or (words & _GRADIENT_WORDS and not words & _NORM_WORDS):
            return True
    return False


def _words(name: str) -> Iterable[str]:
    yield from re.split(r"[/.]+", name.lower())


def _leave_parameters(choice: Choice) -> None:
    """Leave out arrays of the shape of a parameter that others hold a row for each step of."""
    shapes: dict[tuple[int, ...], set[int]] = {}
    for found in choice.found:
        shape = found.node.shape
        if len(shape) > 2 and found.node.axes is None:
            shapes.setdefault(shape[1:], set()).add(shape[0])
    rows = {found.node.shape[found.axis] for found in choice.found}
    if len(rows) < 2:
        return
    for found in list(choice.found):
        shape = found.node.shape
        longer = shapes.get(shape, set()) - {shape[0]}
        if found.node.axes is None and longer and shape[0] not in {n for s in shapes.values() for n in s}:
            choice.left_out[found.node.path] = "of the shape of a parameter, not of its gradients"
            choice.found.remove(found)


def _doubt_alike(choice: Choice) -> None:
    """Note groups that hold tensors of the same names and shapes: blocks of a model, or runs."""
    groups: dict[str, set[tuple[str, tuple[int, ...]]]] = {}
    for found in choice.found:
        top, _, rest = found.name.partition("/")
        if not rest:
            return
        groups.setdefault(top, set()).add((rest, found.node.shape))
    contents = list(groups.values())
    if len(groups) > 1 and all(content == contents[0] for content in contents):
        choice.doubts.append(
            (
                "groups-alike",
                f"{shown(list(groups), SHOWN)} hold tensors of the same names and shapes, and were taken for "
                "parts of one model; if they are runs, give the path of each",
            )
        )


def _refuse_several(name: str, hierarchy: Hierarchy) -> str:
    """Path of the only log in a group, "" where the group itself is it.

    Logs are groups with `grads` or steps of their own, or that are named as runs are, or that hold the same
    tensors over other numbers of rows.

    Raises DataError where there are several.
    """
    arrays = hierarchy.arrays
    logs = {path.removesuffix(f"/{GRADS}") for path in _folders(hierarchy) if path.endswith(f"/{GRADS}")}
    logs |= {path for path, node in hierarchy.groups.items() if path and "gradlog" in node.attributes}
    logs |= {
        path.rpartition("/")[0]
        for path, node in arrays.items()
        if path.rpartition("/")[2] == STEP and len(node.shape) == 1 and "/" in path
    }
    own_tensors = any("/" not in path and len(node.shape) > 1 for path, node in arrays.items())
    if not own_tensors:
        logs |= _runs(arrays)
    logs = {
        path for path in logs if not any(other != path and path.startswith(f"{other}/") for other in logs)
    }
    holding = {path for path in logs if any(other.startswith(f"{path}/") for other in arrays)}
    if len(holding) > 1:
        raise DataError(
            f"{name}: holds {len(holding)} logs: {shown(sorted(holding), SHOWN)}; give the path of one, such "
            f"as {name}/{min(holding)}, or say with --gradients GLOB which arrays are gradients"
        )
    return next(iter(holding), "")


def _runs(arrays: Mapping[str, Node]) -> set[str]:
    """Groups right below the root that are several runs, by their names or their numbers of rows."""
    tops: dict[str, dict[str, Node]] = {}
    for path, node in arrays.items():
        top, _, rest = path.partition("/")
        if rest and len(node.shape) > 1:
            tops.setdefault(top, {})[rest] = node
    if len(tops) < 2:
        return set()
    if all(_RUN_NAME.fullmatch(top) for top in tops):
        return set(tops)
    alike = (
        len({tuple((rest, node.shape[1:]) for rest, node in nodes.items()) for nodes in tops.values()}) == 1
    )
    rows = {tuple(node.shape[0] for node in nodes.values()) for nodes in tops.values()}
    return set(tops) if alike and len(rows) > 1 else set()


def _folders(hierarchy: Hierarchy) -> set[str]:
    folders = {*hierarchy.groups, *hierarchy.implicit}
    return folders - {""}


def _tell_axis(choice: Choice, axis_name: str | None) -> None:
    if not choice.found:
        return
    moved = [found for found in choice.found if found.axis]
    unnamed = [found for found in choice.found if found.node.axes is None]
    first = choice.found[0].node.axes
    if axis_name is not None and len(unnamed) < len(choice.found):
        choice.step_axis = f"axis {axis_name!r}"
        if moved:
            choice.step_axis += f", not the first of {shown([found.name for found in moved], SHOWN)}"
        if unnamed:
            choice.step_axis += "; the first where axes have no names"
    elif first is None or len(unnamed) == len(choice.found):
        choice.step_axis = "the first axis: axes have no names"
    else:
        choice.step_axis = f"the first axis, {first[0]!r}"
        choice.doubts.append(
            (
                "step-axis-assumed",
                f"no axis is named step: rows were taken along the first one (axes of "
                f"'{choice.found[0].name}': {_shown_axes(choice.found[0].node)})",
            )
        )


def _nothing(name: str, choice: Choice, hierarchy: Hierarchy, declared: RowKind | None) -> str:
    if declared:
        inside = {path: why for path, why in choice.left_out.items() if path.startswith(f"{GRADS}/")}
        if not inside:
            return f"{name}: no {declared.noun} arrays: the group `{GRADS}` is missing or empty"
    found = [
        f"{path} {stored_type(node)}{list(node.shape)}" for path, node in list(hierarchy.arrays.items())[:4]
    ]
    more = ", ..." if len(hierarchy.arrays) > 4 else ""
    noun = OF_GRADIENTS.noun if declared is None else declared.noun
    told = f"{name}: no {noun} arrays (float, step axis first); found {', '.join(found) or 'an empty group'}"
    reasons = {why for why in choice.left_out.values() if "bfloat16" in why}
    hint = next(iter(reasons), None)
    if hint is not None:
        return f"{told}{more}: {hint}"
    can = any(len(node.shape) > 0 and _is_numeric(node) for node in hierarchy.arrays.values())
    return f"{told}{more}" + ("; --gradients GLOB names those that are" if can and not declared else "")


def _is_numeric(node: Node) -> bool:
    try:
        return entry_type(node) is not None
    except ValueError:
        return False


def _shown_axes(node: Node) -> str:
    return ", ".join(axis or "-" for axis in node.axes or ())
