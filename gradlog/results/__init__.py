"""What analyses amount to: frozen dataclasses, and the figures in them."""
