"""Figures of chapter "Attention and memory"."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rwkv_explainer.drawing.live import Live, Number, fixed, live_bars, live_heatmap, live_lines, side_by_side, wrap
from rwkv_explainer.drawing.sliders import BUILDING, Sliders, slide

__all__ = ["live_attention", "live_fading", "live_gains", "live_order", "live_shares", "side_by_side", "touch_memory"]


@dataclass(frozen=True)
class Buckets:
    """A memory of one channel as two buckets a token: what is in `contents` and in `normalizer` when it is read.

    book/_static/buckets.js draws the same with other numbers.
    """

    weights: tuple[Number, ...] = (1, 2, 1, 4)
    values: tuple[Number, ...] = (6, 3, 5, 1)
    kept: Number = 0.5  # what is left of every past weight when a token is written
    chosen: int = 4  # the token up to which is drawn, and of which the caption tells

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.values):
            raise ValueError(f"Buckets: expected a weight for each of {len(self.values)} values, got {self.weights}")

    @property
    def alt(self) -> str:
        reads = ", ".join(rounded(sum(contents) / (sum(weights) or 1)) for contents, weights in map(self.at, self.ages))
        return f"Two buckets for each token, contents and normalizer, in layers by token; their ratio is read: {reads}."

    @property
    def ages(self) -> range:
        return range(self.chosen)

    def at(self, token: int) -> tuple[list[Number], list[Number]]:
        """Each token's part of `contents` and of `normalizer` as one token (from 0) reads them, its own included.

        The newest past token has not faded yet.
        """
        weights = [w * self.kept ** max(token - 1 - j, 0) for j, w in enumerate(self.weights[: token + 1])]
        return [w * v for w, v in zip(weights, self.values)], weights

    @property
    def caption(self) -> str:
        contents, weights = self.at(self.chosen - 1)
        past = [rounded(sum(parts[:-1])) for parts in (contents, weights)]
        own = [rounded(parts[-1]) for parts in (contents, weights)]
        if not sum(weights):
            return f"Token {self.chosen} reads nothing yet: no token so far has a weight."
        return (
            f"Token {self.chosen} reads ({past[0]} + {own[0]}) / ({past[1]} + {own[1]}) = "
            f"{rounded(sum(contents) / sum(weights))}: what the past has left and what the token brings, contents over "
            f"normalizer. The first token still has a share of {percent(weights[0] / sum(weights))} in it."
        )

    def picture(self) -> str:
        limits = [most(sum(self.at(t)[n]) for t in range(len(self.values))) for n in (0, 1)]
        return f'<div class="bk-row">{"".join(self.column(t, limits) for t in range(len(self.values)))}</div>'

    def column(self, token: int, limits: list[Number]) -> str:
        """One token: its two buckets, what it brings, and what it reads."""
        parts = self.at(token)
        buckets = "".join(bucket(name, *of) for name, *of in zip(("contents", "normalizer"), parts, limits))
        total = sum(parts[1])
        read = rounded(sum(parts[0]) / total) if total else "–"
        later = " bk-later" * (token >= self.chosen) + " bk-chosen" * (token + 1 == self.chosen)
        own = f"{rounded(self.weights[token])} × {rounded(self.values[token])}"
        return (
            f'<div class="bk-token{later}"><div class="bk-pair">{buckets}</div>'
            f'<span><i style="background:var(--rwkv-hue-{token + 1})"></i>token {token + 1}</span><span>{own}</span>'
            f"<span>reads <b>{read}</b></span></div>"
        )

    def _repr_html_(self) -> str:
        numbers = {"weights": self.weights, "values": self.values, "kept": self.kept, "chosen": self.chosen}
        html = wrap(self.picture(), self.alt, self.caption, numbers, BUCKET_CONTROLS)
        return BUCKET_STYLE + html.replace('class="rwkv-live"', 'class="rwkv-live rwkv-buckets"', 1)


def bucket(name: str, parts: list[Number], limit: Number) -> str:
    """A bucket filled by each token's part, the oldest at the bottom."""
    layers = "".join(
        f'<i style="height:{fixed(100 * part / limit, 2)}%;background:var(--rwkv-hue-{token + 1})"></i>'
        for token, part in reversed(list(enumerate(parts)))
    )
    filled = f"{rounded(sum(parts[:-1]))} + {rounded(parts[-1])}"  # from the past, and by the current token
    return f'<div><b>{filled}</b><div class="bk-bucket">{layers}</div><small>{name}</small></div>'


