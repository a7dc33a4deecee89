"""The cover's picture (cover.py), from the model's own numbers.

What the page moves are the keys that each token wrote with, the decay rates of the channels, and the likeliest next
words. What moves them is book/_static/cover.js.
"""

import json
import re
from html import escape

import torch
from tokenizers import Tokenizer
from torch import Tensor

from rwkv_explainer.model import RWKVLM

CHANNELS = 24  # rows of the picture: channels from the fastest to the slowest, evenly spaced by rank
GUESSES = 3  # next words that are shown
PIECES = 6  # tokens that a next word may have: one that is longer is cut off
CELL = 20, 10  # across and down, in units of the picture
NAMED_BY = 3  # words of a sentence on the button that chooses it
FEW, SHORT = 10, 10  # at most so many words of at most so many letters stand side by side on a desk


# ---------------------------------------------------------------------------------------------------------------------
# what the model does


def words_of(pieces: list[str]) -> list[str]:
    """Tokens put together to words: a new one begins with each token that begins with a space."""
    return [word.strip() for word in re.split(r"(?= )", "".join(pieces)) if word.strip()]


def ends_of(pieces: list[str]) -> list[int]:
    """For each word of `words_of`, the place of its last token."""
    return [n for n in range(len(pieces)) if n + 1 == len(pieces) or pieces[n + 1].startswith(" ")]


def choose_channels(model: RWKVLM) -> tuple[int, Tensor, Tensor]:
    """The layer, counted from 0, whose channels' half-lives differ most; some channels of it, and their decay rates.

    Returns:
        the layer; the channels' indices, (channels,), and their rates per token from the fastest to the slowest.
    """
    from rwkv_explainer.lab.decay import log_decay_rates

    spread = log_decay_rates(model).quantile(torch.tensor([0.1, 0.9]), dim=1)  # (2, layers)
    layer = int((spread[1] - spread[0]).argmax())
    log_rates, order = log_decay_rates(model)[layer].sort(descending=True)  # (all channels,) each
    chosen = torch.linspace(0, len(order) - 1, CHANNELS).round().long()  # (channels,)
    return layer, order[chosen], log_rates[chosen].exp()


def finish_word(model: RWKVLM, tokenizer: Tokenizer, token: int, p: float) -> tuple[str, float]:
    """The word that begins with a token, as the model would most likely finish it, and its probability.

    The model has not read the token yet, and afterwards remembers what it did before.
    """
    before, ids = model.snapshot(), [token]
    while len(ids) < PIECES:
        chances = model(token)  # (vocab_size,)
        token = int(chances.argmax())
        if not tokenizer.decode([token]).replace("\ufffd", "a").isalpha():  # a part of a character goes on with it
            break
        ids.append(token)
        p *= float(chances[token])
    model.restore(before)
    return tokenizer.decode(ids).strip() or "¶", p


def next_words(model: RWKVLM, tokenizer: Tokenizer, chances: Tensor) -> list[tuple[str, float]]:
    """The likeliest next words after what the model has read, the likeliest first."""
    found: dict[str, float] = {}
    for p, token in zip(*(part.tolist() for part in chances.topk(GUESSES))):
        word, p = finish_word(model, tokenizer, token, p)
        found.setdefault(word, p)
    return sorted(found.items(), key=lambda guess: -guess[1])


def read_sentence(model: RWKVLM, tokenizer: Tokenizer, sentence: str, layer: int, channels: Tensor) -> dict:
    """What the page draws of a sentence: its words, where they end, the channels' keys, the guesses at each word."""
    keys: list[Tensor] = []
    tokens = tokenizer.encode(sentence).ids
    pieces = [tokenizer.decode([token]) for token in tokens]
    ends, guesses = ends_of(pieces), []
    model.clear_buffers()
    for n, token in enumerate(tokens):
        hook = model.blocks[layer].attention.key.register_forward_hook(lambda *step: keys.append(step[2][channels]))
        chances = model(token)  # (vocab_size,)
        hook.remove()
        if n in ends:
            guesses.append([[word, float(f"{p:.3g}")] for word, p in next_words(model, tokenizer, chances)])
    rounded = [[round(key, 2) for key in row] for row in torch.stack(keys).tolist()]
    words = words_of(pieces)
    few = len(words) <= FEW and max(map(len, words)) <= SHORT
    return {"words": words, "ends": ends, "keys": rounded, "guesses": guesses, "few": few}


def shares(read: dict, rates: Tensor) -> Tensor:
    """How much of each channel's memory every word is, after the last one: (channels, words), each row sums to 1."""
    keys = torch.tensor(read["keys"])  # (time, channels)
    age = torch.arange(len(keys) - 1, -1, -1)  # (time,)
    by_token = (keys - age[:, None] * rates).softmax(dim=0).T  # (channels, time)
    begins = [0, *(end + 1 for end in read["ends"])]
    return torch.stack([by_token[:, a:b].sum(1) for a, b in zip(begins, begins[1:])], dim=1)  # (channels, words)


