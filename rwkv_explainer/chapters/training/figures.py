"""Figures of chapter "Training"."""

import itertools
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

from rwkv_explainer.drawing.figure import Plot, draw, legend_above
from rwkv_explainer.drawing.palette import Theme
from rwkv_explainer.lab.record import Record

__all__ = ["plot_birth", "plot_loss_curve", "plot_training_curves"]


def plot_birth(record: Record, prompts: Sequence[str]) -> Plot:
    """How facts are born: the probability of their answers over the steps of training, and what is recalled in all.

    Args:
        record: of a run, as `load_record` reads it.
        prompts: some of the facts that the record follows, in the words in which it asks.

    Raises:
        ValueError: for a prompt that the record does not ask.
    """
    answers = dict(record.asked["facts"])
    facts = {f"{prompt} …{answers.get(prompt)}": record.fact(prompt)[0] for prompt in prompts}
    recall = {f"{phrasing} phrasings": record.recall(phrasing=phrasing) for phrasing in ("seen", "unseen")}

    def paint(figure: Figure, theme: Theme) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for axes, curves in ((upper, facts), (lower, recall)):
            for hue, (name, curve) in zip(itertools.cycle(theme.hues), curves.items()):
                axes.plot(record.steps, curve, color=hue, label=name)
            axes.set(ylim=(-0.03, 1.03), yticks=[0, 0.5, 1])
            legend_above(axes, columns=1 if axes is upper else 2)
        upper.set_ylabel("probability\nof the answer")
        lower.set(xlabel="step", ylabel="share of the\nsample recalled", xscale="symlog", xlim=(0, record.steps[-1]))
        lower.set_xticks([t for t in (0, 1, 10, 100, 1000, 10_000, 100_000) if t <= record.steps[-1]])
        lower.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%d"))

    told = "; ".join(f"{name}: {say_birth(record.steps, curve)}" for name, curve in facts.items())
    ends = ", ".join(f"{name} {curve[-1]:.0%}" for name, curve in recall.items())
    return draw(
        paint,
        f"Above, a curve for each of {len(facts)} facts, the probability of its answer over {record.steps[-1]} steps. "
        f"{told}. Below, the share of the sampled questions that are answered, at the end: {ends}.",
        size=(6.4, 4.2 + 0.25 * len(facts)),
    )


def say_birth(steps: Sequence[int], probabilities: Sequence[float]) -> str:
    """When an answer became, and stayed, more probable than all other answers together."""
    last_below = max((i for i, p in enumerate(probabilities) if p <= 0.5), default=-1)
    if last_below == len(steps) - 1:
        return f"at the end {probabilities[-1]:.2f}"
    return f"above one half from step {steps[last_below + 1]} on"


def plot_loss_curve(
    losses: Sequence[float], baselines: dict[str, float], rates: Sequence[float], window: int = 20
) -> Plot:
    """The loss of every step, its mean over the last few, and baselines, on a logarithmic axis; the learning rate.

    Args:
        losses: one a step, in nats per token.
        baselines: losses to compare with, by name.
        rates: the learning rate of every step, as a part of the highest.
        window: how many steps the mean is taken over; all of them if there are fewer.
    """
    window = min(window, len(losses))
    smooth = torch.tensor(losses).unfold(0, window, 1).mean(dim=1)  # (steps - window + 1,)

    def paint(figure: Figure, theme: Theme) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.grid(False)
        upper.set_yscale("log")
        upper.set_yticks([t for t in (0.2, 0.5, 1, 2, 5, 10) if min(baselines.values()) / 2 < t < losses[0] * 1.2])
        upper.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        upper.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        upper.plot(range(1, len(losses) + 1), losses, color=theme.hues[0], linewidth=0.5, alpha=0.5)
        upper.plot(range(window, len(losses) + 1), smooth, color=theme.hues[0], linewidth=1.8)
        highest = max(baselines.values())
        for hue, (name, loss) in zip(itertools.cycle(theme.hues[1:]), baselines.items()):
            upper.axhline(loss, color=hue, linestyle="--", linewidth=1.4)
            side, by = ("bottom", 3) if loss == highest else ("top", -3)
            upper.annotate(
                f"{name} {loss:.2f}",
                (1, loss),
                (0, by),
                ("axes fraction", "data"),
                "offset points",
                ha="right",
                va=side,
                color=theme.ink,
                fontsize=10,
            )
        lowest = min(min(baselines.values()), smooth.min().item())
        upper.set(ylabel="loss, nats per token", xlim=(0, len(rates)), ylim=(0.7 * lowest, 1.25 * losses[0]))
        lower.plot(range(1, len(rates) + 1), rates, color=theme.hues[0])
        lower.set(xlabel="step", ylabel="learning\nrate", ylim=(0, 1.15), yticks=[0, 1])

    passed = "; ".join(
        f"{name} at {loss:.2f}, "
        + (f"passed by step {int((smooth < loss).int().argmax()) + window}" if (smooth < loss).any() else "not reached")
        for name, loss in baselines.items()
    )
    return draw(
        paint,
        f"A falling curve, the loss over {len(losses)} steps, from {losses[0]:.2f} to {smooth[-1]:.2f}. Dashed lines: "
        f"{passed}. Below, the learning rate: a short ramp up, a plain, a ramp down to zero.",
        size=(6.4, 4.6),
    )


def plot_training_curves(steps: Sequence[int], curves: dict[str, Float[Tensor, " moments"]]) -> Plot:
    """Shares or probabilities, between 0 and 1, noted now and then in a training run."""

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for marker, (name, curve) in zip(itertools.cycle("osD^v"), curves.items()):
            axes.plot(steps, curve, marker=marker, markersize=4, label=name)
        axes.set(xlabel="step", ylabel="share, or probability", ylim=(-0.02, 1.05), xlim=(0, steps[-1]))
        legend_above(axes)

    found = []
    for name, curve in curves.items():
        over = curve > 0.5
        when = f"first over one half at step {steps[int(over.int().argmax())]}" if over.any() else "never over one half"
        found.append(f"{name}, {when}, {curve[-1]:.2f} at the end")
    return draw(paint, f"Curves over {steps[-1]} training steps: {'; '.join(found)}.")
