"""Files and folders that appear whole or not at all, whatever ends the block that makes them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from gradmf.gradlog.logs.whole_file import in_one_step, whole_file, whole_folder

ENDS: list[BaseException] = [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")]


@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_a_block_that_fails_leaves_all_as_it_was(tmp_path: Path, error: BaseException) -> None:
    held = tmp_path / "held"
    held.write_bytes(b"before")
    for path in (held, tmp_path / "new"):
        with pytest.raises(type(error)) as caught, whole_file(path) as stream:  # noqa: PT012
            stream.write(b"half")
            raise error
        if isinstance(error, OSError):
            assert caught.value.filename == str(path)
    with pytest.raises(type(error)), whole_folder(tmp_path / "folder") as folder:  # noqa: PT012
        (folder / "half").touch()
        raise error
    with pytest.raises(type(error)), in_one_step(tmp_path / "beside", held):  # noqa: PT012
        (tmp_path / "beside").touch()
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["held"]
    assert held.read_bytes() == b"before"


def test_a_folder_has_the_rights_of_any_other_and_none_before(tmp_path: Path) -> None:
    (tmp_path / "any").mkdir()
    with whole_folder(tmp_path / "made") as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IRWXU
        assert not (tmp_path / "made").exists()
        (folder / "deep").mkdir()
    assert (tmp_path / "made").stat().st_mode == (tmp_path / "any").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["any", "made"]


def test_an_interrupt_behind_the_last_step_takes_a_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, interrupts = Path.rename, [KeyboardInterrupt()]

    def renamed(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if interrupts:
            raise interrupts.pop()
        return moved

    monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "made") as folder:
        (folder / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_never_takes_the_place_of_another(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with pytest.raises(OSError, match="made"), whole_folder(target) as folder:  # noqa: PT012
        (folder / "file").touch()
        target.mkdir()
        (target / "of somebody else").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert [path.name for path in target.iterdir()] == ["of somebody else"]


def test_errors_within_a_folder_name_its_place(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with pytest.raises(FileNotFoundError) as caught, whole_folder(target) as folder:
        (folder / "no" / "such").touch()
    assert caught.value.filename == str(target)
    with pytest.raises(FileNotFoundError) as caught, whole_folder(target, tmp_path / "no" / "place"):
        pass
    assert caught.value.filename == str(target)
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError) as caught, whole_folder(target):
        missing.read_bytes()
    assert os.fspath(caught.value.filename) == str(missing)
