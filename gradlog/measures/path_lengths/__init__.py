"""Sums over parameters of each row, and what predictors leave of them."""
