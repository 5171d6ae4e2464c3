"""The best predictors in hindsight, from inner products of rows."""

NAME = "search"
"""Of the measure, by whichever method."""
