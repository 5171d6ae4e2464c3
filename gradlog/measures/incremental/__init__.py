"""Ranks with certain bounds, from a basis that grows as rows come in."""
