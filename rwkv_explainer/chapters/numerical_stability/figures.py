"""Figures of chapter "Numerical stability"."""

import math
from functools import cache

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, draw, legend_above
from rwkv_explainer.drawing.live import Live, live_heatmap, live_lines
from rwkv_explainer.drawing.palette import Theme
from rwkv_explainer.model import StableWKVMemory, WKVMemory

__all__ = ["live_common_key", "live_key_ranges", "live_slow_average", "plot_climbing_keys"]

KEYS = (0, 1, -1, 3, 0, -2, 1, 0, 2, -1)  # ten tokens, some louder than others
VALUES = (6, 3, 5, 1, 8, 2, 7, 4, 9, 0)
HALF_LIFE = 3  # tokens
FORMS = {
    "float64": (WKVMemory, torch.float64),
    "float32": (WKVMemory, torch.float32),
    "bfloat16": (WKVMemory, torch.bfloat16),
    "float16": (WKVMemory, torch.float16),
    "float16, safe": (StableWKVMemory, torch.float16),
}


@cache  # the page's slider asks for each, and a claim asks for all of them again
def live_common_key(added_to_every_key: int = 0) -> Live:
    """What ten tokens read, in each type of float, when all their keys are raised or lowered by the same number."""
    keys = [key + added_to_every_key for key in KEYS]
    reads = {name: read_through(kind, dtype, keys) for name, (kind, dtype) in FORMS.items()}
    lost = {name: sum(not math.isfinite(read) for read in row) for name, row in reads.items()}
    broken = ", ".join(f"{name} at {count}" for name, count in lost.items() if count)
    told = f"there is no number at some of the {len(keys)} tokens: {broken}" if broken else "every cell has its number"
    low, high = (str(key).replace("-", "−") for key in (min(keys), max(keys)))
    return live_heatmap(
        list(reads.values()),
        list(reads),
        [str(key).replace("-", "−") for key in KEYS],
        label="what each token reads; above it its key, to which the slider adds; an empty cell is no number",
        caption=f"With keys from {low} to {high}, {told}. The averages should not depend on what the slider adds.",
        alt=f"A table with a column for each of {len(keys)} tokens and a row for each type of float; {told}.",
        limits=(0, max(VALUES)),
        digits=1,
    )


@torch.no_grad()
def read_through(kind: type[WKVMemory | StableWKVMemory], dtype: torch.dtype, keys: list[int]) -> list[float]:
    """What each token reads in a channel of this kind of memory, in this type of float."""
    memory = kind(1).to(dtype)
    memory.log_decay.fill_(math.log(math.log(2) / HALF_LIFE))
    memory.clear_buffers()
    pairs = torch.tensor([keys, VALUES], dtype=dtype).T  # (time, 2)
    return [memory(key[None], value[None]).item() for key, value in pairs]