def most(totals: Iterable[Number]) -> float:
    """The height of a bucket: 8, doubled until everything fits, so that the scale seldom jumps."""
    height, highest = 8.0, max(totals)
    while height < highest:
        height *= 2
    return height


def rounded(value: Number) -> str:
    """With two digits after the point at most."""
    return fixed(value, 2).rstrip("0").rstrip(".")


def percent(share: Number) -> str:
    return f"{fixed(100 * share, 0)}%"


BUCKET_CONTROLS = (
    '<div class="lv-controls" hidden>'
    + "".join(
        f'<label><span>{label}: <span class="lv-value"></span></span>'
        f'<input type="range" name="{name}" min="{low}" max="{high}" step="{step}" autocomplete="off"></label>'
        for label, name, low, high, step in (
            ("up to token", "chosen", 1, 4, 1),
            ("its weight", "weight", 0, 8, 1),
            ("its value", "value", 0, 8, 1),
            ("the past keeps", "kept", 0, 1, 0.05),
        )
    )
    + "</div>"
)
BUCKET_STYLE = """<style>
.rwkv-live.rwkv-buckets .lv-controls:not([hidden]) { display: grid; max-width: 30rem; }
.rwkv-live.rwkv-buckets .lv-controls label { display: grid; grid-template-columns: 11rem minmax(0, 1fr); }
.rwkv-live.rwkv-buckets .lv-value { min-width: 0; }
.rwkv-live.rwkv-buckets .lv-controls input[type=range] { width: 100%; }
.rwkv-buckets .bk-row { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: .2rem;
  text-align: center; }
.rwkv-buckets .bk-token { display: flex; flex-direction: column; gap: .1rem; padding: .3rem 0; border-radius: 6px; }
.rwkv-buckets .bk-token > span { font-variant-numeric: tabular-nums; }
.rwkv-buckets .bk-token > span > i { display: inline-block; width: .7em; height: .7em; border-radius: 2px;
  margin-right: .3em; }
.rwkv-buckets .bk-later, .rwkv-buckets .bk-later .bk-bucket i { visibility: hidden; }
.rwkv-buckets .bk-later .bk-bucket { visibility: visible; opacity: .15; }
.rwkv-buckets .bk-chosen { outline: 1px solid var(--rwkv-faint); }
.rwkv-buckets .bk-pair { display: flex; justify-content: center; gap: .4rem; }
.rwkv-buckets .bk-pair > div { width: 40%; max-width: 4.6rem; }
.rwkv-buckets .bk-pair b { font-weight: normal; font-size: .85em; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.rwkv-buckets .bk-pair small { display: block; font-size: .75rem; margin: 0 -.4rem; }
.rwkv-buckets .bk-bucket { height: 7rem; display: flex; flex-direction: column; justify-content: flex-end;
  border: 2px solid var(--rwkv-ink); border-top: 0; border-radius: 0 0 6px 6px; overflow: hidden; }
.rwkv-buckets .bk-bucket i { display: block; flex: none; forced-color-adjust: none; }
@container (max-width: 32rem) {
  .rwkv-buckets .bk-row { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .rwkv-buckets .bk-bucket { height: 5rem; }
}
</style>"""


def touch_memory() -> Buckets | Sliders:
    """Four tokens go into a memory of one channel.

    On a page each of them has a weight and a value to drag. In a notebook the sliders move the last one.
    """
    return Buckets() if os.environ.get(BUILDING) else slide(buckets_at, **NOTEBOOK_RANGES)


