"""Figures of chapter "Causal trace". In all of them layers go up and tokens go to the right, as what is said does."""

from collections.abc import Mapping, Sequence

import matplotlib.patches
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, draw, legend_above, panels, title_above, whole_numbers
from rwkv_explainer.drawing.live import Live, Number, live_bars, live_heatmap
from rwkv_explainer.drawing.palette import Theme
from rwkv_explainer.drawing.sliders import Moving, Sliders, slide

__all__ = [
    "live_columns",
    "live_draws",
    "live_map",
    "live_reach",
    "live_severed",
    "plot_role_curves",
    "plot_three_runs",
    "reach",
    "touch_reach",
]

WORDS = ("The", " Eiffel", " Tower", " is", " located", " in", " the", " city", " of")
LAYERS = 8
CHANGED = ("activation and state", "activation", "state")


# ---------------------------------------------------------------------------------------------------------------------
# the grid, before anything is measured


def reach(tokens: int, layers: int, token: int, layer: int, changed: str) -> Float[Tensor, "tokens layers"]:
    """Which activations a change of one cell can reach, as 1 and 0; token and layer count from 0.

    An activation is read by the layer above, whose state changes with it, and a state by the same layer at the next
    token. So what is written goes up at its own token, and from then on to the right and up.

    Args:
        changed: one of `CHANGED`.

    Raises:
        ValueError: if it is none of them.
    """
    if changed not in CHANGED:
        raise ValueError(f"changed: expected one of {', '.join(CHANGED)}, got {changed}")
    reached = torch.zeros(tokens, layers)
    if changed != "state":
        reached[token, layer:] = 1
        reached[token + 1 :, layer + 1 :] = 1
    if changed != "activation":
        reached[token + 1 :, layer:] = 1
    return reached


def live_reach(token: str = "Tower", layer: int = 4, changed: str = "activation and state") -> Live:
    """The cells that a change of one cell can reach, in a model of eight layers."""
    names = [word.strip() for word in WORDS]
    place = names.index(token)
    reached = reach(len(WORDS), LAYERS, place, layer - 1, changed)
    count, answer = int(reached.sum()), bool(reached[-1, -1])
    return live_map(
        reached,
        WORDS,
        range(3),
        label="1: a change can reach this cell. Layers go up, words to the right; ★ is the subject",
        limits=(0, 1),
        digits=0,
        caption=f"Change the {changed} of layer {layer} at {token}: {count} of {reached.numel()} activations can "
        f"change with it, and the answer {'can, too' if answer else 'cannot'}.",
    )


def touch_reach() -> Sliders | Moving:
    """The same with a choice of the cell, and of what is changed there."""
    return slide(live_reach, token=[word.strip() for word in WORDS], layer=(1, LAYERS), changed=list(CHANGED))


def plot_three_runs(words: Sequence[str] = ("The", "Eiffel", "Tower", "is in", "of"), layers: int = 4) -> Plot:
    """The clean, the corrupted and the restored run, each a grid of cells with its arrows up and to the right."""
    subject, restored = range(3), (2, 2)  # tokens; token and layer
    names = ("clean:\nall is kept", "corrupted:\nnoise on the subject", "restored:\ncorrupted but for one cell")

    def paint(figure: Figure, theme: Theme) -> None:
        for run, axes in enumerate(panels(figure, 3, share="xy")):
            axes.set_title(names[run])
            axes.set_axis_off()
            axes.set(xlim=(-0.6, len(words) - 0.2), ylim=(-1.25, layers + 0.3))
            after = reach(len(words), layers, *restored, "activation and state")  # (tokens, layers)
            for t, word in enumerate(words):
                hidden = run > 0 and t in subject
                axes.text(t, -0.95, word, ha="center", va="center", fontsize="small")
                axes.text(t, -0.5, "≋" if hidden else "·", ha="center", va="center", color=theme.hues[1])
                for layer in range(layers):
                    cell(axes, theme, t, layer, state_of(run, (t, layer), restored, after), len(words))
            axes.text(len(words) - 1, layers - 0.35, ("Paris", "?", "Paris?")[run], ha="center", va="bottom")

    return draw(
        paint,
        "Three grids of cells, words to the right and layers up; from each cell an arrow goes up, the activation, and "
        "one to the right, the state. In the clean run all cells are kept, and it ends in Paris. In the corrupted run "
        "the subject's three words are under noise, all cells differ, and it ends in a question mark. In the restored "
        f"run one cell, layer {restored[1] + 1} at {words[restored[0]]}, is as in the clean run; the cells above it "
        "and to the right of it may change.",
        size=(7.2, 2.9),
        caption="Three runs make a trace. Each cell is a layer at a word. It sends its activation up, and its state "
        "to the right. Blue: as in the clean run. Orange: changed by the noise. Green: the cells that the restored one "
        "can reach.",
    )


def state_of(run: int, at: tuple[int, int], restored: tuple[int, int], after: Tensor) -> int:
    """The hue of a cell: 0 as in the clean run, 1 changed by the noise, 2 changed by what was restored."""
    if run == 0 or (run == 2 and at == restored):
        return 0
    return 2 if run == 2 and after[at] else 1


