"""Figures that more than one chapter shows."""

from collections.abc import Sequence

import matplotlib
import matplotlib.font_manager
import matplotlib.patches
import matplotlib.path
import matplotlib.ticker
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from tokenizers import Tokenizer
from torch import Tensor

from rwkv_explainer.drawing.figure import (
    Plot,
    color_layers,
    draw,
    label_tokens,
    legend_above,
    title_above,
)
from rwkv_explainer.drawing.live import Live, live_bars
from rwkv_explainer.drawing.palette import Theme
from rwkv_explainer.tokens import token_name

__all__ = [
    "live_top_tokens",
    "plot_half_lives_before_after",
    "plot_kept_per_token",
    "plot_read_shares",
]


def plot_read_shares(shares: dict[str, Float[Tensor, " time"]], tokens: Sequence[str], title: str = "") -> Plot:
    """Bars side by side: for each reader, how much of what it read came from each token.

    Args:
        shares: for each reader's name, the share of every token in what it read; each sums to 1.
        tokens: their names.
    """
    width = 0.8 / len(shares)

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for n, (name, share) in enumerate(shares.items()):
            places = [place + (n - (len(shares) - 1) / 2) * width for place in range(len(tokens))]
            axes.bar(places, share.tolist(), width, label=name)
        axes.set(ylabel="share of what is read")
        title_above(figure, title)
        axes.grid(False, axis="x")
        label_tokens(axes, tokens)
        legend_above(axes)

    found = "; ".join(
        f"{name} takes most from {tokens[int(share.argmax())].strip()} ({share.max():.0%}) and {share[-1]:.0%} from "
        "the last token"
        for name, share in shares.items()
    )
    return draw(paint, f"Bars for the share that each of {len(tokens)} tokens has in what is read: {found}.")


def plot_kept_per_token(decays: Float[Tensor, "layers channels"], title: str = "") -> Plot:
    """The paper's Figure 10: what is left of a weight after one token, each layer's channels sorted.

    Args:
        decays: between 0 and 1, as `decay.kept_per_token` returns them.
    """
    layers = len(decays)
    ordered = decays.sort(dim=-1, descending=True).values  # (layers, channels)

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for curve, color in zip(ordered, color_layers(figure, axes, layers)):
            axes.plot(curve, color=color, linewidth=1.8)
        axes.set(xlabel="channel, sorted", ylabel="left after one token", ylim=(-0.02, 1.04), title=title)

    first, last = decays[0].mean(), decays[-1].mean()
    return draw(
        paint,
        f"{layers} falling curves, one a layer, of what is left of a weight after one token, channels sorted: from "
        f"near {ordered.max():.2f} down to near {ordered.min():.2f}. The mean is {first:.2f} in the first layer and "
        f"{last:.2f} in the last.",
    )


def live_top_tokens(
    probabilities: Float[Tensor, " vocabulary"], tokenizer: Tokenizer, k: int = 10, title: str = ""
) -> Live:
    """The likeliest next tokens as bars that a page draws, and a bar for all others together.

    Args:
        probabilities: for every token of the vocabulary, summing to 1.
        tokenizer: it knows their names.
        k: how many tokens to show.
        title: what the caption begins with.
    """
    top = probabilities.topk(min(k, len(probabilities)))
    names = [token_name(token_id, tokenizer) for token_id in top.indices.tolist()]
    others = max(0.0, 1 - top.values.sum().item())
    found = f"{names[0]} comes first with {top.values[0]:.1%}; all but the {len(names)} shown have {others:.1%}."
    return live_bars(
        [*top.values.tolist(), others],
        [*names, "all others"],
        caption=f"{title + ': ' * bool(title)}{found}",
        limits=(0, 1),
        digits="%1",
    )


def plot_half_lives_before_after(
    before: Float[Tensor, "layers channels"], after: Float[Tensor, "layers channels"], start: str = "before training"
) -> Plot:
    """Each channel's half-life after training, and what it is compared with, a dot each, on logarithmic axes.

    Args:
        start: what `before` is, in words.
    """
    layers = len(before)
    low, high = min(before.min(), after.min()).item() / 2, max(before.max(), after.max()).item() * 2

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for x, y, color in zip(before, after, color_layers(figure, axes, layers)):
            # each dot is a line without length: hundreds of them in one path, where scatter takes an element a dot
            points = torch.stack([x, y], dim=1).repeat_interleave(2, dim=0)  # (channels times 2, 2)
            dots = matplotlib.path.Path(points, [matplotlib.path.Path.MOVETO, matplotlib.path.Path.LINETO] * len(x))
            dots.should_simplify = False
            style = {"color": color, "alpha": 0.7, "linewidth": 2.6, "capstyle": "round", "fill": False}
            axes.add_patch(matplotlib.patches.PathPatch(dots, **style))
        axes.plot([low, high], [low, high], color=theme.ink, linewidth=1, linestyle="--")
        axes.set(
            xscale="log",
            yscale="log",
            xlabel=f"half-life {start}, in tokens",
            xlim=(low, high),
            ylim=(low, high),
            ylabel="after training, in tokens",
        )
        axes.annotate(
            "the same", (high, high), ha="right", va="top", xytext=(-28, -2), textcoords="offset points", fontsize=10
        )

    change = (after / before).log2()
    spread = before.log2() - before.log2().mean()
    slope = 1 + (spread * change).sum() / (spread**2).sum()  # of the line nearest to the dots
    return draw(
        paint,
        f"A dot for each of {before.numel()} channels, its half-life {start} across and after training up. They "
        f"follow a line of slope {slope:.2f}, where the diagonal has 1; half of them are within a factor of "
        f"{2 ** change.abs().median():.2f} of the diagonal, and {(change > 0).double().mean():.0%} lie above it.",
        size=(6.4, 4.6),
    )
