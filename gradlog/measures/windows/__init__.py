"""Windows of training: sums over their rows, and the spectra of increments between them."""

SUMS, SPECTRA = "window_sums", "window_spectra"
"""Of the measures."""
