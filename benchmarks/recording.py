"""What it costs to keep the gradients of a training loop, and what a kill leaves, beside what people do.

`python benchmarks/recording.py`, where PyTorch, safetensors, h5py and TensorBoard are installed. Each way has
a process of its own, in which blocks of steps with it and without it take turns: the ratio is of steps of the
same minute.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

from recording_ways import WAYS, Way, size_of
from report import markdown_table, put_between

STEPS = 10
"""Of a block."""
FULL_ROW = 2.0 / 1.2
"""CPU seconds of a row, beside those of torch.save."""
EVERY_TENTH, PROJECTED = 1.02, 1.03
"""Processor time of a step with it, beside one without."""
ROWS_HELD = 2.0


def main() -> None:
    """Run every way in turn, print the table."""
    options = _options()
    if options.worker:
        print(json.dumps(_train(_way(options.worker), options.folder, options.blocks)))
        return
    if options.victim:
        _run_until_killed(_way(options.victim), options.folder)
        return
    folder = Path(tempfile.mkdtemp(prefix="gradmf-recording-", dir=options.folder))
    try:
        kept = _Kept(options.keep)
        found, kills = kept.found, kept.kills
        for turn in range(options.runs):
            for way in WAYS:
                if len(found.get(way.name, ())) > turn:
                    continue
                target = folder / "run"
                out = _python("--worker", way.name, "--folder", target, "--blocks", options.blocks)
                shutil.rmtree(target, ignore_errors=True)
                if out is None:
                    continue
                found.setdefault(way.name, []).append(json.loads(out))
                print(f"round {turn}: {way.name}: {found[way.name][-1]}", file=sys.stderr, flush=True)
                kept.save()
        for way in WAYS:
            if way.read and way.name in found and way.name not in kills:
                kills[way.name] = _kills(way, folder, options.kills)
                kept.save()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report, bars = _table(found, kills), _bars(found)
    print(report)
    print(bars)
    if options.markdown is not None:
        put_between(options.markdown, "recording", report)
    if options.bars is not None:
        put_between(options.bars, "recording bars", bars)


class _Kept:
    """What was found, in a file where one is given: a run that was cut short goes on from there."""

    def __init__(self, place: Path | None) -> None:
        self._place = place
        held = json.loads(place.read_text()) if place is not None and place.exists() else {}
        self.found: dict[str, list[dict[str, Any]]] = held.get("found", {})
        self.kills: dict[str, str] = held.get("kills", {})

    def save(self) -> None:
        if self._place is not None:
            self._place.write_text(json.dumps({"found": self.found, "kills": self.kills}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2, help="rounds over all ways (default 2)")
    parser.add_argument(
        "--blocks", type=int, default=3, help=f"pairs of blocks of {STEPS} steps in each (default 3)"
    )
    parser.add_argument("--kills", type=int, default=20, help="kill -9 that each way gets (default 20)")
    parser.add_argument("--folder", type=Path, default=None, help="where rows are written")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep figures there, and go on from them")
    parser.add_argument("--markdown", type=Path, help="put the table into this file too")
    parser.add_argument("--bars", type=Path, help="put what is to be reached into this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--victim", help=argparse.SUPPRESS)
    return parser.parse_args()


def _way(name: str) -> Way:
    return next(way for way in WAYS if way.name == name)


def _python(*arguments: Any) -> str | None:
    """What the script prints; None, with a word, where it fails."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},  # or waiting threads of PyTorch count as work
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        print(f"{arguments[1]}: left out: {last}", file=sys.stderr)
        return None
    return done.stdout


def _model() -> Any:
    """A transformer of 9.7 million parameters in 64 tensors."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = torch.nn.Embedding(2000, 384)
            self.places = torch.nn.Embedding(128, 384)
            layer = torch.nn.TransformerEncoderLayer(384, 6, 1536, 0.0, batch_first=True)
            self.layers = torch.nn.TransformerEncoder(layer, 5, enable_nested_tensor=False)
            self.norm = torch.nn.LayerNorm(384)

        def forward(self, text: Any) -> Any:
            x = self.tokens(text) + self.places(torch.arange(text.shape[1]))
            return self.norm(self.layers(x)) @ self.tokens.weight.T

    torch.manual_seed(0)
    return Model()


def _train(way: Way, folder: Path, blocks: int) -> dict[str, Any]:
    """Blocks of steps without and with a way, in turn."""
    import torch

    model = _model()
    parameters = list(model.parameters())
    plain = torch.optim.AdamW(parameters, lr=1e-4)
    logged = torch.optim.AdamW(parameters, lr=1e-4)
    text = torch.randint(0, 2000, (16, 129))
    taken: dict[bool, list[float]] = {False: [], True: []}
    learning, used = {False: 0.0, True: 0.0}, {False: 0.0, True: 0.0}
    step, bare = 0, 0

    def run(with_it: bool, *, learns: bool) -> None:
        """One step; one that learns nothing has the gradients of the one before."""
        nonlocal step, bare
        optimizer, take = (logged, kept) if with_it else (plain, lambda _: None)
        if learns:
            optimizer.zero_grad(set_to_none=False)
            out = model(text[:, :-1])
            torch.nn.functional.cross_entropy(out.flatten(0, 1), text[:, 1:].flatten()).backward()
        take(step)
        optimizer.step()
        step += with_it

    for _ in range(3):
        run(False, learns=True)
    with way.attach(folder, model, logged) as kept:
        for _ in range(STEPS):  # files and threads are made, kernels are compiled
            run(True, learns=True)
        for _ in range(blocks):
            for with_it in (False, True):
                started = time.process_time()
                for _ in range(STEPS):
                    began = time.perf_counter()
                    run(with_it, learns=True)
                    taken[with_it].append(time.perf_counter() - began)
                learning[with_it] += time.process_time() - started
        # A row costs less than steps differ from one another: its cost is found without the model.
        for _ in range(blocks):
            for with_it in (False, True):
                started = time.process_time()
                for _ in range(2 * STEPS):
                    run(with_it, learns=False)
                    bare += with_it
                used[with_it] += time.process_time() - started
        started = time.process_time()
    used[True] += time.process_time() - started  # what was still to be written
    rows = step / way.every
    size = sum(p.numel() for p in parameters) * 4 / 1e6
    return {
        "step": mean(taken[False]),
        "ratio": mean(taken[True]) / mean(taken[False]),
        "cpu_ratio": 1 + (used[True] - used[False]) / bare / (learning[False] / len(taken[False])),
        "worst": max(taken[True]) / median(taken[False]),
        "cpu_ms_mb": 1e3 * (used[True] - used[False]) / (bare / way.every * size),
        "mb_row": size_of(folder) / 1e6 / rows if folder.exists() else 0.0,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "row_mb": size,
    }


def _run_until_killed(way: Way, folder: Path) -> None:
    """Steps of a small model, whose gradients tell the step; tells each step that was done."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Linear(256, 64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with way.attach(folder, model, optimizer) as take:
        for step in range(10**9):
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, _gradient_at(step))
            take(step)
            optimizer.step()
            os.write(1, f"{step}\n".encode())


