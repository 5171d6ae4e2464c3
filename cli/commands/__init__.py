"""What is asked: a module for each command, and what they share."""
