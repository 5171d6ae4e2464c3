"""The distribution: a wheel in a fresh environment brings the command, the packages and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = folder.glob("gradmf-*.whl")
    return found


def test_wheel_holds_the_three_packages_and_no_top_level_names(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"gradmf"}
    assert {name.split("/")[1] for name in names if name.startswith("gradmf/")} == {
        "__main__.py",
        "cli",
        "gradlog",
        "kernels",
    }
    assert {f"gradmf/gradlog/pages/page.{kind}" for kind in ("html", "css", "js")} <= set(names)
    for room in ("cli", "gradlog", "kernels"):
        assert f"gradmf/{room}/py.typed" in names
        modules = {f"gradmf/{path.relative_to(ROOT)}" for path in (ROOT / room).rglob("*.py")}
        assert modules == {n for n in names if n.startswith(f"gradmf/{room}/") and n.endswith(".py")}


@pytest.mark.slow  # it installs everything anew
def test_wheel_runs_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, capture_output=True)
    sample = ROOT / "sample_logs" / "mlp-sgd.zarr"
    script = tmp_path / "fresh" / "bin" / "gradmf"
    by_script = subprocess.run(
        [script, "analyze", sample, "--format", "jsonl"], check=True, capture_output=True, cwd=tmp_path
    )
    by_module = subprocess.run(
        [python, "-m", "gradmf", "analyze", sample, "--format", "jsonl"],
        check=True, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    assert by_script.stdout == by_module.stdout
    assert by_script.stderr == b""
    api = f"from gradmf import gradlog; print(gradlog.open_log('{sample}').rows)"
    rows = subprocess.run([python, "-c", api], check=True, capture_output=True, cwd=tmp_path, text=True)
    assert int(rows.stdout) > 1
    version = subprocess.run([script, "--version"], check=True, capture_output=True, text=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] in version.stdout


def test_dependencies_have_no_upper_caps() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert all("<" not in item and "==" not in item for item in project["dependencies"])