# ---------------------------------------------------------------------------------------------------------------------
# the picture


def in_words(read: dict, rates: Tensor, layer: int) -> str:
    """What is to be seen after the last word, for those who do not see it."""
    last, words = shares(read, rates), read["words"]  # (channels, words)
    half_lives = torch.log(torch.tensor(2.0)) / rates  # (channels,)
    first = int((last.cumsum(dim=1) > 0.5).float().argmax(dim=1).min())
    return (
        f"A memory of layer {layer + 1} of the bundled model after it has read “{' '.join(words)}”: {CHANNELS} "
        f"channels, one per row, and {len(words)} words, one per column; the stronger a cell, the more of the "
        f"channel's memory is that word. In the top row, where half of a weight is gone after {half_lives[0]:.2g} "
        f"tokens, {last[0].max():.0%} is “{words[int(last[0].argmax())]}”. In the bottom row, with "
        f"{half_lives[-1]:,.0f} tokens to half, no word has more than {last[-1].max():.0%}. The row that reaches back "
        f"furthest has more than half of its memory from the first {f'{first + 1} words' if first else 'word'}."
    )


def percent(p: float) -> str:
    """A probability as cover.js writes it."""
    return f"{100 * p:.0f}%" if 0.01 <= p < 0.995 else "> 99%" if p >= 0.995 else "< 1%"


def guess_lines(guesses: list) -> str:
    """The next words as a list, each with a bar."""
    return "".join(
        f'<li><b>{escape(word)}</b><i style="--p: {p:.3f}"></i><span>{percent(p)}</span></li>' for word, p in guesses
    )


def drawing(read: dict, rates: Tensor) -> str:
    """The cells after the last word, and the words above their columns."""
    last, words = shares(read, rates), read["words"]  # (channels, words)
    width, height = len(words) * CELL[0], CHANNELS * CELL[1]
    cells = "".join(
        f'<rect x="{t * CELL[0]}" y="{c * CELL[1]}" fill-opacity="{last[c, t]:.2f}"/>'
        for t in range(len(words))
        for c in range(CHANNELS)
    )
    few = " few" if read["few"] else ""
    names = "".join(f"<span>{escape(word)}</span>" for word in words)
    return (
        f'<div class="cover-words{few}" aria-hidden="true">{names}</div>'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-labelledby="cover-alt">'
        f'<title id="cover-alt">{escape(read["alt"])}</title><g transform="translate(1 1)">{cells}</g></svg>'
    )


def choices(sentences: list[dict]) -> str:
    """A button for each sentence, called by its first words. The script shows them."""
    names = [" ".join(read["words"][:NAMED_BY]) + (" …" if len(read["words"]) > NAMED_BY else "") for read in sentences]
    buttons = "".join(
        f'<label><input type="radio" name="cover-sentence" value="{n}"{"" if n else " checked"}>'
        f"<span>{escape(name)}</span></label>"
        for n, name in enumerate(names)
    )
    legend = "<legend>Choose a sentence for it to read</legend>"
    return f'<fieldset class="cover-choice" hidden>{legend}{buttons}</fieldset>'


def picture(lines: list[str]) -> str:
    """The figure as HTML: a drawing of the first sentence's last moment, which stands on its own, and what moves it."""
    from rwkv_explainer import load_pretrained
    from rwkv_explainer.drawing.palette import css_hues

    with torch.no_grad():
        model, tokenizer = load_pretrained("textbook", dtype=torch.float32)
        layer, channels, rates = choose_channels(model)
        sentences = [read_sentence(model, tokenizer, line, layer, channels) for line in lines]
    for read in sentences:
        read["alt"] = in_words(read, rates, layer)
    first = sentences[0]
    data = {"rates": [float(f"{rate:.4g}") for rate in rates.tolist()], "sentences": sentences}
    said = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    text = " ".join(f"<span>{escape(word)}</span>" for word in first["words"])
    return (
        f'<style>{css_hues(".cover", 2)}</style><figure class="cover" id="cover">{choices(sentences)}'
        f'<p class="cover-text">{text}</p>'
        f'<ol class="cover-next" aria-label="The likeliest next words">{guess_lines(first["guesses"][-1])}</ol>'
        f'<div class="cover-picture">{drawing(first, rates)}</div>'
        '<p class="cover-read" role="status"></p>'
        f'<figcaption><button type="button" hidden></button>What layer {layer + 1} of the bundled model remembers as '
        "it reads, and the words that it then expects. Each row is one of its channels, a number that it keeps: those "
        "above forget fast, those below keep. Each column is a word. The stronger the color, the more that word counts "
        f'in that number.</figcaption><script type="application/json">{said}</script></figure>'
    )
