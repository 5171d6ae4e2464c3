"""Numerical kernels: arrays and numbers only, no Zarr, no paths, no printing.

Numba is imported by the modules called `*_jit` and those beneath them, where a kernel has to be compiled:
its machine code is kept for all later processes.
"""
