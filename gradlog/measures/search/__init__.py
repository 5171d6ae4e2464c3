"""The best predictors in hindsight, from inner products of rows."""
