"""Plan, blocks, and the pass: it runs a list of measures and knows none by name."""