def _gradient_at(step: int) -> float:
    """The number of the step, as far as bfloat16 can tell it."""
    return float(step % 128)


def _kills(way: Way, folder: Path, kills: int) -> str:
    """What is left of the rows of steps that were done."""
    assert way.read is not None
    unreadable, wrong, lost = 0, 0, []
    chance = random.Random(0)
    for turn in range(kills):
        target = folder / f"kill{turn}"
        child = subprocess.Popen(
            [sys.executable, __file__, "--victim", way.name, "--folder", str(target)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert child.stdout is not None
        for _ in range(30):
            child.stdout.readline()
        time.sleep(chance.uniform(0, 0.2))
        child.send_signal(signal.SIGKILL)
        done = 30 + len(child.stdout.read().splitlines())
        child.wait()
        rows = way.read(target)
        shutil.rmtree(target, ignore_errors=True)
        if rows is None:
            unreadable += 1
            continue
        expected = range(0, done, way.every)
        wrong += sum(value != _gradient_at(step) for step, value in rows.items())
        lost.append(sum(step not in rows for step in expected))
    words = f"{min(lost)}-{max(lost)} rows lost" if not unreadable else f"unreadable {unreadable} of {kills}"
    return words + (f", {wrong} wrong" if wrong else "")


def _median(found: dict[str, list[dict[str, Any]]], way: str, key: str) -> float:
    return median(sample[key] for sample in found[way])


def _bars(found: dict[str, list[dict[str, Any]]]) -> str:
    """What recording may cost, and what it does."""
    bytes_cost = _median(found, "torch.save", "cpu_ms_mb")
    rows = _median(found, "record", "peak_mb") - _median(found, "no logging", "peak_mb")
    held = (
        (
            "every row, float32: CPU-ms/MB",
            _median(found, "record", "cpu_ms_mb"),
            FULL_ROW * bytes_cost,
            ".2f",
        ),
        ("every=10: x CPU of a step", _median(found, "record, every=10", "cpu_ratio"), EVERY_TENTH, ".3f"),
        (
            "project=4096: x CPU of a step",
            _median(found, "record, project=4096", "cpu_ratio"),
            PROJECTED,
            ".3f",
        ),
        ("memory above the loop's, in rows", rows / found["record"][0]["row_mb"], ROWS_HELD, ".1f"),
    )
    return markdown_table(
        ["", "measured", "bar", ""],
        [
            [what, f"{value:{form}}", f"{bar:{form}}", "met" if value <= bar else "**missed**"]
            for what, value, bar, form in held
        ],
    )


def _table(found: dict[str, list[dict[str, Any]]], kills: dict[str, str]) -> str:
    base = _median(found, "no logging", "peak_mb")
    lines = [
        "| way | x step | x CPU | worst step | CPU-ms/MB | MB/row | rows in memory | after kill -9 | |",
        "|---|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for way in WAYS:
        if way.name not in found:
            continue
        samples = found[way.name]
        ratio, share, worst, cost, size, peak, row = (
            median(sample[key] for sample in samples)
            for key in ("ratio", "cpu_ratio", "worst", "cpu_ms_mb", "mb_row", "peak_mb", "row_mb")
        )
        lines.append(
            f"| {way.name} | {ratio:.2f} | {share:.3f} | {worst:.2f} | {cost:.1f} | {size:.1f} "
            f"| {(peak - base) / row:.1f} | {kills.get(way.name, '')} | {way.note} |"
        )
    step = median(sample["step"] for samples in found.values() for sample in samples)
    row = found["no logging"][0]["row_mb"]
    head = (
        f"A step of a transformer of {row / 4:.1f} million parameters at 16 x 128 tokens takes {step:.2f} s; "
        f"a row of float32 is {row:.1f} MB. *x step*: time with it over time without, which differs by some "
        "percent from block to block of steps; *x CPU*: by what its own work adds to the processor time "
        "of a step, found without the model (`OMP_WAIT_POLICY=passive`: threads of PyTorch that turn while "
        "they wait are no work); *CPU-ms/MB*: that work, of a row's gradients as float32."
    )
    return f"{head}\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
