"""Gradient logs: open, write, describe and analyze them. The public Python API of gradmf.

from gradmf import gradlog

analysis = gradlog.analyze("run.zarr")
print(analysis.total.best, analysis.total.spectrum.rank)

What there is stands in __init__.pyi. Each name is imported when it is first asked for: commands that need few
of them start faster.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