NOTEBOOK_RANGES = {"up_to_token": (1, 4), "last_weight": (0, 8), "last_value": (0, 8), "left_after_a_token": (0.0, 1.0)}


def buckets_at(
    up_to_token: int = 4, last_weight: int = 4, last_value: int = 1, left_after_a_token: float = 0.5
) -> Buckets:
    """The four tokens, cut off after one of them, with another last one."""
    weights, values = [1, 2, 1, last_weight], [6, 3, 5, last_value]
    return Buckets(tuple(weights), tuple(values), left_after_a_token, up_to_token)


def live_fading(half_life: float = 2.0) -> Live:
    """How much a token still counts after each further token, for one half-life beside a short and a long one.

    Args:
        half_life: in tokens, above 0.
    """
    rate = math.log(2) / half_life
    at = [n / 8 for n in range(161)]  # up to 20 tokens
    lines = {
        "rate 2": [math.exp(-2 * age) for age in at],
        f"your rate, {rate:.3g}": [math.exp(-rate * age) for age in at],
        "rate 0.05": [math.exp(-0.05 * age) for age in at],
    }
    return live_lines(
        at,
        lines,
        xlabel="tokens since it was written",
        ylabel="what is left of a weight",
        ylim=(0, 1),
        caption=f"A rate of {rate:.3g}, a log_decay of {math.log(rate):.2f}, keeps {math.exp(-rate):.0%} of a weight "
        f"with each token: half of it is gone after {half_life:g} tokens.",
    )


def live_gains(before: Float[Tensor, "layers channels"], after: Float[Tensor, "layers channels"]) -> Live:
    """How the factors exp(log_gain) are spread over a model's channels, before and after training.

    Args:
        before: the `log_gain` of every channel at the start.
        after: the same after training.
    """
    edges = [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 2.0, math.inf]
    names = ["below 0.05", *(f"{low:g} to {high:g}" for low, high in zip(edges[1:-2], edges[2:-1])), "above 2"]

    def spread(log_gains: Tensor) -> list[float]:
        factors = log_gains.exp()
        return [((low <= factors) & (factors < high)).double().mean().item() for low, high in zip(edges, edges[1:])]

    middle = after.exp().median()
    return live_bars(
        {"trained": spread(after), "before training": spread(before)},
        names,
        limits=(0, 1),
        caption="Shares of all channels by exp(log_gain), the factor on the current token's weight. The median is "
        f"{middle:.2f} after training, and was {before.exp().median():.2f} before.",
    )


def live_order(rate: float = 3.0) -> Live:
    """What a token reads of itself and of three before it, all with equal keys, in the right order and the other one.

    Args:
        rate: of the channel.
    """
    ages = torch.tensor([2.0, 1.0, 0.0])  # of the past: the newest has not faded
    right = torch.cat([-rate * ages, torch.zeros(1)]).softmax(0)
    other = torch.cat([-rate * (ages + 1), torch.zeros(1)]).softmax(0)
    return live_bars(
        {"RWKV-4": right, "decay, then read": other},
        ["third-last", "second-last", "previous", "current"],
        limits=(0, 1),
        caption=f"At rate {rate:g} RWKV-4 takes {right[2]:.0%} from the previous token, as much as from the current "
        f"one; the other order takes {other[2]:.0%}.",
    )


def live_attention(weights: Float[Tensor, "time time"], tokens: Sequence[str], title: str, caption: str) -> Live:
    """A map of shares: readers down, what they read across.

    Args:
        weights: row i holds the share that each token has in what token i reads; each row sums to 1.
        tokens: their names.
        title: what reads.
        caption: the finding.
    """
    cells = weights.masked_fill(torch.ones_like(weights).triu(1).bool(), torch.nan)  # (time, time)
    label = f"{title}: shares in percent, readers down, what they read across"
    return live_heatmap(cells, tokens, tokens, label=label, caption=caption, limits=(0, 1))


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
        caption=f"{title + ': ' * bool(title)}the largest shares in the last row are those of {found}.",
        limits=(0, 1),
    )
