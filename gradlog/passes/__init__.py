"""One pass over a log: blocks, the sums that they add to, and what these amount to."""
