"""Figures of chapter "Embedding and unembedding"."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from rwkv_explainer.drawing.live import Live, fixed, live_bars, live_heatmap, wrap
from rwkv_explainer.drawing.sliders import BUILDING, Sliders, slide
from rwkv_explainer.lab.word_map import lay_flat, token_directions, words_of_kinds
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.tokens import token_name

__all__ = ["live_chance", "live_layer_norm", "live_row", "live_similarities", "live_softmax", "touch_words"]

WIDTH, HEIGHT = 704, 500  # pixels of the map at its widest, for which words are kept apart
LETTER, LINE = 6.6, 15  # pixels that a letter is wide, and a line high
WORDS, NEAREST = 6000, 5  # that can be asked for, and neighbors that are told of each


# ---------------------------------------------------------------------------------------------------------------------
# the map of words


@dataclass(frozen=True)
class WordMap:
    """Words on a map, and for each of them, and for more words, the tokens that the model finds most like it.

    book/_static/words.js chooses other words in the same way.
    """

    places: tuple[tuple[float, float], ...]  # of the words on the map: percent across, percent down
    kinds: tuple[int, ...]  # each one's kind, from 0
    names: tuple[str, ...]  # of the tokens that are told of: those on the map, others to ask for, others that are near
    nearest: tuple[tuple[tuple[int, float], ...], ...]  # of each that may be asked for: places in `names`, cosines
    vocabulary: int  # tokens in all
    chance: float  # the median cosine of a token and its nearest in a shuffled table
    chosen: int = 0  # a place in `nearest`

    @property
    def alt(self) -> str:
        return (
            f"{len(self.places)} words on a map, in the colors of their kinds: months, numbers, countries and others. "
            "Words that the model finds alike lie together."
        )

    @property
    def caption(self) -> str:
        found = ", ".join(f"{self.names[n]} {fixed(cosine, 2)}" for n, cosine in self.nearest[self.chosen])
        return (
            f"Of {self.vocabulary:,} tokens, these have the directions closest to that of {self.names[self.chosen]}, "
            f"each with its cosine: {found}. In a shuffled table, the closest has about {fixed(self.chance, 2)}."
        )

    def picture(self) -> str:
        near = {n for n, _ in self.nearest[self.chosen]}
        spans = "".join(
            f'<span class="{self.mark(n, near)}" style="left:{fixed(x, 1)}%;top:{fixed(y, 1)}%;'
            f'color:var(--rwkv-hue-{kind % 5 + 1})">{escape(self.names[n].strip("·"), quote=False)}</span>'
            for n, ((x, y), kind) in enumerate(zip(self.places, self.kinds))
        )
        return f'<div class="wm-map">{spans}</div>'

    def mark(self, n: int, near: set[int]) -> str:
        return "wm-chosen" if n == self.chosen else "wm-near" if n in near else ""

    def _repr_html_(self) -> str:
        asked = range(len(self.nearest))
        numbers = {
            "names": self.names,
            "near": [n for i in asked for n, _ in self.nearest[i]],
            "cosines": [round(100 * cosine) for i in asked for _, cosine in self.nearest[i]],
            "each": len(self.nearest[0]),
            "vocabulary": f"{self.vocabulary:,}",
            "chance": fixed(self.chance, 2),
            "chosen": self.chosen,
        }
        html = wrap(self.picture(), self.alt, self.caption, numbers, WORD_CONTROLS)
        return WORD_STYLE + html.replace('class="rwkv-live"', 'class="rwkv-live rwkv-words"', 1)


WORD_CONTROLS = (
    '<div class="lv-controls" hidden><label>Point at a word, or type one: '
    '<input type="text" size="14" autocomplete="off" autocapitalize="off" spellcheck="false"></label>'
    '<span class="wm-said" role="status"></span></div>'
)
WORD_STYLE = """<style>
.rwkv-words .wm-map { position: relative; width: 100%; aspect-ratio: 704 / 500; }
.rwkv-words .wm-map span { position: absolute; transform: translate(-50%, -50%); font-size: min(.78rem, 1.8cqi);
  line-height: 1.15; white-space: nowrap; cursor: pointer; }
.rwkv-words .wm-map .wm-chosen { outline: 2px solid var(--rwkv-hue-2); border-radius: 3px; padding: 0 .15em;
  font-weight: bold; z-index: 2; }