def plot_climbing_keys(
    keys: Float[Tensor, " time"], exact: Float[Tensor, " time"], reads: dict[str, Float[Tensor, " time"]]
) -> Plot:
    """What a memory reads while its keys climb, a panel for each way of computing it; gaps where it is not a number.

    Args:
        keys: one for each token, from small to large.
        exact: what should be read.
        reads: what each way reads.
    """
    lost = {name: ~read.isfinite() for name, read in reads.items()}

    def paint(figure: Figure, theme: Theme) -> None:
        panels = figure.subplots(len(reads), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (name, read) in zip(panels, reads.items()):
            axes.plot(keys, exact, color=theme.ink, linewidth=1, label="the right answer")
            axes.plot(keys, read, ".", color=theme.hues[1], markersize=5, label="what is read")
            axes.fill_between(
                keys,
                0,
                1,
                where=lost[name].numpy(),
                transform=axes.get_xaxis_transform(),
                color=theme.faint,
                alpha=0.6,
                linewidth=0,
                label="not a number",
            )
            axes.set_ylabel(name)
            axes.grid(False)
        panels[-1].set(xlabel="key")
        legend_above(panels[0])

    ends = "; ".join(
        f"{name}, from {keys[~gone].min():.0f} to {keys[~gone].max():.0f}" if not gone.all() else f"{name}, nowhere"
        for name, gone in lost.items()
    ).replace("-", "−")
    found = "; ".join(
        f"{name}, "
        + (f"from {keys[~gone].min():.0f} to {keys[~gone].max():.0f}" if not gone.all() else "nowhere")
        + (f", up to {(read - exact)[~gone].abs().max():.1g} off there" if not gone.all() else "")
        for (name, read), gone in zip(reads.items(), lost.values())
    )
    return draw(
        paint,
        f"A wave, and dots for what memories read of it while their keys climb from {keys[0]:.0f} to "
        f"{keys[-1]:.0f}. Numbers are read for these keys only: {found}.",
        size=(6.4, 4.8),
        caption=f"Dots stand where a number is read; where the paper is gray, it is nan. There are numbers for these "
        f"keys: {ends}. The average itself needs no such range.",
    )


def live_key_ranges(
    keys: Float[Tensor, "layers n"], log_sums: Float[Tensor, " layers"], overflow: float, underflow: float, far: float
) -> Live:
    """Each layer's smallest and largest key and its largest sum, between the ends of float16.

    Args:
        keys: all of a layer's keys.
        log_sums: the logarithm of the largest sum that the layer's memory held.
        overflow, underflow: the logarithms of float16's largest number, and of the smallest that is not rounded to 0.
        far: the logarithm of float32's largest number, which is told and not drawn.
    """
    layers = torch.arange(1, len(keys) + 1)
    low, high = keys.amin(dim=1), keys.amax(dim=1)
    series = {
        "float16 overflows": torch.full(layers.shape, overflow),
        "the largest sum": log_sums,
        "the largest key": high,
        "the smallest key": low,
        "float16 underflows": torch.full(layers.shape, underflow),
    }
    past = int((log_sums > overflow).sum())
    told = f"In {past} of {len(keys)} layers" if past else "In no layer"
    return live_lines(
        layers,
        series,
        xlabel="layer",
        ylabel="exponent: e to this number",
        xlim=(0.5, len(keys) + 0.5),
        dots=list(series)[1:4],
        names=[str(layer) for layer in layers.tolist()],
        digits=1,
        alt=f"Dots for each of {len(keys)} layers, between two lines where float16 ends, at {underflow:.1f} and "
        f"{overflow:.1f}. Smallest keys: {low.min():.1f} to {low.max():.1f}; largest keys: {high.min():.1f} "
        f"to {high.max():.1f}; logarithms of the largest sums: {log_sums.min():.1f} to {log_sums.max():.1f}.".replace(
            "-", "−"
        ),
        caption=f"{told} the largest sum is too large for float16, which ends at {overflow:.1f}. Float32 and bfloat16 "
        f"end at {far:.1f}, far above the picture: its highest dot is at {max(log_sums.max(), high.max()):.1f}.",
    )


def live_slow_average(reads: dict[str, Float[Tensor, " time"]], change: int, every: int = 20) -> Live:
    """What memories read whose values are 0 at first, and 1 from token `change` on.

    Args:
        reads: what each memory reads, by its name; the first one is right.
        change: the token from which on values are 1.
        every: which tokens are drawn: each twentieth, say.
    """
    exact, *others = reads.items()
    ends = ", ".join(f"{read[-1]:.2f} for {name}" for name, read in others)
    return live_lines(
        list(range(0, len(exact[1]), every)),
        {name: read[::every] for name, read in reads.items()},
        xlabel="token",
        ylabel="average read",
        ylim=(-0.03, 1.05),
        dots=[name for name, read in others if (read - exact[1]).abs().max() < 0.01],  # upon the line that is right
        caption=f"The values become 1 at token {change}. At the end {exact[0]} reads {exact[1][-1]:.2f}; the others "
        f"read {ends}.",
    )
