"""The rules of gates: a small grammar, parsed with the place of what is wrong, and printed back.

    rule      = quantity  condition  [ "in" pattern ]
    quantity  = name | name "[" argument "]"           the names of the CSV columns
    condition = operator limit | operator change | "worse" | "better" | "higher" | "lower" | "changed"
    operator  = ">" | ">=" | "<" | "<=" | "==" | "!="
    limit     = number | "(-" number ")"
    change    = "+" number | "-" number, either with "%" or without: against the baseline
    pattern   = a glob on tensor names, up to the end; without it the rule is about the whole model

A rule says what must not be: it is violated where its condition holds.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ..errors import UsageError
from ..predictors import parse_predictor
from ..results.result import Settings

OPERATORS = (">=", "<=", "==", "!=", ">", "<")
VERDICTS = ("worse", "better", "higher", "lower", "changed")
BEST = "best"
"""Stands for the predictor with the least path length, in kappa[best]."""
BY_PREDICTOR, BY_EPSILON = "predictor", "epsilon"

QUANTITIES: Mapping[str, str] = {
    "kappa": BY_PREDICTOR,
    "scaled_kappa": BY_PREDICTOR,
    "scale": BY_PREDICTOR,
    "path_length": BY_PREDICTOR,
    "rank": BY_EPSILON,
    "residual": BY_EPSILON,
    "effective_rank": "",
    "stable_rank": "",
    "participation_ratio": "",
    "increment_energy": "",
    "energy": "",
    "grad_norm": "",
}
"""What rules can be about, and what stands in its brackets."""
OF_SPECTRUM = frozenset(
    ("rank", "residual", "effective_rank", "stable_rank", "participation_ratio", "increment_energy")
)

_NAME = re.compile(r"[A-Za-z_]\w*")
_OPERATOR_LIKE = re.compile(r"[=<>!~≤≥≠]+")
_MEANT = {"=": "==", "=>": ">=", "=<": "<=", "=!": "!=", "<>": "!=", "≤": "<=", "≥": ">=", "≠": "!="}
"""What people write for an operator."""
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


class RuleError(UsageError):
    """A rule that makes no sense. text : the rule; position : of the character where it goes wrong."""

    def __init__(self, message: str, text: str, position: int) -> None:
        super().__init__(message)
        self.text = text
        self.position = position


@dataclass(frozen=True)
class Limit:
    """What a quantity is compared with. kind : "value", or "difference" or "percent" to the baseline."""

    operator: str
    number: float
    kind: str = "value"

    def __str__(self) -> str:
        if self.kind == "value":
            shown = _plain(abs(self.number))
            return f"{self.operator} {f'(-{shown})' if math.copysign(1, self.number) < 0 else shown}"
        sign = "-" if math.copysign(1, self.number) < 0 else "+"
        return f"{self.operator} {sign}{_plain(abs(self.number))}{'%' * (self.kind == 'percent')}"


@dataclass(frozen=True)
class Rule:
    """What must not be. argument : predictor spec or epsilon, "" for none

    condition : a limit, or one of VERDICTS: significantly so against the baseline
    pattern : a glob on tensor names; None for the whole model
    """

    quantity: str
    argument: str
    condition: Limit | str
    pattern: str | None = None

    def __str__(self) -> str:
        where = "" if self.pattern is None else f" in {self.pattern}"
        return f"{self.subject} {self.condition}{where}"

    @property
    def subject(self) -> str:
        """The quantity with its argument, as the CSV column is called."""
        return f"{self.quantity}[{self.argument}]" if self.argument else self.quantity


@dataclass(frozen=True)
class Vocabulary:
    """What rules may speak of. spectrum : whether ranks are computed; baseline : whether there is one

    judged : quantities that VERDICTS can be said of
    """

    predictors: Sequence[str]
    epsilons: Sequence[float]
    spectrum: bool = True
    baseline: bool = False
    judged: Sequence[str] = ()

    @classmethod
    def of(cls, settings: Settings) -> Vocabulary:
        """What an analysis with these settings will know."""
        specs = ("zero", *(parse_predictor(spec).spec for spec in settings.predictors))
        return cls(tuple(dict.fromkeys(specs)), settings.epsilons, spectrum=settings.rank != "none")


def parse_rule(text: str, known: Vocabulary) -> Rule:
    """The rule that `text` says. Raises RuleError with the place, and with what is known there."""
    return _Parser(text, known).rule()


class _Parser:
    def __init__(self, text: str, known: Vocabulary) -> None:
        self._text = text
        self._known = known
        self._at = 0

    def rule(self) -> Rule:
        self._skip_spaces()
        quantity = self._quantity()
        argument = self._argument(quantity)
        condition = self._condition(quantity, argument)
        return Rule(quantity, argument, condition, self._pattern())

    def _quantity(self) -> str:
        start, name = self._at, self._take(_NAME)
        if name is None:
            self._fail(f"a rule begins with a quantity: {self._quantities()}", start)
        if name not in QUANTITIES:
            near = difflib.get_close_matches(name, QUANTITIES, 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            self._fail(f"no quantity '{name}'{meant}; known are {self._quantities()}", start)
        if name in OF_SPECTRUM and not self._known.spectrum:
            self._fail(f"without a spectrum there is no {name}: leave --rank none away", start)
        return name

    def _argument(self, quantity: str) -> str:
        kind = QUANTITIES[quantity]
        self._skip_spaces()
        opened = self._at
        bracket = self._take(re.compile(r"\["))
        if not kind:
            if bracket:
                self._fail(f"{quantity} takes nothing in brackets", opened)
            return ""
        example = f"{quantity}[{self._example(kind)}]"
        if bracket is None:
            self._fail(f"{quantity} needs its {kind} in brackets, such as {example}", opened)
        self._skip_spaces()
        start = self._at
        close = self._text.find("]", start)
        if close < 0:
            self._fail(f"the bracket is not closed; write it like {example}", opened)
        self._at = close + 1
        return self._known_argument(quantity, self._text[start:close].strip(), start)

    def _known_argument(self, quantity: str, word: str, start: int) -> str:
        kind = QUANTITIES[quantity]
        computed = self._known_arguments(kind)
        if word == BEST and quantity == "kappa":
            return word
        if word == BEST and kind == BY_PREDICTOR:
            self._fail(f"'{BEST}' goes with kappa alone: name the predictor", start)
        if kind == BY_PREDICTOR:
            try:
                word = parse_predictor(word).spec
            except UsageError as error:
                self._fail(str(error), start)
        else:
            try:
                word = repr(float(word))
            except ValueError:
                self._fail(f"'{word}' is no epsilon; in use are {', '.join(computed)}", start)
        if word not in computed:
            self._fail(f"{kind} {word} is not in use ({', '.join(computed)} are): add --{kind} {word}", start)
        return word

    def _condition(self, quantity: str, argument: str) -> Limit | str:
        self._skip_spaces()
        start = self._at
        verdict = self._take(_NAME)
        if verdict is not None:
            return self._verdict(quantity, argument, verdict, start)
        operator = self._take(re.compile("|".join(OPERATORS)))
        if operator is None:
            meant = _MEANT.get((self._take(_OPERATOR_LIKE) or "").strip(), "")
            hint = f" (did you mean {meant}?)" if meant else ""
            self._fail(f"a comparison is missing here{hint}; {self._conditions()}", start)
        self._skip_spaces()
        return self._limit(operator)

    def _verdict(self, quantity: str, argument: str, word: str, start: int) -> str:
        if word not in VERDICTS:
            near = difflib.get_close_matches(word, VERDICTS if self._known.baseline else (), 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            self._fail(f"'{word}' is no condition{meant}; {self._conditions()}", start)
        self._needs_baseline(f"'{word}'", start)
        if quantity not in self._known.judged:
            able = ", ".join(self._known.judged)
            self._fail(
                f"{quantity} has no interval to judge by ({able} have); give a limit such as > +5%", start
            )
        if word in ("worse", "better") and "kappa" not in quantity:
            self._fail(f"{quantity} is neither good nor bad; say higher or lower", start)
        if argument == "zero" and "kappa" in quantity:
            self._fail(f"{quantity}[zero] is 1 in every run", start)
        return word

    def _limit(self, operator: str) -> Limit:
        start = self._at
        if self._take(re.compile(r"\(\s*-\s*")):
            number = -self._number()
            if self._take(re.compile(r"\s*\)")) is None:
                self._fail("a closing ) is missing here", self._at)
            return Limit(operator, number)
        sign = self._take(re.compile(r"[+-]"))
        if sign is None:
            number = self._number()
            if self._text.startswith("%", self._at):
                self._needs_baseline("a percentage, a change,", start)
                self._fail("a percentage needs a sign: +5% is a change against the baseline", start)
            return Limit(operator, number)
        self._needs_baseline(f"'{sign}', a change,", start)
        number = self._number() * (1 if sign == "+" else -1)
        return Limit(operator, number, "percent" if self._take(re.compile(r"\s*%")) else "difference")

    def _number(self) -> float:
        start, word = self._at, self._take(_NUMBER)
        if word is None:
            self._fail("a number is missing here", start)
        number = float(word)
        if not math.isfinite(number):
            self._fail("this number is too large", start)
        return number

    def _pattern(self) -> str | None:
        self._skip_spaces()
        start = self._at
        if start == len(self._text):
            return None
        if self._take(re.compile(r"in(?=\s|$)")) is None:
            self._fail("nothing or 'in PATTERN', a glob on tensor names, can follow here", start)
        self._skip_spaces()
        pattern = self._text[self._at :].strip()
        if not pattern:
            self._fail("a glob on tensor names is missing here", self._at)
        return pattern

    def _conditions(self) -> str:
        words = f", or {', '.join(VERDICTS)}" if self._known.baseline else ""
        return f"write one of {' '.join(OPERATORS)} and a number{words}"

    def _needs_baseline(self, what: str, start: int) -> None:
        if not self._known.baseline:
            self._fail(f"{what} needs a baseline: only compare has one", start)

    def _quantities(self) -> str:
        arguments = {BY_PREDICTOR: "[PREDICTOR]", BY_EPSILON: "[EPSILON]", "": ""}
        return ", ".join(name + arguments[kind] for name, kind in QUANTITIES.items())

    def _known_arguments(self, kind: str) -> list[str]:
        if kind == BY_PREDICTOR:
            return list(self._known.predictors)
        return [repr(float(epsilon)) for epsilon in self._known.epsilons]

    def _example(self, kind: str) -> str:
        known = [word for word in self._known_arguments(kind) if word != "zero"]
        return known[0] if known else kind.upper()

    def _skip_spaces(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found.group()

    def _fail(self, message: str, position: int) -> NoReturn:
        raise RuleError(message, self._text, position)


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) and number < 1e15 else repr(number)
