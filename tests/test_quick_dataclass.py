"""Classes made by `quick_dataclass` behave as the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import pickle
from typing import Any

import pytest

from gradmf.gradlog import quick_dataclass
from gradmf.gradlog.predictors import Average, Lag
from gradmf.gradlog.results.result import RankResult


def made(decorator: Any, **options: Any) -> Any:
    @decorator(**options)
    class Point:
        """A class."""

        x: float
        names: tuple[str, ...] = ()
        note: str = dataclasses.field(default="", compare=False)
        hidden: int = dataclasses.field(default=0, repr=False)

    @decorator(**options)
    class Single:
        """Of one field."""

        x: float

    return Point, Single


VALUES = [(1.0,), (1.0, ("a",)), (1.0, ("a",), "told"), (1.0, ("a",), "", 3), (math.nan,), (math.inf, ("b",))]


def same_nan(one: tuple[Any, ...], other: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether they are equal up to Python 3.12 only, whose tuples take an object for equal to itself."""
    compared = options.get("eq", True) and not options.get("order")
    return compared and one[0] is other[0] is math.nan and one[1:] == other[1:]


@pytest.mark.parametrize(
    "options",
    [{}, {"frozen": True}, {"frozen": True, "order": True}, {"frozen": True, "slots": True}, {"eq": False}],
)
def test_as_of_the_standard_library(options: dict[str, Any]) -> None:
    quick, usual = made(quick_dataclass.dataclass, **options), made(dataclasses.dataclass, **options)
    for values in VALUES:
        for other in VALUES:
            ours, theirs = [(kind(*values), kind(*other)) for kind in (quick[0], usual[0])]
            assert (ours[0] == ours[1]) == (theirs[0] == theirs[1] or same_nan(values, other, options))
            assert (ours[0] == theirs[0]) is False
            if options.get("order"):
                assert (ours[0] < ours[1]) == (theirs[0] < theirs[1])
            if options.get("frozen") and ours[0] == ours[1]:
                assert hash(ours[0]) == hash(ours[1])
        assert repr(quick[0](*values)) == repr(usual[0](*values))
    for one, other in ((1.0, 1.0), (1.0, 2.0), (math.nan, math.nan)):
        ours, theirs = [(kind(one), kind(other)) for kind in (quick[1], usual[1])]
        assert (ours[0] == ours[1]) == (theirs[0] == theirs[1] or same_nan((one,), (other,), options))
    for kind in (quick[0], usual[0]):
        assert (kind.__hash__ is None) == (not options.get("frozen") and options.get("eq", True))
        changed = dataclasses.replace(kind(1.0), x=2.0)
        assert (changed.x, changed.names) == (2.0, ())
        if options.get("frozen"):
            with pytest.raises(dataclasses.FrozenInstanceError):
                changed.x = 3.0
            with pytest.raises(dataclasses.FrozenInstanceError):
                del changed.x
            assert changed.x == 2.0


def with_every_field(decorator: Any) -> Any:
    @decorator(frozen=True)
    class Point:
        """A class."""

        first: int
        later: list[int] = dataclasses.field(default_factory=list, kw_only=True)
        second: str = "b"
        missing: int = 0
        make: dict[str, int] = dataclasses.field(default_factory=dict)
        needed: int = dataclasses.field(kw_only=True)

        def __post_init__(self) -> None:
            object.__setattr__(self, "second", self.second + "!")

    @decorator(frozen=True)
    class Heir(Point):
        """Of another."""

        third: float = 0.5

    class Named(Point):
        """No dataclass."""

        def __init__(self, name: str) -> None:
            super().__init__(7, needed=8)
            object.__setattr__(self, "second", name)

    return Point, Heir, Named


GIVEN: list[tuple[list[Any], dict[str, Any]]] = [
    ([1], {"needed": 2}),
    ([1, "c", 4, {"d": 5}], {"needed": 2, "later": [3]}),
    ([], {"first": 1, "needed": 2, "make": {"d": 5}}),
    ([1, "c", 4, {}, 0.25], {"needed": 2}),
    ([1], {}),
    ([], {"needed": 2}),
    ([1, "c", 4, {}, 0.25, [3]], {"needed": 2}),
    ([1], {"needed": 2, "other": 3}),
]


@pytest.mark.parametrize(("values", "named"), GIVEN)
@pytest.mark.parametrize("heir", [False, True])
def test_what_is_given(values: list[Any], named: dict[str, Any], heir: bool) -> None:
    made = []
    for decorator in (quick_dataclass.dataclass, dataclasses.dataclass):
        kind = with_every_field(decorator)[heir]
        try:
            made.append(vars(kind(*values, **named)))
        except TypeError as error:
            made.append(str(error))
    assert made[0] == made[1]


@pytest.mark.parametrize("heir", [False, True])
def test_fields_are_as_given_however_the_class_is_met(heir: bool) -> None:
    kind, usual = (with_every_field(d)[heir] for d in (quick_dataclass.dataclass, dataclasses.dataclass))
    assert inspect.signature(kind).parameters.keys() == inspect.signature(usual).parameters.keys()
    assert inspect.signature(kind.__init__).return_annotation is None
    one, other = kind(1, needed=2), kind(1, needed=2)
    one.later.append(3)
    assert other.later == []
    assert copy.deepcopy(one) == one
    assert copy.deepcopy(one).later is not one.later


def test_heirs_of_any_kind() -> None:
    point, _, named = with_every_field(quick_dataclass.dataclass)
    assert vars(named("n")) == {**vars(point(7, needed=8)), "second": "n"}
    with pytest.raises(dataclasses.FrozenInstanceError, match="'first'"):
        named("n").first = 1

    @dataclasses.dataclass(frozen=True)
    class Usual(point):  # type: ignore[misc, valid-type]
        """Made by the standard library."""

        fourth: int = 4

    assert (Usual(1, needed=2).fourth, Usual(1, needed=2).first) == (4, 1)


def test_own_methods_stay() -> None:
    @quick_dataclass.dataclass(frozen=True)
    class Own:
        """With methods of its own."""

        x: int

        def __init__(self, text: str) -> None:
            object.__setattr__(self, "x", int(text))

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

        def __repr__(self) -> str:
            return "mine"

    assert Own("1").x == 1
    assert Own("1") == Own("2")
    assert hash(Own("1")) == 7
    assert repr(Own("1")) == "mine"


def test_of_the_package() -> None:
    assert len({Lag(1), Lag(1), Lag(2), Average(0.5)}) == 3
    assert sorted([Lag(3), Lag(1)]) == [Lag(1), Lag(3)]
    result = RankResult(0.1, 3, 3, 3, 0.5)
    assert pickle.loads(pickle.dumps(result)) == result
    assert repr(result).startswith(
        "RankResult(epsilon=0.1, rank=3, lower=3, upper=3, residual=0.5, reference=None"
    )