.rwkv-words .wm-map .wm-near { text-decoration: underline 2px; font-weight: bold; z-index: 1; }
@container (max-width: 34rem) {
  .rwkv-words .wm-map { aspect-ratio: 1; }
  .rwkv-words .wm-map span:not(.wm-chosen) { font-size: 0; width: .55rem; height: .55rem; border-radius: 50%;
    background: currentColor; forced-color-adjust: none; }
  .rwkv-words .wm-map span.wm-near { width: .8rem; height: .8rem; outline: 2px solid var(--rwkv-ink); }
  .rwkv-words .wm-map .wm-chosen { font-size: .8rem; background: var(--rwkv-ground); }
}
</style>"""


def touch_words(model: RWKVLM, tokenizer: Tokenizer, word: str = "June") -> WordMap | Sliders:
    """A map of words by the directions of their embeddings. On a page any word can be pointed at, or typed.

    In a notebook a list has the words of the map.

    Args:
        model: whose embedding it is.
        tokenizer: its own.
        word: that is chosen first, one of the map's.

    Raises:
        ValueError: if the word is not on the map.
    """
    drawn = map_words(token_directions(model), tokenizer)
    words = [name.strip("·") for name in drawn.names[: len(drawn.places)]]
    if word not in words:
        raise ValueError(f"touch_words: expected one of the words on the map, {', '.join(words)}, got {word!r}")

    def choose(word: str = word) -> WordMap:
        return replace(drawn, chosen=words.index(word))

    return choose() if os.environ.get(BUILDING) else slide(choose, word=words)


def map_words(directions: Float[Tensor, "tokens channels"], tokenizer: Tokenizer) -> WordMap:
    """The map of the words of `KINDS`, with the neighbors of these and of the vocabulary's first words."""
    on_map, kinds = words_of_kinds(tokenizer)
    ids = list(dict.fromkeys([*on_map, *first_words(tokenizer, WORDS)]))
    cosines = directions[ids] @ directions.T  # (asked for, tokens)
    cosines[torch.arange(len(ids)), ids] = -2.0  # a token is no neighbor of its own
    best = cosines.topk(NEAREST)
    place = {token_id: n for n, token_id in enumerate(dict.fromkeys([*ids, *best.indices.flatten().tolist()]))}
    names = [token_name(token_id, tokenizer) for token_id in place]
    near = zip(best.indices.tolist(), best.values.tolist())
    return WordMap(
        places=on_page(lay_flat(directions[on_map]), [len(name) - 1 for name in names[: len(on_map)]]),
        kinds=tuple(kinds),
        names=tuple(names),
        nearest=tuple(tuple((place[i], cosine) for i, cosine in zip(*of_one)) for of_one in near),
        vocabulary=len(directions),
        chance=nearest_by_chance(directions).median().item(),
    )


def first_words(tokenizer: Tokenizer, count: int) -> list[int]:
    """The tokens with the lowest ids that are a space and letters: the words that were frequent."""
    names = ((token_id, tokenizer.decode([token_id])) for token_id in range(min(tokenizer.get_vocab_size(), 2 * count)))
    return [i for i, text in names if text[:1] == " " and text[1:].isascii() and text[1:].isalpha()][:count]


def nearest_by_chance(directions: Float[Tensor, "tokens channels"]) -> Float[Tensor, " sample"]:
    """Cosines of 200 tokens with their nearest, where each channel's numbers are dealt out anew among all tokens."""
    random = torch.Generator().manual_seed(3)
    columns = [column[torch.randperm(len(column), generator=random)] for column in directions.T]
    shuffled = torch.nn.functional.normalize(torch.stack(columns, dim=1), dim=-1)  # (tokens, channels)
    return (shuffled[:200] @ shuffled.T).topk(2).values[:, 1]


