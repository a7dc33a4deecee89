"""Figures of chapter "The whole model"."""

import matplotlib
import matplotlib.font_manager
import matplotlib.patches
import matplotlib.path
import matplotlib.ticker
from matplotlib.figure import Figure

from rwkv_explainer.drawing.figure import Plot, draw
from rwkv_explainer.drawing.palette import Theme

__all__ = ["plot_parameter_shares"]


def plot_parameter_shares(counts: dict[str, dict[str, int]]) -> Plot:
    """Where models keep their parameters: a bar for each model, divided among the kinds.

    Args:
        counts: for each model's name, how many parameters each kind has; every model has the same kinds.
    """
    kinds = list(next(iter(counts.values())))
    totals = {name: sum(own.values()) for name, own in counts.items()}

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        left = dict.fromkeys(counts, 0.0)
        for kind in kinds:
            shares = {name: counts[name][kind] / totals[name] for name in counts}
            bars = axes.barh(list(counts), list(shares.values()), left=list(left.values()), label=kind, height=0.6)
            labels = [f"{share:.0%}" if share > 0.05 else "" for share in shares.values()]
            axes.bar_label(bars, labels, label_type="center", color=theme.ground)
            left = {name: left[name] + shares[name] for name in counts}
        axes.set_yticks(range(len(counts)), [f"{name}\n{total / 1e6:,.0f} million" for name, total in totals.items()])
        axes.invert_yaxis()
        axes.grid(False)
        axes.set(xlabel="share of the parameters", xlim=(0, 1))
        axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.2)

    found = "; ".join(
        f"{name} has {totals[name] / 1e6:,.0f} million, "
        + ", ".join(f"{kind} {count / totals[name]:.1%}" for kind, count in own.items())
        for name, own in counts.items()
    )
    return draw(
        paint,
        f"Bars for {len(counts)} models, each divided by where its parameters are: {found}.",
        size=(6.4, 1.5 + 0.75 * len(counts)),
    )
