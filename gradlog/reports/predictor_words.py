"""What predictors foretell, for readers who have never heard of them."""

from __future__ import annotations

from ..results.row_kind import RowKind

ONE_STEP = ("ema:0.0", "mean:1")
"""Other names of one-step."""


def predictor_words(spec: str, kind: RowKind) -> str:
    """What a predictor takes for the next row, with the nouns of rows of that kind."""
    name, _, argument = ("one-step" if spec in ONE_STEP else spec).partition(":")
    words = {
        "zero": "nothing at all",
        "one-step": "the last {gradient} again",
        "ema": f"a running average of past {{gradients}} with decay {argument}",
        "ema-debiased": f"a running average of past {{gradients}} with decay {argument}, without bias",
        "mean": f"the mean of the last {argument} {{gradients}}",
        "linear": "a straight line through the last two {gradients}",
        "mixture": "a mixture of two running averages of past {gradients}",
        "lags": "a weighted sum of the last {gradients}",
    }
    return kind.say(words.get(name, "made of past {gradients}"))
