"""Record the sample logs: three small training runs, each as a gradient log of format 1.

    pip install -e '.[samples]'
    python sample_logs/make_samples.py                       # all three, beside this script
    python sample_logs/make_samples.py mlp-gd --out /some/folder

Every run is seeded and trains on one CPU thread with deterministic algorithms: the same machine and the same
versions of torch and scikit-learn record the same bytes. Other versions or processors round differently.

What is logged is what each optimizer step used. Then each log is laid out in chunks of its own kind.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import sklearn
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from gradmf import gradlog

Batch = tuple[Tensor, Tensor]


def record(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    attributes: dict[str, Any],
    *,
    every: int = 1,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    **layout: Any,
) -> None:
    """Train `model` on `batches` and log every `every`-th gradient; `layout` goes to `rechunk_log`."""
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        recorded = Path(folder) / "recorded.zarr"
        with gradlog.record(recorded, model, optimizer, every=every, attributes=attributes) as recorder:
            for inputs, targets in batches:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())
                loss.backward()
                losses.append(loss.item())
                recorder.note(loss=losses[-1])
                optimizer.step()
                if schedule is not None:
                    schedule.step()
        shutil.rmtree(path, ignore_errors=True)
        gradlog.rechunk_log(recorded, path, **layout)
    parameters = sum(p.numel() for p in model.parameters())
    final = sum(losses[-20:]) / 20
    print(f"{path.name}: {parameters} parameters, {len(losses)} steps, loss {losses[0]:.3f} -> {final:.3f}")


# The digits: one perceptron, trained twice from the same weights

MLP_STEPS = 400
MLP_TRAINING = 1500  # images; the other 297 tell how well it learnt
MLP_RATE = 0.1


def digits() -> tuple[Batch, Batch]:
    """scikit-learn's 8 x 8 digits in 0..1 with their labels: for training, and held out."""
    data = load_digits()
    images = torch.tensor(data.data / 16.0, dtype=torch.float32)
    labels = torch.tensor(data.target)
    return (images[:MLP_TRAINING], labels[:MLP_TRAINING]), (images[MLP_TRAINING:], labels[MLP_TRAINING:])


def record_mlp(path: Path, method: str, batches: Iterable[Batch], batch_size: int, **layout: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 10))
    attributes = {
        "model": "MLP 64-16-16-10, tanh",
        "optimizer": method,
        "learning_rate": MLP_RATE,
        "batch_size": batch_size,
        "data": f"scikit-learn {sklearn.__version__} digits, first {MLP_TRAINING} images",
        "seed": 0,
    }
    record(path, model, torch.optim.SGD(model.parameters(), lr=MLP_RATE), batches, attributes, **layout)
    _, (images, labels) = digits()
    with torch.no_grad():
        accuracy = (model(images).argmax(dim=1) == labels).float().mean().item()
    print(f"  held-out accuracy {accuracy:.3f}")


def record_mlp_sgd(path: Path) -> None:
    """Minibatches without replacement, shuffled anew each epoch."""
    batch_size = 32
    (images, labels), _ = digits()

    def batches() -> Iterator[Batch]:
        shuffle = torch.Generator().manual_seed(1)
        order = torch.empty(0, dtype=torch.int64)
        for _ in range(MLP_STEPS):
            if len(order) < batch_size:
                order = torch.randperm(MLP_TRAINING, generator=shuffle)
            chosen, order = order[:batch_size], order[batch_size:]
            yield images[chosen], labels[chosen]

    record_mlp(path, "SGD", batches(), batch_size, chunk_rows=100)


def record_mlp_gd(path: Path) -> None:
    """The whole training set at every step; chunks are also split along the parameters."""
    training, _ = digits()
    batches = (training for _ in range(MLP_STEPS))
    record_mlp(path, "gradient descent", batches, MLP_TRAINING, chunk_rows=200, chunk_bytes=320_000)


# The Zen: a character transformer

