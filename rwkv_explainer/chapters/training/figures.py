"""Figures of chapter "Training"."""

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

import matplotlib
import matplotlib.font_manager
import matplotlib.patches
import matplotlib.path
import matplotlib.ticker
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, draw
from rwkv_explainer.drawing.live import Live, live_bars, live_heatmap, live_lines
from rwkv_explainer.drawing.palette import Theme
from rwkv_explainer.lab.record import Record
from rwkv_explainer.tokens import END_OF_TEXT

__all__ = [
    "SEAM",
    "birth",
    "first_words",
    "half_life_changes",
    "halfway",
    "live_births",
    "live_bits",
    "live_column",
    "live_half_lives",
    "live_known",
    "live_moment",
    "live_moves",
    "live_recall",
    "plot_loss_curve",
    "relations_asked",
    "stays",
    "until",
]

SHOWN = (  # facts whose birth the first figure shows, in the words in which a record asks
    "The Eiffel Tower is located in the city of",
    "Drosophila",
    "The Colosseum is located in the city of",
    "The capital of Japan is",
    "Tokyo is the capital of",
    "Kenya is a country in",
    "Who wrote Hamlet? It was",
    "A young cow is called a",
)
SAID = ("The Eiffel Tower is located in the city of", "In the early nineteenth century,")  # quoted below it
SEAM = 7_700  # the step from which on the bundled model read other sentences of the atlas; its card tells of it
WORDS = {"seen": "in words it has read", "unseen": "in words kept back", "foreign": "in another author's words"}


def halfway(record: Record) -> int:
    """The first moment at which half of the facts that `live_moment` shows are known; without one, the last."""
    known = [sum(p > 0.5 for p in probabilities(record, step).values()) for step in record.steps]
    return next((step for step, count in zip(record.steps, known) if 2 * count >= len(SHOWN)), record.steps[-1])


def probabilities(record: Record, step: int) -> dict[str, float]:
    """Of the facts that `live_moment` shows, the probability of the right answer after this many steps."""
    at, answers = record.steps.index(step), dict(record.asked["facts"])
    return {f"{answers[prompt].strip()}, after “{prompt}”": record.fact(prompt)[0][at] for prompt in SHOWN}


def live_moment(record: Record, step: int) -> Live:
    """What the model knew after this many steps of its training, and below, what it said.

    Args:
        record: of a run, as `load_record` reads it.
        step: one of the record's.
    """
    facts, line = probabilities(record, step), record.lines[record.steps.index(step)]
    said = dict(zip(record.asked["prompts"], line["says"]))
    quoted = "; ".join(f"“{prompt}” … “{first_words(said[prompt])}”" for prompt in SAID if prompt in said)
    known = sum(p > 0.5 for p in facts.values())
    when = f"After {step:,} steps" if step else "Before the first step"
    return live_bars(
        list(facts.values()),
        list(facts),
        limits=(0, 1),
        digits="%",
        caption=f"{when}: of these {len(facts)} answers {known} have a probability above one half, and a byte of "
        f"held-out text costs {line['bits']:.2f} bits. It goes on like this: {quoted}.",
        alt=f"A bar for each of {len(facts)} facts, the probability of the right answer {when.lower()}: "
        + ", ".join(f"{name} {p:.0%}" for name, p in facts.items())
        + ".",
    )


def until(record: Record, step: int) -> Record:
    """The record's moments up to this step."""
    return Record(record.asked, [line for line in record.lines if line["step"] <= step])


def first_words(text: str) -> str:
    """What a model said, up to the end of the text that it began, on one line."""
    told = text.partition(END_OF_TEXT)[0].replace("\n", " ").strip()
    return told or "(nothing: the text is over)"


def live_bits(record: Record, baselines: dict[str, float], seam: int | None = None) -> Live:
    """Held-out text becomes predictable: bits a byte over the steps of training, beside predictors that count.

    Args:
        record: of a run.
        baselines: bits a byte by name.
        seam: the step at which its reading changed, if it did.
    """
    steps, bits = after_the_first(record, record.column("bits"))
    since = {name: stays(steps, [-b for b in bits], -limit) for name, limit in baselines.items()}
    passed = [
        f"{name} ({limit:.2f}) {'never' if since[name] is None else f'by step {since[name]:,}'}"
        for name, limit in baselines.items()
    ]
    return over_steps(
        steps,
        {"our model": bits} | {name: [limit] * len(steps) for name, limit in baselines.items()},
        seam,
        ylabel="bits a byte of held-out text",
        xlog=True,
        caption=f"From {record.column('bits')[0]:.2f} bits a byte before the first step to {bits[-1]:.2f}. It passed "
        f"{', '.join(passed)}.",
    )


