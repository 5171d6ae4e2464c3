"""What the linear algebra library should know of the processor, said before NumPy loads it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SHORTEST_TIMEOUT = "4"
"""Power of two of the cycles that a thread waits for work; OpenBLAS takes no less."""
ZEN_3_AND_4 = "25"
"""Number of the family, of which only Zen 4 has AVX-512."""
_NEEDED = {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}


def tune_openblas(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Let OpenBLAS use its fastest kernels on AMD's processors with AVX-512, and let its threads sleep.

    NumPy's OpenBLAS takes the newer ones for AVX2 machines and multiplies at two thirds of the speed. Zen 4
    it knows, but that takes 512 bits in two halves: kernels for 256 are a fifth to a half faster there on
    matrices as flat as gradients. Its threads, which only the largest matrices need, spin for a tenth of a
    second at the start and after each use, in each of many processes side by side.

    A choice that the user has made stands; without a readable /proc/cpuinfo no processor is known.
    """
    if "numpy" in sys.modules:
        return
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", SHORTEST_TIMEOUT)
    if "OPENBLAS_CORETYPE" in os.environ:
        return
    try:
        with cpuinfo.open() as file:
            lines = file.read(1 << 14).splitlines()
    except OSError:
        return
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    facts = {key.strip(): value.split() for key, value in fields.items()}
    if facts.get("vendor_id") == ["AuthenticAMD"] and set(facts.get("flags", ())) >= _NEEDED:
        in_halves = facts.get("cpu family") == [ZEN_3_AND_4]
        os.environ["OPENBLAS_CORETYPE"] = "Haswell" if in_halves else "SkylakeX"