LM_STEPS = 800
LM_WARMUP = 40
LM_RATE = 1e-2
LM_CONTEXT = 32
LM_WIDTH = 12
LM_HEADS = 2
LM_BATCH = 16


def zen() -> str:
    """The Zen of Python from module `this`: the same 856 characters in Python 3.6 to 3.13 at least."""
    with contextlib.redirect_stdout(io.StringIO()):  # importing it prints it
        import this
    return "".join(this.d.get(character, character) for character in this.s)


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(LM_WIDTH, 3 * LM_WIDTH, bias=False)
        self.proj = nn.Linear(LM_WIDTH, LM_WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, LM_HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a norm and beside a residual path."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(LM_WIDTH)
        self.attn = Attention()
        self.norm2 = nn.RMSNorm(LM_WIDTH)
        hidden = 3 * LM_WIDTH
        self.mlp = nn.Sequential(
            nn.Linear(LM_WIDTH, hidden, bias=False), nn.GELU(), nn.Linear(hidden, LM_WIDTH, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class CharLM(nn.Module):
    """Two blocks; the output layer is the embedding times a learnt scale, a 0-d parameter."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(characters, LM_WIDTH)
        self.position = nn.Embedding(LM_CONTEXT, LM_WIDTH)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm = nn.RMSNorm(LM_WIDTH)
        self.logit_scale = nn.Parameter(torch.tensor(1 / math.sqrt(LM_WIDTH)))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.position.weight
        for block in self.blocks:
            x = block(x)
        return self.logit_scale * F.linear(self.norm(x), self.embed.weight)


def record_charlm_adamw(path: Path) -> None:
    """Random windows of the text, rate warmed up and then lowered along a cosine; every fifth gradient."""
    text = zen()
    alphabet = sorted(set(text))
    tokens = torch.tensor([alphabet.index(character) for character in text])
    torch.manual_seed(0)
    model = CharLM(len(alphabet))

    def batches() -> Iterator[Batch]:
        draw = torch.Generator().manual_seed(1)
        for _ in range(LM_STEPS):
            starts = torch.randint(len(tokens) - LM_CONTEXT, (LM_BATCH, 1), generator=draw)
            windows = tokens[starts + torch.arange(LM_CONTEXT + 1)]
            yield windows[:, :-1], windows[:, 1:]

    def rate(step: int) -> float:
        """Share of the peak rate: up in a line, down to a tenth along a cosine."""
        if step < LM_WARMUP:
            return (step + 1) / LM_WARMUP
        return 0.55 + 0.45 * math.cos(math.pi * (step - LM_WARMUP) / (LM_STEPS - LM_WARMUP))

    optimizer = torch.optim.AdamW(model.parameters(), lr=LM_RATE, weight_decay=0.01)
    attributes = {
        "model": f"character transformer, 2 blocks, width {LM_WIDTH}, {LM_HEADS} heads, context {LM_CONTEXT}",
        "optimizer": "AdamW",
        "learning_rate": LM_RATE,
        "schedule": f"linear warm-up over {LM_WARMUP} steps, then cosine to a tenth",
        "weight_decay": 0.01,
        "batch_size": LM_BATCH,
        "data": f"the Zen of Python (module this), {len(text)} characters",
        "seed": 0,
    }
    record(
        path,
        model,
        optimizer,
        batches(),
        attributes,
        every=5,
        schedule=torch.optim.lr_scheduler.LambdaLR(optimizer, rate),
        chunk_rows=96,
        compress=True,
    )


SAMPLES: dict[str, Callable[[Path], None]] = {
    "mlp-sgd": record_mlp_sgd,
    "mlp-gd": record_mlp_gd,
    "charlm-adamw": record_charlm_adamw,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Record the sample gradient logs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SAMPLES)}; default: all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the logs")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(SAMPLES))
    if unknown:
        parser.error(f"no such sample: {', '.join(unknown)}")
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or SAMPLES:
        SAMPLES[name](arguments.out / f"{name}.zarr")


if __name__ == "__main__":
    main()
