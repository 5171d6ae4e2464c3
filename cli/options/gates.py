"""Rules that results are held to: told where they are wrong, and on stderr where a run violates them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import click
from click.shell_completion import CompletionItem

from gradmf.gradlog.reports.changes import ends_text, sided_text
from gradmf.gradlog.reports.figures import count, significant

from ..terminal.messages import printable, tell_violation

if TYPE_CHECKING:
    from gradmf.gradlog import Breach, Limit, Reading, Rule, Violation, Vocabulary

VIOLATED = 3
"""The exit code where a rule is violated, or cannot be decided, and nothing else went wrong."""
SHOWN_TENSORS = 3

_R = TypeVar("_R")


class Gates:
    """The rules of one command. exit_code : 3 once a result has violated one"""

    def __init__(self, texts: Sequence[str], known: Vocabulary) -> None:
        """texts : what --fail-if was given; raises click.UsageError that points at what is wrong."""
        self.rules = parse_rules(texts, known) if texts else ()
        self.exit_code = 0

    def watch(
        self, results: Iterable[_R], judge: Callable[[_R, Sequence[Rule]], Iterable[Violation]]
    ) -> Iterator[_R]:
        """The results as they come; when one has been shown, the rules that it violates are told.

        Where there is no result at all, nothing has passed.
        """
        watched = False
        for result in results:
            yield result
            watched = True
            for violation in judge(result, self.rules):
                self.exit_code = VIOLATED
                tell_violation(f"{violation.run}: {violation_text(violation)}")
        if self.rules and not watched:
            self.exit_code = VIOLATED
            tell_violation("no rule can be decided: there is no result to hold it against")


def known_of(context: click.Context) -> Vocabulary:
    """What there is with the options so far, on a line that is being completed; wrong ones are left out."""
    from gradmf.gradlog import Settings, UsageError, Vocabulary

    asked, default = context.params, Settings()
    settings = Settings(
        predictors=asked.get("predictor") or default.predictors,
        epsilons=asked.get("epsilon") or default.epsilons,
        rank=asked.get("rank") or default.rank,
    )
    try:
        return Vocabulary.of(settings)
    except UsageError:
        return Vocabulary.of(default)


def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """What a shell completes in a rule: what it is about, from which on it is the user's to write."""
    subjects = known_of(context).subjects()
    return [CompletionItem(subject, type="open") for subject in subjects if subject.startswith(incomplete)]


def parse_rules(texts: Sequence[str], known: Vocabulary) -> tuple[Rule, ...]:
    """The rules, each once."""
    from gradmf.gradlog import RuleError, parse_rule

    rules = []
    for text in texts:
        try:
            rules.append(parse_rule(text, known))
        except RuleError as error:
            caret = " " * len(printable(text[: error.position])) + "^"
            context = click.get_current_context(silent=True)
            raise click.UsageError(f"--fail-if: {error}\n  {text}\n  {caret}", context) from error
    return tuple(dict.fromkeys(rules))


def violation_text(violation: Violation) -> str:
    """The rule, and the values that violate it, in a line."""
    rule = violation.rule
    if not violation.breaches:
        names = ", ".join(violation.unmatched[:4]) + (", ..." if len(violation.unmatched) > 4 else "")
        those = f"there are {names}" if names else "the runs have none in common"
        return f"{rule} cannot be decided: no tensor matches {rule.pattern!r}; {those}"
    shown = violation.breaches[:SHOWN_TENSORS]
    left = len(violation.breaches) - len(shown)
    more = f", and {count(left)} more tensor{'s' * (left > 1)}" if left else ""
    places = ", ".join(_place(breach, rule) for breach in shown) + more
    first = shown[0]
    if first.certain:
        return f"{rule}: {places}"
    return f"{rule} cannot be decided: {places}; {first.reading.doubt}"


def _place(breach: Breach, rule: Rule) -> str:
    name = rule.subject if breach.tensor is None else breach.tensor
    reading = breach.reading
    if reading.value is None and (breach.before is None or breach.after is None):
        if math.isfinite(reading.lower) and _is_count(rule):
            return f"{name} is at least {count(int(reading.lower))}"
        return f"{name} has no value"
    if isinstance(rule.condition, str) or not rule.condition.of_run:
        return f"{name} {_changed(breach, rule, rule.condition)}"
    noise = "" if breach.noise is None else f" and noise has {_figure(breach.noise, rule.condition)}"
    return f"{name} {_is(reading, rule)}{noise}"


def _is(reading: Reading, rule: Rule) -> str:
    assert reading.value is not None
    if reading.lower == reading.upper:
        return f"is {_figure(reading.value, rule.condition)}"
    if _is_count(rule):
        return f"is {count(int(reading.lower))}-{count(int(reading.upper))}"
    about = f"is about {_figure(reading.value, '')}"
    if not _bounded(reading):
        return about
    return f"{about}, between {_figure(reading.lower, '')} and {_figure(reading.upper, '')}"


def _is_count(rule: Rule) -> bool:
    from gradmf.gradlog.results.quantities import QUANTITIES

    return QUANTITIES[rule.quantity].whole


def _bounded(reading: Reading) -> bool:
    return math.isfinite(reading.lower) and math.isfinite(reading.upper)


def _changed(breach: Breach, rule: Rule, condition: Limit | str) -> str:
    """By how much, within which bounds, from what to what: as the tables of a comparison say it."""
    told = []
    value, low, high = breach.reading.value, breach.reading.lower, breach.reading.upper
    apart = low < high and _bounded(breach.reading)
    if value is not None and math.isfinite(value):
        if isinstance(condition, str) or condition.kind == "percent":
            # Readings of relative changes are in percent.
            limit = math.nan if isinstance(condition, str) else condition.number / 100
            told.append(sided_text(value / 100, limit))
            told += [f"({ends_text(low / 100, high / 100, value / 100)})"] * apart
        else:
            told.append(_figure(value, condition, "+"))
            told += [f"({_figure(low, '', '+')} to {_figure(high, '', '+')})"] * (low < high)
    if breach.before is not None and breach.after is not None:
        show = significant if not _is_count(rule) else lambda rank: count(int(rank))
        told.append(f"from {show(breach.before)} to {show(breach.after)}")
    return " ".join(told)


def _figure(value: float, limit: Limit | str, sign: str = "") -> str:
    """`value` with as few digits as still say on which side of the limit it lies."""
    formats = [f"{sign},.0f" if 1000 <= abs(value) < 1e9 else f"{sign}.4g"]
    for format in (*formats, *(f"{sign}.{digits}g" for digits in (6, 9, 12))):
        text = f"{value:{format}}"
        if isinstance(limit, str):
            return text
        shown = float(text.replace(",", ""))
        if (shown > limit.number, shown < limit.number) == (value > limit.number, value < limit.number):
            return text
    return f"{value:{sign}}"
