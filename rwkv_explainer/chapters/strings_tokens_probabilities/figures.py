"""Figures of chapter "Strings, tokens, probabilities"."""

from jaxtyping import Float
from matplotlib.figure import Figure
from tokenizers import Tokenizer
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, draw, title_above
from rwkv_explainer.drawing.palette import Theme
from rwkv_explainer.tokens import token_name


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
        panels = figure.subplots(1, len(distributions), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (name, shape) in zip(panels, distributions.items()):
            axes.barh(range(k), shape[top])
            axes.barh(k, others[name], color=theme.hues[1])
            axes.set(title=name)
            axes.grid(False, axis="y")
            axes.tick_params(left=False)
        panels[0].set_yticks(range(k + 1), [*names, "all others"], parse_math=False)
        panels[0].set_xlim(0, 1)
        panels[0].set_xticks([0, 0.5, 1], ["0", "½", "1"])
        panels[0].invert_yaxis()
        figure.get_layout_engine().set(wspace=0.08)
        figure.supxlabel("probability of being drawn", fontsize=11)
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
    )
