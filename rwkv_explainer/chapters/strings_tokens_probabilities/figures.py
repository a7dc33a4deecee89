"""Figures of chapter "Strings, tokens, probabilities"."""

from collections.abc import Sequence

from jaxtyping import Float
from matplotlib.figure import Figure
from tokenizers import Tokenizer
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, draw, panels, title_above
from rwkv_explainer.drawing.live import Live, live_bars
from rwkv_explainer.drawing.palette import Theme
from rwkv_explainer.tokens import token_name

__all__ = ["live_by_temperature", "plot_by_temperature"]


def plot_by_temperature(
    distributions: dict[str, Float[Tensor, " vocabulary"]], tokenizer: Tokenizer, k: int = 8, title: str = ""
) -> Plot:
    """One distribution in several shapes, side by side: the likeliest tokens, and all others together.

    Args:
        distributions: for each shape's name, the probability of every token; each sums to 1.
        tokenizer: it knows the tokens' names.
        k: how many tokens to show; they are the likeliest of the first shape.
        title: above the panels.
    """
    top = next(iter(distributions.values())).topk(k).indices
    names = [token_name(token_id, tokenizer) for token_id in top.tolist()]
    others = {name: 1 - shape[top].sum().item() for name, shape in distributions.items()}

    def paint(figure: Figure, theme: Theme) -> None:
        columns = panels(figure, len(distributions), share="xy")
        for axes, (name, shape) in zip(columns, distributions.items()):
            axes.barh(range(k), shape[top])
            axes.barh(k, others[name], color=theme.hues[1])
            axes.set(title=name)
            axes.grid(False, axis="y")
            axes.tick_params(left=False)
        columns[0].set_yticks(range(k + 1), [*names, "all others"])
        columns[0].set_xlim(0, 1)
        columns[0].set_xticks([0, 0.5, 1], ["0", "½", "1"])
        columns[0].invert_yaxis()
        figure.get_layout_engine().set(wspace=0.08)
        figure.supxlabel("probability of being drawn", fontsize="medium")
        title_above(figure, title)

    found = "; ".join(
        f"{name}, {names[0]} has {shape[top[0]]:.2f} and all others together {others[name]:.2f}, "
        f"spread over {int((shape > 0).sum()) - int((shape[top] > 0).sum())} tokens"
        for name, shape in distributions.items()
    )
    return draw(
        paint,
        f"{title + ': ' if title else ''}panels side by side, each with bars for the same {k} tokens and one for all "
        f"others: {found}.",
        caption="Of all throws, the last bar gets "
        + ", ".join(f"{share:.0%} at {name}" for name, share in others.items())
        + ".",
    )


def live_by_temperature(
    distributions: dict[str, Float[Tensor, " vocabulary"]],
    tokenizer: Tokenizer,
    k: int = 8,
    title: str = "",
    thrown: Sequence[int] = (),
) -> Live:
    """One distribution in several shapes, a bar each: the likeliest tokens, and all others together.

    Args:
        distributions: for each shape's name, the probability of every token; each sums to 1.
        tokenizer: it knows the tokens' names.
        k: how many tokens to show; they are the likeliest of the first shape.
        title: what the caption begins with.
        thrown: ids that were drawn from the last shape; the caption names them.
    """
    top = next(iter(distributions.values())).topk(k).indices
    names = [token_name(token_id, tokenizer) for token_id in top.tolist()]
    shares = {
        name: [*shape[top].tolist(), max(0.0, 1 - shape[top].sum().item())] for name, shape in distributions.items()
    }
    name, shape = list(distributions.items())[-1]
    count = int((shape > 0).sum())
    drawn = ", ".join(token_name(token_id, tokenizer) for token_id in thrown)
    return live_bars(
        shares,
        [*names, "all others"],
        caption=f"{title + ': ' * bool(title)}{name} leaves {count:,} token{'s' * (count > 1)} to draw from, and "
        f"{names[0]} is drawn with {shape[top[0]]:.1%}." + f" {len(thrown)} throws: {drawn}." * bool(thrown),
        limits=(0, 1),
    )
