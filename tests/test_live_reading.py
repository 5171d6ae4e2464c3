"""Processes that read a log while another writes it: a prefix of its rows, and never a wrong number."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import assert_analysis
from gradmf import gradlog
from gradmf.gradlog.logs.places import folder_objects

ROWS = 60

WRITER = """
import sys, time
import numpy as np
from gradmf import gradlog

def gradients(step):
    rng = np.random.default_rng(step)
    return {"w": rng.standard_normal((40, 30)), "b": rng.standard_normal(7, np.float32)}

if __name__ == "__main__":
    path, rows = sys.argv[1], int(sys.argv[2])
    with gradlog.create_log(path, chunk_bytes=5000, flush_every=4) as log:
        for step in range(rows):
            log.append(step, gradients(step), loss=float(step))
            if step % 7 == 0:
                log.flush()
"""

READER = """
import json, sys
from gradmf import gradlog

seen = {}
while True:
    try:
        found = gradlog.analyze(sys.argv[1])
    except gradlog.GradmfError as error:
        early = (
            "not a Zarr store", "nothing was logged yet", "no such file", "no gradient arrays", "without its"
        )
        if any(told in str(error) for told in early):
            continue  # nothing was committed yet
        raise
    seen[found.run.rows] = [found.total.energy, found.total.predictors[1].path_length]
    if found.run.rows == int(sys.argv[2]):
        break
print(json.dumps(seen))
"""


def test_two_processes_read_while_one_writes(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    (tmp_path / "writer.py").write_text(WRITER)
    script = [sys.executable, str(tmp_path / "writer.py"), str(path), str(ROWS)]
    reader = [sys.executable, "-c", READER, str(path), str(ROWS)]
    readers = [
        subprocess.Popen(reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    subprocess.run(script, check=True)
    scope: dict[str, object] = {"__name__": "writer"}
    exec(WRITER, scope)
    made = [scope["gradients"](step) for step in range(ROWS)]  # type: ignore[operator]
    flat = np.array([np.concatenate([np.asarray(v, float).ravel() for v in row.values()]) for row in made])
    squares = (flat**2).sum(axis=1)
    steps = (np.diff(flat, axis=0) ** 2).sum(axis=1)
    for process in readers:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        for rows, (energy, path_length) in json.loads(out).items():
            count = int(rows)
            assert energy == pytest.approx(squares[:count].sum(), rel=1e-9)
            assert path_length == pytest.approx(squares[0] + steps[: count - 1].sum(), rel=1e-9)
    assert_analysis(
        gradlog.analyze(path), {name: np.array([row[name] for row in made]) for name in ("b", "w")}
    )


@pytest.mark.parametrize("rows", [1, 3])
def test_a_row_that_is_committed_in_the_midst_of_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Whichever file of metadata it comes before."""
    scope: dict[str, object] = {"__name__": "writer"}
    exec(WRITER, scope)
    read = folder_objects.FolderObjects.read
    reads = 0

    for before in range(1, 20):
        path, reads = tmp_path / f"{before}.zarr", 0
        writer = gradlog.create_log(path, chunk_rows=2)

        def commit(writer: gradlog.LogWriter = writer) -> None:
            writer.append(writer.rows, scope["gradients"](writer.rows), loss=0.0)  # type: ignore[operator]
            writer.flush()

        def reading(
            self: folder_objects.FolderObjects, path: str, before: int = before, commit: object = commit
        ) -> bytes:
            nonlocal reads
            reads += 1
            if reads == before:
                commit()  # type: ignore[operator]
            return read(self, path)

        for _ in range(rows):
            commit()
        with monkeypatch.context() as patch:
            patch.setattr(folder_objects.FolderObjects, "read", reading)
            assert gradlog.analyze(path).run.rows in (rows, rows + 1)
        writer.close()
        if reads < before:
            break
    else:
        pytest.fail("more files are read than were tried")
    assert before > 5
