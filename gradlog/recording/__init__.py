"""Record the gradients of a training loop: hooks on its optimizers, and a thread that writes the log."""
