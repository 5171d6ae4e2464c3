"""What the linear algebra library should know of the processor, said before NumPy loads it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_NEEDED = {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}


def use_wide_vectors(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Let OpenBLAS use its AVX-512 kernels on AMD's processors that have it.

    NumPy's OpenBLAS takes the newer ones for AVX2 machines and multiplies matrices at two thirds of the
    speed. A choice that the user has made stands; without a readable /proc/cpuinfo nothing happens.
    """
    if "OPENBLAS_CORETYPE" in os.environ or "numpy" in sys.modules:
        return
    try:
        with cpuinfo.open() as file:
            lines = file.read(1 << 14).splitlines()
    except OSError:
        return
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    facts = {key.strip(): value.split() for key, value in fields.items()}
    if facts.get("vendor_id") == ["AuthenticAMD"] and set(facts.get("flags", ())) >= _NEEDED:
        os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
