"""Numerical kernels: arrays and numbers only, no Zarr, no paths, no printing.

Importing a module of this package imports Numba; callers import it inside functions so that
``gradmf --help`` stays fast.
"""
