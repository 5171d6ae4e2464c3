"""Users without a home, or with one that cannot be written, as in containers; folders of others."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from conftest import write_store
from gradmf.cli.options.completing import _entries
from gradmf.kernels import cache, machine_code

NOBODY = """
import os, pwd, sys
def unknown(_): raise KeyError("getpwuid(): uid not found: 12345")
pwd.getpwuid = unknown
from gradmf.cli.main import main
sys.exit(main())
"""
HOMELESS: tuple[dict[str, str], ...] = (
    {},
    {"HOME": ""},
    {"HOME": "some/where"},
    {"HOME": "{}/file"},
    {"HOME": "{}/file/home"},
    {"HOME": "/proc"},
    {"HOME": "/proc", "XDG_CACHE_HOME": "some/where"},
    {"HOME": "{}", "XDG_CACHE_HOME": "/proc"},
    {"HOME": "{}", "XDG_CACHE_HOME": "{}/file"},
    {"HOME": "{}", "NUMBA_CACHE_DIR": "{}/file/cache"},
    {"HOME": "{}", "NUMBA_CACHE_DIR": "/proc"},
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of a user of whom nothing is known."""
    for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.setattr(cache, "_TEMPORARY", ())
    folder = tmp_path / "temporary"
    folder.mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.mark.parametrize("places", HOMELESS, ids=str)
def test_kernels_are_kept_in_the_temporary_folder(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, places: dict[str, str]
) -> None:
    for name, place in places.items():
        monkeypatch.setenv(name, place.format(temporary.parent))
    monkeypatch.chdir(temporary)
    found = cache._cache_folder()
    assert found is not None
    assert found.parent == temporary / f"gradmf-{os.geteuid()}"
    assert found.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in temporary.iterdir()] == [found.parent.name]


def test_kernels_are_kept_at_home(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(temporary))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, by its specification
    found = cache._cache_folder()
    assert found is not None
    assert found.parent == temporary / ".cache" / "gradmf"
    monkeypatch.setenv("XDG_CACHE_HOME", f"{temporary}/xdg")
    found = cache._cache_folder()
    assert found is not None
    assert found.parent == temporary / "xdg" / "gradmf"
    monkeypatch.setenv("NUMBA_CACHE_DIR", f"{temporary}/numba")
    assert cache._cache_folder() == temporary / "numba"


def test_nothing_is_kept_where_nothing_can_be_written(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("/proc", f"{temporary.parent}/file", "", "relative"):
        monkeypatch.setenv("TMPDIR", place)
        assert cache._cache_folder() is None


def test_a_folder_of_another_is_not_trusted(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = temporary / f"gradmf-{os.geteuid()}"
    own.mkdir()
    own.chmod(0o777)
    assert cache._cache_folder() is None
    own.rmdir()
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    own.symlink_to(elsewhere)
    assert cache._cache_folder() is None
    own.unlink()
    own.mkdir(mode=0o700)
    assert cache._cache_folder() is not None
    uid = os.geteuid()
    monkeypatch.setattr(cache, "user", lambda: uid + 1)
    own.rename(temporary / f"gradmf-{uid + 1}")
    assert cache._cache_folder() is None


def test_a_file_that_another_may_have_written_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kernel.o"
    machine_code._write(path, "symbol", b"code")
    assert machine_code._read(path) == ("symbol", b"code")
    path.chmod(0o662)
    assert machine_code._read(path) is None
    machine_code._write(path, "symbol", b"code")
    assert machine_code._read(path) == ("symbol", b"code")
    uid = os.geteuid()
    monkeypatch.setattr(cache, "user", lambda: uid + 1)
    assert machine_code._read(path) is None


def test_a_file_that_cannot_be_kept_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "kernel.o" / "in the way").mkdir(parents=True)
    machine_code._write(tmp_path / "kernel.o", "symbol", b"code")
    assert [path.name for path in tmp_path.iterdir()] == ["kernel.o"]


@pytest.mark.slow  # it compiles every kernel
def test_a_run_of_nobody(tmp_path: Path) -> None:
    log = write_store(tmp_path / "run.zarr", {"w": np.ones((3, 4), "f4")})
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-c", NOBODY, "analyze", log, "--format", "csv"],
        capture_output=True,
        text=True,
        env={**kept, "TMPDIR": str(temporary)},
        cwd=tmp_path,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 3
    assert list(temporary.rglob("*.o"))
    assert {path.name for path in tmp_path.iterdir()} == {"run.zarr", "temporary"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_a_home_that_the_user_cannot_write(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as shared:  # not below a folder that is closed to others
        Path(shared).chmod(0o1777)
        home = Path(shared) / "home"
        home.mkdir(mode=0o755)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("TMPDIR", shared)
        os.seteuid(12345)
        try:
            found = cache._cache_folder()
        finally:
            os.seteuid(0)
        assert found is not None
        assert found.parent == Path(shared) / "gradmf-12345"
        assert not list(home.iterdir())
    assert not list(temporary.iterdir())


def test_completion_leaves_the_tilde(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(temporary)
    for word in ("~/", "~/ru", "~nobody/"):
        assert list(_entries(word)) == []
