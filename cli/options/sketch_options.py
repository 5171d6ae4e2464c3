"""Options of random projections."""

from __future__ import annotations

import click

seed = click.option(
    "--seed",
    type=click.IntRange(0, (1 << 64) - 1),
    default=0,
    show_default=True,
    metavar="S",
    help="Seed of the random projection.",
)

projections = (
    click.option(
        "--sketch-dim",
        type=int,
        metavar="M",
        help="With --rank sketch: dimension of the random projection, a power of two.  "
        "[default: 1024, or less where memory is short]",
    ),
    seed,
    click.option(
        "--project",
        type=int,
        metavar="M",
        help="Estimate path lengths too, with errors, from a random projection of tensors to M dimensions.",
    ),
)
