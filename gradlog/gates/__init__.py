"""Rules that a pipeline stops at."""
