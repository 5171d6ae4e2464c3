"""Analyses taken in parts by several processes, whose sums are added up in a tree."""
