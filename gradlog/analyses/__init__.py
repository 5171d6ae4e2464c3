"""Analyze a log: whole, in parts, as a sketch; and say beforehand how."""