def on_page(places: Float[Tensor, "words 2"], letters: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """Places in percent of the map's width and height, moved a little where words would cover each other."""
    low, high = places.amin(dim=0), places.amax(dim=0)
    margin = torch.tensor([50.0, LINE], dtype=places.dtype)
    room = torch.tensor([WIDTH, HEIGHT], dtype=places.dtype)
    at = margin + (places - low) / (high - low) * (room - 2 * margin)  # (words, 2), in pixels
    width = LETTER * torch.tensor(letters, dtype=places.dtype)  # (words,)
    order = torch.arange(len(at))
    first = torch.where(order[:, None] > order, 1.0, -1.0).to(places.dtype)  # who gives way where two are level
    for _ in range(1000):
        apart = at[:, None] - at  # (words, words, 2)
        needed = torch.stack([(width[:, None] + width) / 2 + 4, torch.full_like(first, LINE)], dim=-1)
        overlap = (needed - apart.abs()).clamp_min(0)  # (words, words, 2)
        hit = (overlap.amin(dim=-1) > 0).fill_diagonal_(False)  # (words, words)
        if not hit.any():
            break
        shorter = overlap == overlap.amin(dim=-1, keepdim=True)  # (words, words, 2), the way with less to go
        way = torch.where(apart == 0, first[..., None], apart.sign())
        at = at + 0.25 * (way * overlap * (shorter & hit[..., None])).sum(dim=1)
        at = torch.minimum(torch.maximum(at, margin), room - margin)
    return tuple((round(x, 1), round(y, 1)) for x, y in (100 * at / room).tolist())


# ---------------------------------------------------------------------------------------------------------------------
# tables, norms and logits


def live_row(one_at: int = 5, another_at: str = "none") -> Live:
    """A one-hot times a small table, row by row.

    Args:
        one_at: which entry of the one-hot is 1, from 1 to 5.
        another_at: another one, or "none".
    """
    table = [[1, 2, 0], [4, 0, 1], [0, 3, 3], [5, 5, 5], [2, 0, 7]]
    ones = {one_at} | ({int(another_at)} if another_at != "none" else set())
    onehot = [int(n in ones) for n in range(1, 6)]
    products = [[entry * number for number in row] for entry, row in zip(onehot, table)]
    total = [sum(column) for column in zip(*products)]
    cells = [[entry, *row, *product] for entry, row, product in zip(onehot, table, products)]
    picked = " and ".join(str(n) for n in sorted(ones))
    return live_heatmap(
        [*cells, [None] * 4 + total],
        [*(f"row {n}" for n in range(1, 6)), "sum"],
        ["entry", *(f"ch {n}" for n in (1, 2, 3)), *(f"× {n}" for n in (1, 2, 3))],
        label="entry: the one-hot's; ch: the table's three channels; ×: the entry times its row, added up below",
        caption=f"The one-hot has a 1 at {picked}, so what comes out is "
        f"{'row ' + picked if len(ones) == 1 else 'the sum of rows ' + picked}: {', '.join(map(str, total))}.",
        limits=(0, 14),
        digits=0,
    )


def live_layer_norm(channel_1: int = 0, channel_2: int = 6, channel_3: int = 6, channel_4: int = 8) -> Live:
    """Four numbers, the same without their mean, and divided by the root of their variance."""
    x = torch.tensor([channel_1, channel_2, channel_3, channel_4], dtype=torch.float64)
    centered = x - x.mean()
    variance = centered.square().mean()
    normalized = centered / (variance + 1e-5).sqrt()
    if variance == 0:
        caption = "Four equal numbers have a variance of 0. ε keeps the division from failing, and all become 0."
    else:
        caption = (
            f"Mean {x.mean():g}, variance {variance:.4g}. Whatever the four numbers are, the last bars have a mean of "
            f"0, a variance of 1 and a norm of {normalized.norm():.2f}."
        )
    return live_bars(
        {"as it is": x, "without its mean": centered, "divided by √variance": normalized},
        [f"channel {n}" for n in range(1, 5)],
        limits=(-8, 8),
        digits=2,
        caption=caption.replace("-", "−"),
    )


LOGS = [0.0, 0.69, 1.1, 1.39, 1.61, 1.79, 1.95, 2.08]  # the logarithms of 1 to 8


def live_softmax(first: float = 0.0, second: float = 0.69, third: float = 1.61, add_100_to_all: bool = False) -> Live:
    """What the softmax makes of three logits.

    Args:
        first, second, third: logits, to two digits those of whole numbers.
        add_100_to_all: whether each logit is larger by 100.
    """
    logits = torch.tensor([first, second, third], dtype=torch.float64) + 100 * add_100_to_all
    shares = logits.softmax(dim=0)
    weights = logits.sub(100 * add_100_to_all).exp()
    each = ", ".join(f"{weight:.1f}" for weight in weights)
    times = ", each times e to the power of 100," if add_100_to_all else ""
    return live_bars(
        shares,
        [f"logit {logit:.2f}" for logit in logits],
        limits=(0, 1),
        digits="%1",
        caption=f"The exponentials are {each}{times} and each bar is its part of their sum.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# which tokens are alike


def live_similarities(cosines: Float[Tensor, "words words"], kinds: dict[str, Sequence[str]]) -> Live:
    """A shade for each pair of words: how much alike their vectors are.

    Args:
        cosines: for each pair, in the order of `kinds`.
        kinds: for each kind's name, its words.
    """
    words = [word for members in kinds.values() for word in members]
    kind = torch.tensor([n for n, members in enumerate(kinds.values()) for _ in members])
    same = kind[:, None] == kind  # (words, words)
    pairs = ~torch.eye(len(words), dtype=torch.bool)  # (words, words), a word and itself left out
    return live_heatmap(
        cosines.masked_fill(~pairs, torch.nan),
        words,
        words,
        label="cosine of each two words (0 or less: no shade)",
        limits=(0, max(0.5, cosines[pairs].max().item())),
        digits=2,
        caption=f"Two different words of one kind have a cosine of {cosines[same & pairs].mean():.2f} on average, two "
        f"of different kinds {cosines[~same].mean():.2f}; the most alike across kinds reach "
        f"{cosines[~same].max():.2f}.",
    )


def live_chance(nearest: dict[str, Float[Tensor, " tokens"]]) -> Live:
    """How the cosine of a token and its nearest neighbor is spread, in one table and in others.

    Args:
        nearest: for each table's name, such cosines; the last one is what chance gives.
    """
    edges = [0.0, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 1.01]
    names = ["below 0.2", *(f"{low:g} to {high:g}" for low, high in zip(edges[1:-2], edges[2:-1])), "above 0.6"]

    def spread(cosines: Tensor) -> list[float]:
        return [((low <= cosines) & (cosines < high)).double().mean().item() for low, high in zip(edges, edges[1:])]

    (name, real), *_, (_, chance) = nearest.items()
    return live_bars(
        {table: spread(cosines) for table, cosines in nearest.items()},
        names,
        limits=(0, 1),
        caption=f"Shares of tokens by the cosine of their nearest neighbor. Of the {name} table's tokens "
        f"{(real > chance.max()).double().mean():.0%} have a nearer one than any of these has by chance "
        f"({chance.max():.2f} at most).",
    )
