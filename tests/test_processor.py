"""What OpenBLAS is told: its kernels on AMD's AVX-512 processors, and to sleep; never over the user."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gradmf.cli.terminal.processor import tune_openblas

FLAGS = "fpu sse2 avx2 avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.fixture(autouse=True)
def before_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy")
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_THREAD_TIMEOUT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def hinted(path: Path, vendor: str, flags: str, family: int = 26) -> str | None:
    named = f"vendor_id\t: {vendor}\ncpu family\t: {family}"
    path.write_text(f"processor\t: 0\n{named}\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    tune_openblas(path)
    return os.environ.get("OPENBLAS_CORETYPE")


def test_amd_with_avx512(tmp_path: Path) -> None:
    assert hinted(tmp_path / "cpuinfo", "AuthenticAMD", FLAGS) == "SkylakeX"


def test_amd_that_takes_512_bits_in_halves(tmp_path: Path) -> None:
    assert hinted(tmp_path / "cpuinfo", "AuthenticAMD", FLAGS, family=25) == "Haswell"


def test_others_are_left_alone(tmp_path: Path) -> None:
    assert hinted(tmp_path / "cpuinfo", "GenuineIntel", FLAGS) is None
    assert hinted(tmp_path / "cpuinfo", "AuthenticAMD", "fpu sse2 avx2") is None
    tune_openblas(tmp_path / "absent")
    assert "OPENBLAS_CORETYPE" not in os.environ


def test_the_users_choice_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    assert hinted(tmp_path / "cpuinfo", "AuthenticAMD", FLAGS) == "Zen"


def test_its_threads_sleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune_openblas(tmp_path / "absent")
    assert os.environ["OPENBLAS_THREAD_TIMEOUT"] == "4"
    monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", "20")
    tune_openblas(tmp_path / "absent")
    assert os.environ["OPENBLAS_THREAD_TIMEOUT"] == "20"
