"""Figures of chapter "Time-parallel mode"."""

from collections.abc import Sequence

import matplotlib
import matplotlib.font_manager
import matplotlib.patches
import matplotlib.path
import matplotlib.ticker
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, color_bar, draw, panels
from rwkv_explainer.drawing.palette import Theme

__all__ = ["plot_attention_cost", "plot_attention_matrices", "plot_chunks"]


def plot_attention_matrices(
    decays: dict[str, Float[Tensor, "time time"]], shares: dict[str, Float[Tensor, "time time"]], tokens: Sequence[str]
) -> Plot:
    """A memory's channels as attention matrices: readers down, what they read across. A row of two for each channel.

    Args:
        decays: for each channel's name, how much token j counts when token i reads, by its age alone.
        shares: for the same channels, the share that token j has then, its key included; each row sums to 1.
    """
    names = [token.strip() for token in tokens]

    def paint(figure: Figure, theme: Theme) -> None:
        matrices = figure.subplots(len(shares), 2, sharex=True, sharey=True, squeeze=False)
        for row, name in zip(matrices, shares):
            titles = f"{name}: by age", "by age and key"
            for axes, matrix, title in zip(row, (decays[name], shares[name]), titles):
                future = torch.ones_like(matrix).triu(1).bool()
                image = axes.imshow(matrix.masked_fill(future, torch.nan), cmap=theme.sequence, vmin=0, vmax=1)
                axes.set_title(title, fontsize=10)
                axes.grid(False)
            row[0].set_yticks(range(len(names)), names, fontsize=9)
        for axes in matrices[-1]:
            axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
        figure.supylabel("reader", fontsize="medium")
        figure.supxlabel("token read", fontsize="medium")
        color_bar(figure, image, matrices, "weight, share", shrink=0.5)

    found = "; ".join(
        f"in {name} the previous token has {matrix.diagonal(-1).mean():.0%} on average, the current one "
        f"{matrix.diagonal()[1:].mean():.0%}, and the last reader takes most from {names[int(matrix[-1].argmax())]} "
        f"({matrix[-1].max():.0%})"
        for name, matrix in shares.items()
    )
    return draw(
        paint,
        f"Triangular matrices of {len(names)} readers and what they read, two for each channel: weights "
        f"by age alone, equal down each diagonal, and shares with the keys, which raise or lower whole "
        f"columns. Shares: {found}.",
        size=(6.4, 2.45 * len(shares) + 0.7),
    )


def plot_chunks(time: int, chunk: int) -> Plot:
    """A drawing: what readers look at in one large matrix, and in chunks with a state between them."""
    i, j = torch.arange(time)[:, None], torch.arange(time)
    start = i // chunk * chunk  # of each reader's chunk
    whole = (j <= i).int()
    chunked = ((start <= j) & (j <= i)).int() + 2 * ((j == start - 1) & (i >= chunk)).int()

    def paint(figure: Figure, theme: Theme) -> None:
        colors = matplotlib.colors.ListedColormap(["none", theme.hues[0], theme.hues[1]])
        for axes, cells, title in zip(figure.subplots(1, 2), (whole, chunked), ("one matrix", f"chunks of {chunk}")):
            axes.pcolormesh(cells, cmap=colors, vmin=0, vmax=2, edgecolors=theme.faint, linewidth=0.6)
            axes.set(xlabel="token read", ylabel="reader", title=title, aspect="equal", xticks=[], yticks=[])
            axes.invert_yaxis()
            axes.grid(False)
        marks = [matplotlib.patches.Patch(color=theme.hues[n]) for n in range(2)]
        figure.legend(marks, ["a token", "all before the chunk, as one"], loc="outside lower left", ncols=2)

    return draw(
        paint,
        f"Two grids of {time} readers by {time} tokens. Left, one matrix: {int(whole.sum())} cells fill "
        f"the lower triangle. Right, chunks of {chunk}: {int((chunked == 1).sum())} cells in small "
        f"triangles along the diagonal, and in each later reader's row one cell that stands for all "
        f"before its chunk.",
        size=(6.4, 3.9),
    )


def plot_attention_cost(
    lengths: Sequence[int], ratios: dict[str, list[Float[Tensor, " rounds"]]], memory: Sequence[float]
) -> Plot:
    """Cost against length: how many times as much a Transformer's attention takes as RWKV's.

    Args:
        lengths: of the texts, in tokens.
        ratios: of the times, for each kind of work: one tensor a length, from the shortest on, with a ratio a round.
        memory: ratio of the numbers held, for each length.
    """

    def middle(rounds: list[Float[Tensor, " rounds"]]) -> list[float]:
        return [ratio.median().item() for ratio in rounds]

    def paint(figure: Figure, theme: Theme) -> None:
        left, right = panels(figure, 2, share="")
        for n, (name, rounds) in enumerate(ratios.items()):
            at = lengths[: len(rounds)]
            low, high = ([r.quantile(q) for r in rounds] for q in (0.25, 0.75))
            left.vlines(at, low, high, color=theme.hues[n], linewidth=1.5)
            left.plot(at, middle(rounds), "os"[n], linestyle="-", color=theme.hues[n], markersize=5, label=name)
        right.plot(lengths, memory, "D-", color=theme.hues[2], markersize=5)
        for axes, title in ((left, "time"), (right, "memory held")):
            axes.axhline(1, color=theme.ink, linewidth=1, linestyle=":")
            axes.set_xscale("log")
            axes.set_yscale("log")
            shown = lengths[::2] if len(lengths) > 4 else lengths
            axes.set_xticks(shown, [f"{n:,}" for n in shown])
            axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
            axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,g}×"))
            axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
            axes.set(xlabel="tokens", title=title)
        left.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        left.set_ylabel("Transformer ÷ RWKV")
        left.legend()

    found = "; ".join(
        f"{name}, {middle(rounds)[0]:.2g} at {lengths[0]:,} tokens and {middle(rounds)[-1]:.2g} at "
        f"{lengths[len(rounds) - 1]:,}"
        for name, rounds in ratios.items()
    )
    return draw(
        paint,
        f"Ratios against length, a Transformer's attention over RWKV's, on logarithmic axes. Time: "
        f"{found}. Memory held: {memory[0]:.2g} at {lengths[0]:,} tokens, {memory[-1]:,.0f} at "
        f"{lengths[-1]:,}.",
    )
