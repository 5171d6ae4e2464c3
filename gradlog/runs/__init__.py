"""Runs: analyzed whole or in parts, sketched, related to each other."""
