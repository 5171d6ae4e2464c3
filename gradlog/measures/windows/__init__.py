"""Windows of training: sums over their rows, and the spectra of increments between them."""
