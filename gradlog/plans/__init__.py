"""What is settled before a pass: what is read, in which blocks, by which method."""
