"""Leading subspaces of windows of training."""

NAME = "subspaces"
"""Of the measure."""
