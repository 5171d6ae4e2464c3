"""Numerical kernels: arrays and numbers only, no Zarr, no paths, no printing.

No kernel loads Numba by being imported. `jit` and `prefetch` do, and with them the modules called `*_jit` and
`row_sums`: they are imported where a kernel has to be compiled, whose machine code is kept for all later
processes, or where it runs without the JIT.
"""
