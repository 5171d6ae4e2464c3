"""The rules of gates: a small grammar, parsed with the place of what is wrong, and printed back.

    rule      = quantity  condition  [ "in" pattern ]
    quantity  = name | name "[" argument "]"           the names of the CSV columns
    condition = operator limit | operator change | "worse" | "better" | "higher" | "lower" | "changed"
    operator  = ">" | ">=" | "<" | "<=" | "==" | "!="
    limit     = number | "(-" number ")" | [ number ] "noise"      so many times what independent noise has
    change    = "+" number | "-" number, either with "%" or without: against the baseline
    pattern   = a glob on tensor names, up to the end; without it the rule is about the whole model

A rule says what must not be: it is violated where its condition holds.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from typing import NoReturn

from ..errors import UsageError
from ..predictors import parse_predictor
from ..quick_dataclass import dataclass
from ..results.quantities import (
    BEST,
    BETTER,
    BY_EPSILON,
    BY_PREDICTOR,
    BY_ROWS,
    HIGHER,
    LOWER,
    ROWS,
    WORSE,
    Quantity,
    of_rules,
    spelled,
)
from ..results.result import Settings

OPERATORS = (">=", "<=", "==", "!=", ">", "<")
NOISE = "noise"
VERDICTS = (WORSE, BETTER, HIGHER, LOWER, "changed")
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
    """What a quantity is compared with.

    kind : "value"; "noise", a multiple of what independent noise of the same norms has; or "difference" or
    "percent" to the baseline
    """

    operator: str
    number: float
    kind: str = "value"

    @property
    def of_run(self) -> bool:
        """Whether it is about a run alone, without its baseline."""
        return self.kind in ("value", NOISE)

    def __str__(self) -> str:
        if self.kind == NOISE:
            return f"{self.operator} {'' if self.number == 1 else f'{_plain(self.number)} '}{NOISE}"
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
        return spelled(self.quantity, self.argument)


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

    def arguments(self, quantity: Quantity) -> list[str]:
        """What can stand in the brackets of a quantity, but for BEST; [""] where it has none."""
        return {
            "": [""],
            BY_PREDICTOR: list(self.predictors),
            BY_EPSILON: [repr(float(epsilon)) for epsilon in self.epsilons],
            BY_ROWS: list(ROWS),
        }[quantity.argument]

    def subjects(self) -> Iterator[str]:
        """All that a rule can be about, as it is spelled."""
        for name, quantity in of_rules().items():
            if self.spectrum or not quantity.section.of_spectrum:
                best = [BEST] if quantity.of_best else []
                yield from (spelled(name, argument) for argument in [*best, *self.arguments(quantity)])


def parse_rule(text: str, known: Vocabulary) -> Rule:
    """The rule that `text` says. Raises RuleError with the place, and with what is known there."""
    return _Parser(text, known).rule()


class _Parser:
    def __init__(self, text: str, known: Vocabulary) -> None:
        self._text = text
        self._known = known
        self._quantities = of_rules()
        self._at = 0

    def rule(self) -> Rule:
        self._skip_spaces()
        quantity = self._quantity()
        argument = self._argument(quantity)
        condition = self._condition(quantity, argument)
        return Rule(quantity.name, argument, condition, self._pattern())

    def _quantity(self) -> Quantity:
        start, name = self._at, self._take(_NAME)
        if name is None:
            self._fail(f"a rule begins with a quantity: {self._listed()}", start)
        if name not in self._quantities:
            near = difflib.get_close_matches(name, self._quantities, 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            self._fail(f"no quantity '{name}'{meant}; known are {self._listed()}", start)
        quantity = self._quantities[name]
        if quantity.section.of_spectrum and not self._known.spectrum:
            self._fail(f"without a spectrum there is no {name}: leave --rank none away", start)
        return quantity

    def _argument(self, quantity: Quantity) -> str:
        name, kind = quantity.name, quantity.argument
        self._skip_spaces()
        opened = self._at
        bracket = self._take(re.compile(r"\["))
        if not kind:
            if bracket:
                self._fail(f"{name} takes nothing in brackets", opened)
            return ""
        example = f"{name}[{self._example(quantity)}]"
        if bracket is None:
            self._fail(f"{name} needs its {kind} in brackets, such as {example}", opened)
        self._skip_spaces()
        start = self._at
        close = self._text.find("]", start)
        if close < 0:
            self._fail(f"the bracket is not closed; write it like {example}", opened)
        self._at = close + 1
        return self._known_argument(quantity, self._text[start:close].strip(), start)

    def _known_argument(self, quantity: Quantity, word: str, start: int) -> str:
        kind = quantity.argument
        computed = self._known.arguments(quantity)
        if word == BEST and quantity.of_best:
            return word
        if word == BEST and kind == BY_PREDICTOR:
            able = " and ".join(name for name, other in self._quantities.items() if other.of_best)
            self._fail(f"'{BEST}' goes with {able} alone: name the predictor", start)
        if kind == BY_PREDICTOR:
            try:
                word = parse_predictor(word).spec
            except UsageError as error:
                self._fail(str(error), start)
        elif kind == BY_EPSILON:
            try:
                word = repr(float(word))
            except ValueError:
                self._fail(f"'{word}' is no epsilon; in use are {', '.join(computed)}", start)
        elif word not in computed:
            self._fail(f"no {kind} '{word}'; known are {', '.join(computed)}", start)
        if word not in computed:
            self._fail(f"{kind} {word} is not in use ({', '.join(computed)} are): add --{kind} {word}", start)
        return word

    def _condition(self, quantity: Quantity, argument: str) -> Limit | str:
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
        return self._limit(operator, quantity, argument)

    def _verdict(self, quantity: Quantity, argument: str, word: str, start: int) -> str:
        name = quantity.name
        if word not in VERDICTS:
            near = difflib.get_close_matches(word, VERDICTS if self._known.baseline else (), 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            self._fail(f"'{word}' is no condition{meant}; {self._conditions()}", start)
        self._needs_baseline(f"'{word}'", start)
        if name not in self._known.judged:
            able = ", ".join(self._known.judged)
            self._fail(f"{name} has no interval to judge by ({able} have); give a limit such as > +5%", start)
        if word in (WORSE, BETTER) and not quantity.better:
            self._fail(f"{name} is neither good nor bad; say higher or lower", start)
        if argument == "zero" and quantity.of_zero is not None:
            self._fail(f"{spelled(name, argument)} is {quantity.of_zero:g} in every run", start)
        return word

    def _limit(self, operator: str, quantity: Quantity, argument: str) -> Limit:
        start = self._at
        if self._takes_noise(quantity, argument):
            return Limit(operator, 1.0, NOISE)
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
            self._skip_spaces()
            return Limit(operator, number, NOISE if self._takes_noise(quantity, argument) else "value")
        self._needs_baseline(f"'{sign}', a change,", start)
        number = self._number() * (1 if sign == "+" else -1)
        return Limit(operator, number, "percent" if self._take(re.compile(r"\s*%")) else "difference")

    def _takes_noise(self, quantity: Quantity, argument: str) -> bool:
        start = self._at
        if self._take(re.compile(rf"{NOISE}\b")) is None:
            return False
        if not quantity.reference:
            able = ", ".join(name for name, other in self._quantities.items() if other.reference)
            self._fail(f"nothing is known of {quantity.name} in noise ({able} have a reference)", start)
        if argument == "zero" and quantity.of_zero is not None:
            self._fail(f"{spelled(quantity.name, argument)} is {quantity.of_zero:g} in every run", start)
        return True

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
        return f"write one of {' '.join(OPERATORS)} and a number or {NOISE}{words}"

    def _needs_baseline(self, what: str, start: int) -> None:
        if not self._known.baseline:
            self._fail(f"{what} needs a baseline: only compare has one", start)

    def _listed(self) -> str:
        return ", ".join(spelled(name, q.argument.upper()) for name, q in self._quantities.items())

    def _example(self, quantity: Quantity) -> str:
        known = [word for word in self._known.arguments(quantity) if word != "zero"]
        return known[0] if known else quantity.argument.upper()

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
