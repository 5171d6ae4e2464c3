"""Logs made of what people already have: files of gradients, and checkpoints of weights."""
