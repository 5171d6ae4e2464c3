"""Spectra of increments: exact, incremental with certificates, and from sketches."""