def live_recall(record: Record, seam: int | None = None) -> Live:
    """Recall over the steps of training: the share of sampled questions answered, by direction and kind of words.

    With a seam, the curves of words kept back end there, for from then on the run read these words, too.
    """
    kept = record if seam is None else until(record, seam)
    curves = {
        f"{direction}, {words}": (kept if phrasing == "unseen" else record).recall(
            direction=direction, phrasing=phrasing
        )
        for direction in ("forward", "inverse")
        for phrasing, words in WORDS.items()
    }
    ends = ", ".join(f"{name} {curve[-1]:.0%}" for name, curve in curves.items() if len(curve) == len(record.steps))
    ended = ", ".join(f"{name} {curve[-1]:.0%}" for name, curve in curves.items() if len(curve) < len(record.steps))
    return over_steps(
        record.steps,
        {name: [*curve, *[None] * (len(record.steps) - len(curve))] for name, curve in curves.items()},
        seam,
        ylabel="share of the sampled questions that are answered",
        ylim=(-0.03, 1.03),
        digits="%",
        caption=(f"Up to step {kept.steps[-1]:,}, before training drew these words, too: {ended}. " if ended else "")
        + f"What is answered after {record.steps[-1]:,} steps: {ends}.",
    )


def birth(record: Record, relation: str, direction: str) -> int | None:
    """The step from which on half of a relation's sampled questions are answered, in words that training uses."""
    return stays(record.steps, record.recall(relation, direction, "seen"), 0.5 - 1e-9)


def relations_asked(record: Record) -> dict[str, list[str]]:
    """The relations that a record asks about, each with its directions."""
    found: dict[str, list[str]] = {}
    for relation, direction, _ in (name.split("/") for name in record.asked["questions"]):
        found.setdefault(relation, [])
        found[relation] += [direction] if direction not in found[relation] else []
    return found


def live_births(record: Record, seam: int | None = None) -> Live:
    """For each relation and direction, the step from which on half of the sampled questions are answered."""
    births = {
        relation: {direction: birth(record, relation, direction) for direction in directions}
        for relation, directions in relations_asked(record).items()
    }
    names = sorted(births, key=lambda relation: births[relation]["forward"] or math.inf)
    came = [step for of in births.values() for step in of.values() if step is not None]
    every = sum(map(len, births.values()))
    later = sum(seam is not None and step > seam for step in came)
    return live_bars(
        {direction: [births[name].get(direction) for name in names] for direction in ("forward", "inverse")},
        [name.replace("-", " → ") for name in names],
        limits=(0, record.steps[-1]),
        digits=0,
        caption=f"The step from which on at least half of a relation's questions are answered. {len(came)} of {every} "
        f"come that far{f', {later} of them after step {seam:,}' if later else ''}; a dash stands for those that do "
        "not, and for a direction in which nothing is asked.",
    )


def live_half_lives(record: Record, seam: int | None = None) -> Live:
    """How half-lives leave their start: of each quantile of a layer's channels the change, averaged over layers."""
    names = ("the fastest", "lower quartile", "median", "upper quartile", "the slowest")
    change = half_life_changes(record)  # (moments, quantiles)
    steps = after_the_first(record, record.steps)[0]
    ends = ", ".join(f"{name} × {factor:.2f}" for name, factor in zip(names, change[-1].tolist()))
    return over_steps(
        steps,
        {name: after_the_first(record, change[:, i].tolist())[1] for i, name in enumerate(names)},
        seam,
        ylabel="half-life, as a multiple of the first one",
        xlog=True,
        ylim=(0, 1.1 * change.max().item()),
        digits=2,
        caption="Of each layer's channels, from the fastest to the slowest; the mean over the layers. At the end: "
        f"{ends}.",
    )


def half_life_changes(record: Record) -> Float[Tensor, "moments quantiles"]:
    """Each quantile of the half-lives as a multiple of what it was before the first step, by a geometric mean."""
    lives = torch.tensor(record.column("half_lives")).log()  # (moments, layers, quantiles)
    return (lives - lives[0]).mean(dim=1).exp()


