"""Leading subspaces of windows of training."""
