"""What is recorded needs PyTorch, and nothing else does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gradmf import gradlog


def test_recording_names_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        gradlog.UsageError, match=r"torch, which is not installed: pip install 'gradmf\[torch\]'"
    ):
        gradlog.record(tmp_path / "run.zarr", None, None)
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize("callback", ["trainer_callback", "lightning_callback"])
def test_callbacks_name_what_they_lack(callback: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(gradlog.UsageError, match="pip install"):
        getattr(gradlog, callback)("run.zarr")


def test_the_recorder_imports_no_heavy_library() -> None:
    code = (
        "import sys; from gradmf import gradlog; gradlog.record, gradlog.trainer_callback, "
        "gradlog.lightning_callback, gradlog.Recorder; "
        "print(sorted({'torch', 'transformers', 'lightning', 'jax'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
