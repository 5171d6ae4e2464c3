"""The terminal and the process: streams, messages, progress, signals."""
