"""Processes that train for tests, told what to do line by line."""

from __future__ import annotations

import subprocess


def let_end(process: subprocess.Popen[str]) -> None:
    """A worker without further orders ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait()
    process.stdout.close()
