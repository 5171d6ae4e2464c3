"""Whole processes, one after the other: wall seconds, peak memory, and what they print.

Linux counts the memory of the process that starts another towards the peak of the new one, so whoever
calls this must stay small: no NumPy and no Zarr in it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Sample:
    """One run of one command. seconds : by the clock; busy : of processors, of all threads"""

    seconds: float
    busy: float
    peak_bytes: int
    output: str
    failure: str | None = None


UNSET = ("PYTHONDONTWRITEBYTECODE", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""As where nobody set them: or gradmf alone would be compiled in every process, and all ways multiply
matrices by what somebody chose."""


def run_once(command: Sequence[str], environment: Mapping[str, str], limit: float) -> Sample:
    """Run the command to its end, or kill it after `limit` seconds."""
    clean = {name: value for name, value in environment.items() if name not in UNSET}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.monotonic()
        child = subprocess.Popen(command, stdout=output, stderr=errors, env=clean, start_new_session=True)
        late = threading.Timer(limit, os.killpg, (child.pid, signal.SIGKILL))
        late.start()
        with contextlib.suppress(OSError):  # should memory run out, the kernel ends this process, not another
            Path(f"/proc/{child.pid}/oom_score_adj").write_text("1000")
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - start
        late.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        failure = None
        if child.returncode:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            failure = lines[-1].strip() if lines else f"exit code {child.returncode}"
            if seconds >= limit:
                failure = f"stopped after {limit:.0f} s"
            elif child.returncode == -signal.SIGKILL:
                failure = "killed, probably out of memory"
        output.seek(0)
        busy = usage.ru_utime + usage.ru_stime
        return Sample(seconds, busy, peak, output.read().decode(errors="replace"), failure)


def median_ratio(samples: Sequence[Sample], reference: Sequence[Sample]) -> float | None:
    """Median over the rounds of the ratio of seconds within a round."""
    ratios = [a.seconds / b.seconds for a, b in zip(samples, reference, strict=False)]
    return median(ratios) if ratios else None
