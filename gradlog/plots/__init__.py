"""Figures of analyses, drawn with matplotlib."""
