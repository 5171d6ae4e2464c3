"""Ranks from a random projection of increments."""
