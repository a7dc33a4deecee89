"""Figures of chapter "Attention and memory"."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, draw, label_tokens, legend_above, whole_numbers
from rwkv_explainer.drawing.live import Live, live_heatmap
from rwkv_explainer.drawing.palette import Theme

__all__ = ["live_shares", "plot_fading", "plot_running_average"]


def plot_fading(rates: Sequence[float], ages: int = 20) -> Plot:
    """How much a token still counts after each further token, for each decay rate.

    Args:
        rates: decay rates per token, above 0; the weight is multiplied by exp(-rate) with every token.
        ages: how many tokens to follow it for.
    """
    age = torch.arange(ages + 1)
    between = torch.linspace(0, ages, 20 * ages + 1)
    half_lives = [torch.log(torch.tensor(2.0)).item() / rate for rate in rates]

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for rate, half_life in zip(rates, half_lives):
            (curve,) = axes.plot(
                between, torch.exp(-rate * between), label=f"rate {rate:g}: {half_life:.1f} tokens to half"
            )
            axes.plot(age, torch.exp(-rate * age), "o", markersize=3, color=curve.get_color())
        axes.set(xlabel="tokens since it was written", ylabel="weight left", ylim=(-0.02, 1.05))
        whole_numbers(axes.xaxis)
        axes.legend()

    words = "; ".join(f"at rate {r:g} half of it is gone after {h:.1f} tokens" for r, h in zip(rates, half_lives))
    return draw(paint, f"Curves that fall from 1 towards 0 as a written token ages: {words}.")


def plot_running_average(
    values: Float[Tensor, " time"],
    weights: Float[Tensor, "time time"],
    averages: Float[Tensor, " time"],
    tokens: Sequence[str],
) -> Plot:
    """A memory of one channel at work: what was written, and the average that was read.

    Args:
        values: what each token wrote.
        weights: row i holds the share that each token has in the average read at token i; each row sums to 1.
        averages: what was read at each token.
        tokens: their names.
    """
    last = weights[-1]
    top = int(last.argmax())

    def paint(figure: Figure, theme: Theme) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        upper.plot(averages, label="average read")
        upper.plot(values, "o", label="value written")
        upper.set_ylabel("value")
        legend_above(upper)
        lower.grid(False)
        bottom = torch.zeros(len(values))
        for j in range(len(values)):
            hue = theme.hues[2] if j == top else theme.faint
            lower.bar(
                range(len(values)),
                weights[:, j],
                bottom=bottom,
                width=0.8,
                color=hue,
                edgecolor=theme.ground,
                linewidth=0.8,
                label=f"share of {tokens[j].strip()}" if j == top else None,
            )
            bottom = bottom + weights[:, j]
        lower.set(ylabel="shares", ylim=(0, 1))
        legend_above(lower)
        label_tokens(lower, tokens)

    return draw(
        paint,
        f"Above, dots for the values that {len(values)} tokens wrote, and the line of the average read after each: it "
        f"moves towards every new value and ends at {averages[-1]:.2f}. Below, a column for each moment, divided among "
        f"the tokens by their share in the average: in the last one, token {top + 1} ({tokens[top]}) has the largest, "
        f"{last[top]:.0%}.",
        size=(6.4, 4.6),
    )


def live_shares(weights: Float[Tensor, "time time"], tokens: Sequence[str], title: str = "") -> Live:
    """What one channel reads at each token: readers down, what they read across.

    Args:
        weights: row i holds the share that each token has in the average read at token i; each row sums to 1.
        tokens: their names.
        title: of the channel.
    """
    last = weights[-1]
    order = last.argsort(descending=True)[:3].tolist()
    found = ", ".join(f"{tokens[n].strip()} {last[n]:.0%}" for n in order)
    cells = weights.masked_fill(torch.ones_like(weights).triu(1).bool(), torch.nan)  # (time, time)
    return live_heatmap(
        cells,
        tokens,
        tokens,
        label="share of each token in what is read, in percent: readers down, what they read across",
        caption=f"{title + ': ' * bool(title)}after the last token, most of what is read comes from {found}.",
        limits=(0, 1),
    )
