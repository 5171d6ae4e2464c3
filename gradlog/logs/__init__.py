"""Gradient logs: stores, what lies in them, and how they are written."""