def live_column(record: Record, step: int) -> Live:
    """The causal trace of the running example after this many steps: what each cell regains of the answer."""
    steps, grids = record.traces(0)
    grid = grids[steps.index(step)]  # (roles, layers)
    there = ~grid.isnan().all(dim=1)
    roles = [role for role, shown in zip(record.asked["roles"], there) if shown]
    clean = next(line["traces"][0]["clean"] for line in record.lines if line["step"] == step)
    when = f"After {step:,} steps" if step else "Before the first step"
    return live_heatmap(
        grid[there],
        roles,
        [f"layer {n}" for n in range(1, grid.shape[1] + 1)],
        label="probability of Paris that restoring a cell brings back, in percent: roles down, layers across",
        limits=(0, 1),
        caption=f"{when} the answer has {clean:.0%}. The cell that brings back most, "
        f"{max(0.0, grid[there].max().item()):.0%}, is {place(grid[there], roles)}.",
    )


def place(grid: Float[Tensor, "roles layers"], roles: Sequence[str]) -> str:
    """The largest cell in words."""
    at = int(grid.argmax())
    return f"the {roles[at // grid.shape[1]]} in layer {at % grid.shape[1] + 1}"


def stays(steps: Sequence[int], curve: Sequence[float], limit: float) -> int | None:
    """The first step from which on a curve stays above a limit; None if it ends below."""
    below = max((i for i, value in enumerate(curve) if value <= limit), default=-1)
    return None if below == len(curve) - 1 else steps[below + 1]


def over_steps(steps: Sequence[int], curves: dict[str, Sequence], seam: int | None, **how) -> Live:
    """Lines over the steps of training, drawn by `live_lines`; at a seam they are cut, and the axis names its step."""
    if seam is None or not steps[0] < seam < steps[-1]:
        return live_lines(steps, curves, xlabel="steps of training", **how)
    place = bisect_right(steps, seam)
    cut = {name: [*curve[:place], None, *curve[place:]] for name, curve in curves.items()}
    drawn = live_lines([*steps[:place], seam, *steps[place:]], cut, xlabel="steps of training", **how)
    along = math.log if how.get("xlog") else float
    room = 0.12 * (along(steps[-1]) - along(steps[0]))  # for the tick's number
    ticks = [tick for tick in drawn.data["xticks"] if abs(along(tick[0]) - along(seam)) > room]
    ticks = sorted([*ticks, [seam, f"{seam:,}"]])
    told = f"{drawn.caption} The lines are cut at step {seam:,}: from there on training drew other sentences."
    return replace(drawn, data=drawn.data | {"xticks": ticks}, caption=told)


def after_the_first(record: Record, curve: Sequence) -> tuple[list[int], list]:
    """The steps and numbers of a curve without step 0, for which a logarithmic axis has no place."""
    start = 1 if record.steps[0] == 0 else 0
    return list(record.steps[start:]), list(curve[start:])


def live_moves(steps: Sequence[int], moves: dict[str, Sequence[float | None]]) -> Live:
    """How far numbers moved in some steps of AdamW, in learning rates; None where none of a kind has moved yet."""
    begin, last = (
        ", ".join(f"{name} {values[i]:.2f}" for name, values in moves.items() if values[i] is not None) for i in (0, -1)
    )
    return live_lines(
        steps,
        moves,
        xlabel="step",
        ylabel="learning rates that a number moves",
        xlog=True,
        ylim=(0, 1.1 * max(move for values in moves.values() for move in values if move is not None)),
        digits=2,
        caption=f"The median move of each kind. At step {steps[0]}: {begin}. At step {steps[-1]:,}: {last}.",
    )


def live_known(steps: Sequence[int], curves: dict[str, Sequence[float]]) -> Live:
    """Shares or probabilities, between 0 and 1, noted now and then in a training run."""
    births = {name: stays(steps, curve, 0.5) for name, curve in curves.items()}
    found = "; ".join(
        f"{name}: {'below one half at the end' if at is None else f'above one half from step {at:,} on'}"
        for name, at in births.items()
    )
    return live_lines(
        steps,
        curves,
        xlabel="step",
        ylabel="share, or probability",
        ylim=(-0.03, 1.03),
        digits="%",
        caption=f"{found[0].upper()}{found[1:]}.",
    )


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
        caption=f"The loss of each step, thin, and the mean of {window}. After {len(losses):,} steps it is "
        f"{smooth[-1]:.2f}; the lowest of the dashed lines is at {min(baselines.values()):.2f}.",
    )