def cell(axes: Axes, theme: Theme, t: int, layer: int, hue: int, words: int) -> None:
    """One cell and its two arrows."""
    axes.add_patch(matplotlib.patches.Circle((t, layer), 0.17, color=theme.hues[hue], linewidth=0))
    arrow = {"arrowstyle": "-|>", "color": theme.hues[hue], "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (t, layer + 0.75), (t, layer + 0.22), arrowprops=arrow)
    if t < words - 1:
        axes.annotate("", (t + 0.78, layer), (t + 0.22, layer), arrowprops=arrow)


# ---------------------------------------------------------------------------------------------------------------------
# one fact


def live_map(
    grid: Float[Tensor, "tokens layers"],
    tokens: Sequence[str],
    subject: range | None = None,
    label: str = "",
    limits: tuple[Number, Number] | None = None,
    caption: str = "",
    digits: int | str = "%",
) -> Live:
    """A causal trace as a map: layers go up, tokens to the right, and the subject's tokens have a star."""
    names = [token.strip() + ("★" if subject and i in subject else "") for i, token in enumerate(tokens)]
    layers = [str(i) for i in range(grid.shape[1], 0, -1)]
    return live_heatmap(grid.T.flip(0), layers, names, label=label, limits=limits, caption=caption, digits=digits)


def live_draws(whole: float, draws: Mapping[str, Float[Tensor, "_"]], answer: str, hidden: str = "noise of 3") -> Live:
    """What each corrupted run leaves of the answer, one bar a draw, from the least to the most.

    Args:
        whole: the answer's probability in the clean run.
        draws: its probabilities in the corrupted runs, by what hid the subject.
        hidden: which of them is shown.
    """
    shown = draws[hidden].sort().values
    left = int((shown > 0.5).sum())
    spread = shown.std().item() if len(shown) > 1 else 0.0
    return live_bars(
        shown,
        [f"draw {i + 1}" for i in range(len(shown))],
        limits=(0, 1),
        caption=f"{answer} behind {hidden}: {shown.mean():.2f} on average, where the clean run has {whole:.2f}, so the "
        f"total effect is {whole - shown.mean():.2f}. The standard deviation over {len(shown)} draws is {spread:.2f}; "
        f"in {left} of them {answer} keeps more than half.",
    )


def live_severed(
    left: Mapping[str, Float[Tensor, "tokens layers"]], tokens: Sequence[str], whole: float, layer: int = 1
) -> Live:
    """What is left of the answer when one layer's state is another one after one word.

    Args:
        left: by what took the state's place, the answer's probability for each token and layer.
        tokens: those after which it was replaced.
        whole: the answer's probability in the clean run.
        layer: which one, from 1.
    """
    shown = {name: grid[:, layer - 1] for name, grid in left.items()}
    least = {name: values.min().item() for name, values in shown.items()}
    at = {name: tokens[int(values.argmin())].strip() for name, values in shown.items()}
    told = "; ".join(f"{name}, {least[name]:.2f} after {at[name]}" for name in shown)
    return live_bars(
        shown,
        tokens,
        limits=(0, 1),
        digits=2,
        caption=f"Layer {layer} severed. The whole model has {whole:.2f}; the least that is left: {told}.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# many facts


def plot_role_curves(
    mean: Float[Tensor, "roles layers"],
    error: Float[Tensor, "roles layers"],
    roles: Sequence[str],
    counts: Sequence[int],
    what: str,
    total: float,
) -> Plot:
    """The effect of each role by layer: the mean over many facts, and a band of one standard error.

    Args:
        counts: facts that have a token of the role.
        what: was measured.
        total: effect, the mean over the facts.
    """
    layer = torch.arange(1, mean.shape[1] + 1)
    present = [i for i in range(len(roles)) if mean[i].isfinite().all()]

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for i in present:
            axes.plot(layer, mean[i], label=f"{roles[i]}, {counts[i]}", color=theme.hues[i])
            low, high = mean[i] - error[i], mean[i] + error[i]
            axes.fill_between(layer, low, high, color=theme.hues[i], alpha=0.18, linewidth=0)
        axes.set(xlabel="layer", ylabel="probability")
        title_above(figure, what)
        whole_numbers(axes.xaxis)
        legend_above(axes, columns=2)

    peaks = [(mean[i].max().item(), roles[i], int(mean[i].argmax()) + 1) for i in present]
    most, role, at = max(peaks)
    return draw(
        paint,
        "A line for each role of a token, by layer, with bands of one standard error. Peaks: "
        + "; ".join(f"{name} {value:.2f} in layer {i}" for value, name, i in peaks)
        + ".",
        size=(6.4, 4.2),
        caption=f"{what}. Most, {most:.2f} of a total effect of {total:.2f}, at the {role} in layer {at}. Behind each "
        "role stands how many facts have it; a band is one standard error of the mean.",
    )


def live_columns(
    shares: Sequence[Float[Tensor, "_ layers"]],
    names: Sequence[str],
    answers: Sequence[str],
    least: float,
    states: str = "one layer",
) -> Live:
    """For each fact and layer the least share of the total effect that comes back at any word between.

    Args:
        least: of the total effect, that a column brings back.
        states: of how many layers were restored together, from the layer upward.
    """
    worst = torch.stack([share.amin(dim=0) for share in shares])  # (facts, layers)
    best = worst.max(dim=1)  # values and layers: (facts,)
    order = sorted(range(len(worst)), key=lambda i: (best.values[i] < least, int(best.indices[i]), -best.values[i]))
    columns = int((best.values >= least).sum())
    return live_heatmap(
        worst[order].clamp(min=0),
        [f"{names[i].removeprefix('The ')[:18]}: {answers[i][:10]}" for i in order],
        [str(i + 1) for i in range(worst.shape[1])],
        label=f"layer; the least share of the total effect that the states of {states} bring back at any word between, "
        "in percent",
        limits=(0, 1),
        caption=f"{columns} of {len(worst)} facts have a column where the states of {states} are restored: at least "
        f"{least:.0%} at every word between. They stand first, by layer.",
    )
