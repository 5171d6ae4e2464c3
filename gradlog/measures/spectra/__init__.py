"""Spectra of increments: exact, incremental with certificates, and from sketches."""

GROUPS = "group_spectra"
"""The measure of groups of tensors."""
